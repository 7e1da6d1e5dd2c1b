//! Lines of the kernel.
//!
//! PID 1's console messages are among them, and so is the one-time code of a node in maintenance:
//! whoever may read logs must not become admin by it.

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
            if sender.send(Ok(without_code(line))).await.is_err() {
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
        if sender.send(Ok(without_code(line))).await.is_err() {
            return Ok(());
        }
    }
}

/// What stands before the code on the console.
const BEFORE_CODE: [&str; 2] = ["--code ", "one-time code "];

/// The line with `[hidden]` for a one-time code.
pub(super) fn without_code(mut line: LogLine) -> LogLine {
    for marker in BEFORE_CODE {
        if let Some((before, rest)) = line.text.split_once(marker) {
            let after = rest.find(' ').and_then(|end| rest.get(end..));
            line.text = format!("{before}{marker}[hidden]{}", after.unwrap_or_default());
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_one_time_code_is_not_shown() {
        let shown = |text: &str| {
            without_code(LogLine {
                text: text.to_owned(),
                ..LogLine::default()
            })
            .text
        };
        assert_eq!(
            shown("keelson:   keelsonctl apply --code K7QW-9M2X --fingerprint ab12"),
            "keelson:   keelsonctl apply --code [hidden] --fingerprint ab12"
        );
        assert_eq!(
            shown("keelson: maintenance: one-time code K7QW-9M2X"),
            "keelson: maintenance: one-time code [hidden]"
        );
        assert_eq!(shown("vda: vda1 vda2"), "vda: vda1 vda2");
    }
}
