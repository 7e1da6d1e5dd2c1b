//! Sets the clock from time servers: once before certificates are made, then every half hour.

mod adjust;
mod query;

use std::collections::BTreeMap;
use std::future::Future;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use keelson_control::Level;
use keelson_sys::boot_clock::PLAUSIBLE;
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

pub(crate) use adjust::SystemClock;
use adjust::{Adjusted, Correction, correction};
pub(crate) use query::Sntp;

use crate::outbox::Outbox;

/// How long the boot waits for a time server when the clock chip tells a possible time: only as
/// long as a server that is there needs to answer.
const SHORT_DEADLINE: Duration = Duration::from_secs(2);

/// And when it does not: certificates made now would begin in the past or the future.
const LONG_DEADLINE: Duration = Duration::from_secs(10);

/// Quartz clocks drift by up to 0.1 s in this time.
const RESYNC: Duration = Duration::from_secs(30 * 60);

/// The first repetition after a failure; doubled up to [`RESYNC`].
const FIRST_RETRY: Duration = Duration::from_secs(30);

/// Which time servers there are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum TimeSources {
    /// The network is not decided yet.
    Undecided,
    /// No server can be asked, for this reason.
    None(&'static str),
    /// Names or addresses, best first.
    Servers(Vec<String>),
}

/// What the clock needs from a time server; the fake is in the tests.
pub(crate) trait TimeServer {
    /// How far the clock is behind (positive) or ahead of the server, in seconds.
    fn offset(&self, servers: &[String]) -> impl Future<Output = Result<Offset, TimeError>>;
}

/// What the clock needs from the machine.
pub(crate) trait Clock {
    fn adjust(&self, correction: Correction) -> Result<Adjusted, adjust::ClockError>;
    /// What the clock chip says, if there is one.
    fn chip(&self) -> Option<Duration>;
}

/// An answer of a time server.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Offset {
    pub(crate) seconds: f64,
    pub(crate) server: String,
}

/// No time server gave a usable answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TimeError {
    #[error("{}", .0.join("; "))]
    NoAnswer(Vec<String>),
    #[error("no answer within {0} s")]
    Deadline(u64),
}

/// How the boot's first attempt ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Boot {
    /// Others wait for the condition `time`.
    Waits,
    /// netd was restarted; the condition holds already.
    Passed,
}

/// Keeps the clock right, for ever.
pub(crate) async fn keep<S: TimeServer, C: Clock>(
    server: S,
    clock: C,
    outbox: Outbox,
    mut sources: watch::Receiver<TimeSources>,
    boot: Boot,
) {
    // The sender lives as long as the daemon, and with it the process.
    if sources
        .wait_for(|sources| *sources != TimeSources::Undecided)
        .await
        .is_err()
    {
        return;
    }
    let mut synced = false;
    if boot == Boot::Waits {
        // Cloned at once: the guard would block the daemon, which is on the same thread.
        let now = sources.borrow_and_update().clone();
        synced = first_sync(&server, &clock, &outbox, &now).await;
        outbox.raise("time", BTreeMap::new()).await;
    }
    let mut pause = if synced { RESYNC } else { FIRST_RETRY };
    loop {
        let wake = Instant::now() + pause;
        tokio::select! {
            () = tokio::time::sleep_until(wake) => {}
            changed = sources.changed() => if changed.is_err() { return },
        }
        let now = sources.borrow_and_update().clone();
        let TimeSources::Servers(servers) = now else {
            pause = RESYNC;
            continue;
        };
        pause = match sync(&server, &clock, &servers, LONG_DEADLINE).await {
            Ok((offset, adjusted)) => {
                report_resync(&outbox, &offset, adjusted, synced);
                synced = true;
                RESYNC
            }
            Err(reason) => {
                tracing::warn!("time: not synchronised: {reason}");
                (pause * 2).min(RESYNC)
            }
        };
    }
}

async fn first_sync<S: TimeServer, C: Clock>(
    server: &S,
    clock: &C,
    outbox: &Outbox,
    sources: &TimeSources,
) -> bool {
    let servers = match sources {
        TimeSources::Servers(servers) => servers,
        TimeSources::Undecided => return false,
        TimeSources::None(reason) => {
            outbox.message(
                Level::Info,
                format!("time: {reason}; {}", what_counts(clock)),
            );
            return false;
        }
    };
    let deadline = if chip_is_plausible(clock) {
        SHORT_DEADLINE
    } else {
        LONG_DEADLINE
    };
    match sync(server, clock, servers, deadline).await {
        Ok((offset, _)) => {
            outbox.message(
                Level::Info,
                format!(
                    "time: synchronised with {} ({:+.3} s)",
                    offset.server, offset.seconds
                ),
            );
            true
        }
        Err(reason) => {
            outbox.message(
                Level::Warn,
                format!(
                    "time: not synchronised ({reason}); {}, trying on",
                    what_counts(clock)
                ),
            );
            false
        }
    }
}

async fn sync<S: TimeServer, C: Clock>(
    server: &S,
    clock: &C,
    servers: &[String],
    deadline: Duration,
) -> Result<(Offset, Adjusted), String> {
    let answer = timeout(deadline, server.offset(servers))
        .await
        .unwrap_or(Err(TimeError::Deadline(deadline.as_secs())));
    let offset = answer.map_err(|error| error.to_string())?;
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let change =
        correction(now, offset.seconds).map_err(|error| format!("{}: {error}", offset.server))?;
    let adjusted = clock
        .adjust(change)
        .map_err(|error| keelson_control::chain(&error))?;
    Ok((offset, adjusted))
}

