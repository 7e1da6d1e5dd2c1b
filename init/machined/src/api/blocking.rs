//! Work that waits for files or disks, away from the one thread that serves everybody.

use std::error::Error;

use keelson_control::chain;
use tonic::Status;

/// Does the work on another thread; an error becomes the call's answer.
pub(super) async fn blocking<T, E>(
    work: impl FnOnce() -> Result<T, E> + Send + 'static,
) -> Result<T, Status>
where
    T: Send + 'static,
    E: Error + Send + 'static,
{
    match tokio::task::spawn_blocking(work).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(internal(&error)),
        Err(error) => Err(internal(&error)),
    }
}

/// An error of this node, not of the caller.
pub(super) fn internal(error: &dyn Error) -> Status {
    Status::internal(chain(error))
}
