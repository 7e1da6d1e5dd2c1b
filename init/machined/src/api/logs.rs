//! Logs of services, merged by time and followed, and the kernel's.

use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use keelson_api::v1alpha1::logs_server::Logs;
use keelson_api::v1alpha1::{KernelLogRequest, LogLine, ReadLogsRequest};
use keelson_control::chain;
use keelson_sys::readable::Readable;
use rustix::fs::inotify;
use rustix::io::Errno;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::codegen::tokio_stream::Stream;
use tonic::{Request, Response, Status};

use super::log_files::LogCursor;
use super::{Node, timestamp};

/// Lines ready for a client that reads slowly; then reading the files waits for it.
const QUEUE: usize = 64;

/// Services in one call. A node has about twenty.
const MAX_SERVICES: usize = 64;

/// Between a change and the look at it: busy services write many lines in this time, and one
/// look takes them all.
const SETTLE: Duration = Duration::from_millis(50);

/// A log that is no service's.
const AUDIT: &str = "audit";

/// Serves the calls on logs.
#[derive(Clone, Debug)]
pub(crate) struct LogsApi {
    pub(crate) node: Arc<Node>,
}

pub(super) type Lines = Pin<Box<dyn Stream<Item = Result<LogLine, Status>> + Send>>;

#[tonic::async_trait]
impl Logs for LogsApi {
    type ReadStream = Lines;
    type KernelStream = Lines;

    async fn read(
        &self,
        request: Request<ReadLogsRequest>,
    ) -> Result<Response<Self::ReadStream>, Status> {
        let request = request.into_inner();
        self.check_names(&request.services).await?;
        let since = timestamp::since(&request.since)?;
        let tail = usize::try_from(request.tail).unwrap_or(usize::MAX);
        let folder = self.node.logs();
        let changes = request.follow.then(|| watch(&folder)).transpose()?;
        let cursors = request
            .services
            .iter()
            .map(|service| LogCursor::open(&folder, service, tail, &since))
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| unreadable(&error))?;
        let (sender, receiver) = mpsc::channel(QUEUE);
        tokio::spawn(async move {
            if let Err(status) = send_all(cursors, changes, &sender).await {
                // Nobody listens any more: nothing to tell.
                let _ = sender.send(Err(status)).await;
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }

    async fn kernel(
        &self,
        request: Request<KernelLogRequest>,
    ) -> Result<Response<Self::KernelStream>, Status> {
        super::kernel_log::stream(&self.node.machine(), request.into_inner())
    }
}

impl LogsApi {
    async fn check_names(&self, names: &[String]) -> Result<(), Status> {
        if names.is_empty() || names.len() > MAX_SERVICES {
            return Err(Status::invalid_argument(format!(
                "name between one and {MAX_SERVICES} services"
            )));
        }
        let known = self.node.service_names().await?;
        match names
            .iter()
            .find(|name| *name != AUDIT && !known.contains(name))
        {
            None => Ok(()),
            Some(name) => Err(super::unknown_service(name, &known)),
        }
    }
}

/// Sends what is there, merged by time, then what comes.
async fn send_all(
    mut cursors: Vec<LogCursor>,
    changes: Option<Readable>,
    sender: &mpsc::Sender<Result<LogLine, Status>>,
) -> Result<(), Status> {
    loop {
        while let Some(line) = earliest(&mut cursors)? {
            if sender.send(Ok(line)).await.is_err() {
                return Ok(());
            }
        }
        let Some(changes) = &changes else {
            return Ok(());
        };
        tokio::select! {
            () = sender.closed() => return Ok(()),
            changed = wait_for_change(changes) => changed?,
        }
        tokio::time::sleep(SETTLE).await;
    }
}

/// The line with the earliest time among the next of all; one without a time comes at once.
fn earliest(cursors: &mut [LogCursor]) -> Result<Option<LogLine>, Status> {
    let mut first: Option<(usize, String)> = None;
    for (index, cursor) in cursors.iter_mut().enumerate() {
        let Some(line) = cursor.peek().map_err(|error| unreadable(&error))? else {
            continue;
        };
        if first.as_ref().is_none_or(|(_, time)| line.time < *time) {
            first = Some((index, line.time.clone()));
        }
    }
    match first.and_then(|(index, _)| cursors.get_mut(index)) {
        Some(cursor) => cursor.take().map_err(|error| unreadable(&error)),
        None => Ok(None),
    }
}

fn watch(folder: &Path) -> Result<Readable, Status> {
    let flags = inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK;
    let folder_watch = inotify::init(flags).and_then(|descriptor| {
        let interest = inotify::WatchFlags::MODIFY
            | inotify::WatchFlags::CREATE
            | inotify::WatchFlags::MOVED_TO;
        inotify::add_watch(&descriptor, folder, interest)?;
        Ok(descriptor)
    });
    folder_watch
        .map_err(std::io::Error::from)
        .and_then(Readable::new)
        .map_err(|error| unreadable(&error))
}

/// Which file changed does not matter: all are looked at.
async fn wait_for_change(changes: &Readable) -> Result<(), Status> {
    let mut events = [0_u8; 4096];
    let all = changes.read(|folder| {
        let mut seen = false;
        loop {
            match rustix::io::read(folder, &mut events[..]) {
                Ok(_) => seen = true,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) if seen => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
    });
    all.await.map_err(|error| unreadable(&error))
}

fn unreadable(error: &std::io::Error) -> Status {
    Status::internal(format!("the logs cannot be read: {}", chain(error)))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write;

    use super::*;

    fn line(second: usize, text: &str) -> String {
        format!("2026-11-21T10:00:{second:02}.000Z I {text}\n")
    }

    #[tokio::test]
    async fn several_services_are_merged_and_followed() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("a.log"), line(1, "a1") + &line(3, "a3")).unwrap();
        fs::write(folder.path().join("b.log"), line(2, "b2")).unwrap();
        let changes = watch(folder.path()).unwrap();
        let cursors = ["a", "b"]
            .map(|name| LogCursor::open(folder.path(), name, 0, "").unwrap())
            .into();
        let (sender, mut receiver) = mpsc::channel(QUEUE);
        let task = tokio::spawn(async move { send_all(cursors, Some(changes), &sender).await });
        let mut next = async || {
            tokio::time::timeout(Duration::from_secs(5), receiver.recv())
                .await
                .unwrap()
                .unwrap()
                .unwrap()
                .text
        };
        for expected in ["a1", "b2", "a3"] {
            assert_eq!(next().await, expected);
        }
        let mut file = fs::OpenOptions::new()
            .append(true)
            .open(folder.path().join("b.log"))
            .unwrap();
        file.write_all(line(4, "b4").as_bytes()).unwrap();
        assert_eq!(next().await, "b4");
        drop(receiver);
        tokio::time::timeout(Duration::from_secs(5), task)
            .await
            .unwrap()
            .unwrap()
            .unwrap();
    }
}
