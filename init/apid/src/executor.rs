//! Runs hyper's futures on this thread.

use hyper::rt::Executor;

/// Spawns on the `LocalSet` it is used in: nothing here needs to be `Send`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Local;

impl<F: Future + 'static> Executor<F> for Local {
    fn execute(&self, future: F) {
        tokio::task::spawn_local(future);
    }
}