fn report_resync(outbox: &Outbox, offset: &Offset, adjusted: Adjusted, before: bool) {
    let Offset { seconds, server } = offset;
    if !before {
        outbox.message(
            Level::Info,
            format!("time: now synchronised with {server} ({seconds:+.3} s)"),
        );
    } else if adjusted == Adjusted::Stepped {
        outbox.message(
            Level::Warn,
            format!("time: the clock was wrong by {seconds:.3} s, set from {server}"),
        );
    } else {
        tracing::debug!("time: {seconds:+.6} s from {server}");
    }
}

fn chip_is_plausible(clock: &impl Clock) -> bool {
    clock.chip().is_some_and(|time| PLAUSIBLE.contains(&time))
}

fn what_counts(clock: &impl Clock) -> &'static str {
    match clock.chip() {
        Some(time) if PLAUSIBLE.contains(&time) => "the machine's own clock counts",
        Some(_) => "the machine's own clock is wrong, so certificates may not be valid elsewhere",
        None => "this machine has no clock of its own, so certificates may not be valid elsewhere",
    }
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};

    use super::*;
    use crate::outbox::Letter;

    struct FakeServer {
        answers: RefCell<Vec<Option<f64>>>,
    }

    impl TimeServer for FakeServer {
        async fn offset(&self, servers: &[String]) -> Result<Offset, TimeError> {
            let next = self.answers.borrow_mut().pop();
            match next {
                Some(Some(seconds)) => Ok(Offset {
                    seconds,
                    server: servers[0].clone(),
                }),
                Some(None) => Err(TimeError::NoAnswer(vec!["refused".to_owned()])),
                None => std::future::pending().await,
            }
        }
    }

    struct FakeClock {
        chip: Option<u64>,
        adjusted: Cell<u32>,
    }

    impl Clock for FakeClock {
        fn adjust(&self, _: Correction) -> Result<Adjusted, adjust::ClockError> {
            self.adjusted.set(self.adjusted.get() + 1);
            Ok(Adjusted::Stepped)
        }

        fn chip(&self) -> Option<Duration> {
            self.chip.map(Duration::from_secs)
        }
    }

    /// Runs the daemon's clock until the condition is raised; what it said and how long it took.
    fn boot(
        answers: Vec<Option<f64>>,
        chip: Option<u64>,
        sources: TimeSources,
    ) -> (String, Duration) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(async {
            let (outbox, mut letters) = Outbox::new();
            let (_keep, watch) = watch::channel(sources);
            let server = FakeServer {
                answers: RefCell::new(answers),
            };
            let clock = FakeClock {
                chip,
                adjusted: Cell::new(0),
            };
            let start = Instant::now();
            let mut said = String::new();
            let wait = async {
                loop {
                    match letters.recv().await.unwrap() {
                        Letter::Message { text, .. } => said.push_str(&text),
                        Letter::Raise { condition, .. } => {
                            assert_eq!(condition, "time");
                            return start.elapsed();
                        }
                    }
                }
            };
            tokio::select! {
                () = keep(server, clock, outbox, watch, Boot::Waits) => panic!("ended"),
                took = wait => (said, took),
            }
        })
    }

    fn servers() -> TimeSources {
        TimeSources::Servers(vec!["time.example".to_owned()])
    }

    #[test]
    fn an_answer_sets_the_clock_and_is_said() {
        let (said, _) = boot(vec![Some(1.5)], Some(1_800_000_000), servers());
        assert_eq!(said, "time: synchronised with time.example (+1.500 s)");
    }

    #[test]
    fn a_silent_server_costs_two_seconds_or_ten() {
        let (said, took) = boot(vec![], Some(1_800_000_000), servers());
        assert_eq!(took, SHORT_DEADLINE);
        assert!(
            said.contains("not synchronised") && said.contains("own clock counts"),
            "{said}"
        );
        for wrong in [0, 3_155_760_007] {
            let (said, took) = boot(vec![], Some(wrong), servers());
            assert_eq!(took, LONG_DEADLINE);
            assert!(said.contains("clock is wrong"), "{said}");
        }
    }

    #[test]
    fn a_refusal_and_no_server_cost_nothing() {
        let (said, took) = boot(vec![None], None, servers());
        assert!(
            took < Duration::from_millis(1) && said.contains("refused"),
            "{said}"
        );
        let (said, took) = boot(
            vec![],
            None,
            TimeSources::None("no time server is configured"),
        );
        assert!(
            took < Duration::from_millis(1) && said.contains("no clock of its own"),
            "{said}"
        );
    }

    /// The daemon shares the thread: a lock held across the wait would stop both for ever.
    #[test]
    fn the_daemon_may_publish_while_a_server_is_asked() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(async {
            let (outbox, _letters) = Outbox::new();
            let (sender, watch) = watch::channel(servers());
            let server = FakeServer {
                answers: RefCell::new(vec![]),
            };
            let clock = FakeClock {
                chip: None,
                adjusted: Cell::new(0),
            };
            let publish = async {
                tokio::time::sleep(Duration::from_secs(1)).await;
                sender.send(TimeSources::None("gone")).unwrap();
            };
            tokio::select! {
                () = keep(server, clock, outbox, watch, Boot::Waits) => panic!("ended"),
                () = publish => {}
            }
        });
    }
}
