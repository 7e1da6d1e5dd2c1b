//! Ctrl-C and SIGTERM end a command in order: what it holds is dropped, half a file is removed.

use tokio::signal::unix::{SignalKind, signal};

use crate::failure::Failure;

/// The work, unless a signal comes first.
pub(crate) async fn interruptible<T>(
    work: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    // Without handlers the signals end the process themselves.
    let (Ok(mut interrupt), Ok(mut terminate)) = (
        signal(SignalKind::interrupt()),
        signal(SignalKind::terminate()),
    ) else {
        return work.await;
    };
    tokio::select! {
        result = work => result,
        _ = interrupt.recv() => Err(Failure::Interrupted),
        _ = terminate.recv() => Err(Failure::Interrupted),
    }
}
