//! Lines of the kernel.

use keelson_api::v1alpha1::{KernelLogRequest, LogLine};
use keelson_observe::{KernelLog, KernelLogError, KernelLogFollower, Root};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Response, Status};

use super::blocking::internal;
use super::logs::Lines;

/// Lines ready for a client that reads slowly; the kernel keeps the others.
const QUEUE: usize = 64;

/// Starts to send them.
pub(super) fn stream(root: &Root, request: KernelLogRequest) -> Result<Response<Lines>, Status> {
    let log = KernelLog::open(root, request.tail).map_err(|error| internal(&error))?;
    let (sender, receiver) = mpsc::channel(QUEUE);
    tokio::spawn(async move {
        if let Err(error) = send(log, request.follow, &sender).await {
            // The client may have gone.
            let _ = sender.send(Err(internal(&error))).await;
        }
    });
    Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
}

async fn send(
    mut log: KernelLog,
    follow: bool,
    sender: &mpsc::Sender<Result<LogLine, Status>>,
) -> Result<(), KernelLogError> {
    if !follow {
        while let Some(line) = log.next_line()? {
            if sender.send(Ok(line)).await.is_err() {
                break;
            }
        }
        return Ok(());
    }
    let mut log = KernelLogFollower::new(log)?;
    loop {
        let line = tokio::select! {
            () = sender.closed() => return Ok(()),
            line = log.next_line() => line?,
        };
        if sender.send(Ok(line)).await.is_err() {
            return Ok(());
        }
    }
}
