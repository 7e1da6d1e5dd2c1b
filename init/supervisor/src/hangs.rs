//! How often a service was restarted because it hung: bounded per time.

use std::collections::VecDeque;
use std::time::Duration;

/// Time in which at most [`MOST`] restarts happen. A check that is wrong, or a machine that is
/// too slow for it, must not keep the node from working: past the bound the service is left as
/// it is until the oldest restart is this long ago.
pub(crate) const WINDOW: Duration = Duration::from_secs(15 * 60);

/// A first hang, one that comes back, and one more with the evidence of both.
pub(crate) const MOST: usize = 3;

/// Times of the restarts, the oldest first.
#[derive(Debug, Default)]
pub(crate) struct Hangs(VecDeque<Duration>);

impl Hangs {
    /// Remembers one more.
    pub(crate) fn add(&mut self, now: Duration) {
        self.0.push_back(now);
        if self.0.len() > MOST {
            self.0.pop_front();
        }
    }

    /// Whether there was none in the window.
    pub(crate) fn is_empty(&self, now: Duration) -> bool {
        self.0.back().is_none_or(|last| *last + WINDOW <= now)
    }

    /// When the next restart is allowed.
    pub(crate) fn next_allowed(&self) -> Duration {
        match self.0.front() {
            Some(oldest) if self.0.len() >= MOST => *oldest + WINDOW,
            _ => Duration::ZERO,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn no_window_holds_more_than_allowed(
            pauses in proptest::collection::vec(0_u64..1000, 0..60),
        ) {
            let mut hangs = Hangs::default();
            let mut restarts: Vec<Duration> = Vec::new();
            let mut now = Duration::ZERO;
            for pause in pauses {
                now += Duration::from_secs(pause);
                if now < hangs.next_allowed() {
                    continue;
                }
                hangs.add(now);
                restarts.push(now);
                proptest::prop_assert!(!hangs.is_empty(now));
            }
            for (first, later) in restarts.iter().zip(restarts.iter().skip(MOST)) {
                proptest::prop_assert!(*later - *first >= WINDOW);
            }
        }
    }
}
