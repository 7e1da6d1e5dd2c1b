//! Questions to the kernel's routing part.

use std::future::Future;
use std::io;
use std::time::Duration;

use futures_util::{Stream, TryStreamExt};
use rtnetlink::{Handle, new_connection};
use thiserror::Error;
use tokio::task::JoinHandle;

/// The kernel answers in milliseconds; only a bug here would make us wait.
const ANSWER_DEADLINE: Duration = Duration::from_secs(10);

/// The kernel did not say what was asked.
#[derive(Debug, Error)]
pub enum NetlinkError {
    /// It refused, or its answer was cut off.
    #[error("cannot list {what} of the kernel")]
    List {
        /// Links, addresses or routes.
        what: &'static str,
        /// Cause.
        source: rtnetlink::Error,
    },
    /// It did not answer.
    #[error("the kernel did not list {what} within {} s", ANSWER_DEADLINE.as_secs())]
    NoAnswer {
        /// Links, addresses or routes.
        what: &'static str,
    },
    /// There is no way to ask.
    #[error("cannot open a netlink socket")]
    Socket(#[source] io::Error),
}

/// A socket and the task that reads it, both gone when this is dropped.
pub(crate) struct Connection {
    handle: Handle,
    task: JoinHandle<()>,
}

impl Connection {
    /// Must be called inside a tokio runtime.
    pub(crate) fn open() -> Result<Self, NetlinkError> {
        let (connection, handle, _) = new_connection().map_err(NetlinkError::Socket)?;
        Ok(Self {
            handle,
            task: tokio::spawn(connection),
        })
    }

    pub(crate) fn handle(&self) -> &Handle {
        &self.handle
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// All messages of one answer.
pub(crate) async fn list<T>(
    what: &'static str,
    answer: impl Stream<Item = Result<T, rtnetlink::Error>>,
) -> Result<Vec<T>, NetlinkError> {
    within(what, answer.try_collect::<Vec<T>>())
        .await?
        .map_err(|source| NetlinkError::List { what, source })
}

async fn within<T>(what: &'static str, answer: impl Future<Output = T>) -> Result<T, NetlinkError> {
    tokio::time::timeout(ANSWER_DEADLINE, answer)
        .await
        .map_err(|_| NetlinkError::NoAnswer { what })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_silent_kernel_is_given_up_on() {
        let error = within("links", std::future::pending::<()>())
            .await
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            "the kernel did not list links within 10 s"
        );
    }
}
