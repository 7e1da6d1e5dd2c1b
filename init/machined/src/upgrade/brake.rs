//! Slows down, halts and ends work on the disk, from another thread.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The brake of one piece of work.
#[derive(Debug)]
pub(crate) struct Brake {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    order: Order,
    bytes_per_second: u64,
}

/// What the work is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    Cancel,
    Go,
    Pause,
}

/// The work was given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it was cancelled")]
pub(crate) struct Cancelled;

impl Brake {
    pub(crate) fn new(bytes_per_second: u64) -> Self {
        Self {
            state: Mutex::new(State {
                order: Order::Go,
                bytes_per_second: bytes_per_second.max(1),
            }),
            changed: Condvar::new(),
        }
    }

    pub(crate) fn pause(&self) {
        self.tell(Order::Pause);
    }

    pub(crate) fn resume(&self) {
        self.tell(Order::Go);
    }

    /// Cannot be taken back.
    pub(crate) fn cancel(&self) {
        self.tell(Order::Cancel);
    }

    pub(crate) fn is_paused(&self) -> bool {
        self.state().order == Order::Pause
    }

    /// Returns when the work may go on, after `done` bytes that were begun with at `since`. A disk
    /// that is slower than the limit rests for half as long as it worked: the datastore has to
    /// sync meanwhile.
    pub(crate) fn wait(&self, done: u64, since: Instant) -> Result<(), Cancelled> {
        let mut state = self.state();
        let limit = Duration::from_secs_f64(to_seconds(done, state.bytes_per_second));
        let next = since + limit.max(since.elapsed() * 3 / 2);
        loop {
            match state.order {
                Order::Cancel => return Err(Cancelled),
                Order::Pause => {
                    state = self
                        .changed
                        .wait(state)
                        .unwrap_or_else(PoisonError::into_inner);
                }
                Order::Go => {
                    let left = next.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        return Ok(());
                    }
                    let waited = self.changed.wait_timeout(state, left);
                    (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
                }
            }
        }
    }

    fn tell(&self, order: Order) {
        let mut state = self.state();
        if state.order != Order::Cancel {
            state.order = order;
        }
        self.changed.notify_all();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Pieces are a few MiB and limits at least 4 MiB a second, so nothing is lost in 32 bits.
fn to_seconds(bytes: u64, per_second: u64) -> f64 {
    let number = |value: u64| f64::from(u32::try_from(value).unwrap_or(u32::MAX));
    number(bytes) / number(per_second)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::mpsc::{RecvTimeoutError, channel};
    use std::thread;

    use super::*;

    #[test]
    fn bytes_take_their_time() {
        let brake = Brake::new(1000);
        let start = Instant::now();
        for _ in 0..4 {
            brake.wait(50, Instant::now()).unwrap();
        }
        assert!(
            start.elapsed() >= Duration::from_millis(200),
            "{:?}",
            start.elapsed()
        );
    }

    #[test]
    fn a_slow_disk_rests() {
        let brake = Brake::new(u64::MAX);
        let start = Instant::now();
        thread::sleep(Duration::from_millis(100));
        brake.wait(1, start).unwrap();
        assert!(
            start.elapsed() >= Duration::from_millis(150),
            "{:?}",
            start.elapsed()
        );
    }

    #[test]
    fn what_is_paused_waits_and_what_is_cancelled_ends() {
        let brake = Arc::new(Brake::new(u64::MAX));
        brake.pause();
        let (sender, receiver) = channel();
        let worker = thread::spawn({
            let brake = Arc::clone(&brake);
            move || {
                while brake.wait(0, Instant::now()).is_ok() {
                    sender.send(()).unwrap();
                    brake.pause();
                }
            }
        });
        let a_moment = Duration::from_millis(30);
        assert_eq!(
            receiver.recv_timeout(a_moment),
            Err(RecvTimeoutError::Timeout)
        );
        brake.resume();
        receiver.recv_timeout(Duration::from_secs(10)).unwrap();
        brake.cancel();
        brake.resume();
        worker.join().unwrap();
        assert_eq!(brake.wait(0, Instant::now()), Err(Cancelled));
    }
}
