//! One service: its definition, its state and its history.

use std::time::Duration;

use keelson_control::ServiceState;
use keelson_service::{Readiness, ServiceDefinition};

use crate::action::{Exit, ProbeKind, Reason, RunId};
use crate::backoff::CRASH_LOOP_FAILURES;
use crate::hangs::Hangs;

/// What a service is doing, with everything that goes with it.
#[derive(Debug)]
pub(crate) enum State {
    /// Ended; starts again at `until`.
    Backoff { until: Duration },
    /// Its `stop.clearFirst` cgroups are being emptied; then it is told to end.
    Clearing { run: Run, until: Duration },
    /// Not part of this node.
    Disabled,
    /// The main process is gone, the rest of its cgroup is dying.
    Draining { give_up_at: Duration, then: Then },
    /// Ended for good.
    Exited { success: bool },
    /// Runs and works.
    Ready { run: Run },
    /// Runs, not ready yet.
    Starting { run: Run },
    /// Ended on request; stays down until it is started.
    Stopped,
    /// Was told to end; killed at `kill_at`.
    Stopping {
        run: Run,
        kill_at: Duration,
        then: Then,
    },
    /// Waits for what it needs.
    Waiting,
}

/// What follows when a service has ended completely.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Then {
    /// It is over.
    Rest { success: bool },
    /// Start after a delay.
    Restart { delay: Duration },
    /// Stay down until it is started.
    Stop,
}

/// One life of the main process.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) id: RunId,
    /// Known once the executor has answered.
    pub(crate) pid: Option<u32>,
    pub(crate) started_at: Duration,
    pub(crate) ready_by: Option<Duration>,
    pub(crate) ready_at: Option<Duration>,
    pub(crate) probe: Probe,
    /// Failed checks in a row.
    pub(crate) failed_probes: u32,
    /// Whether the last check got no answer in time.
    pub(crate) late: bool,
    /// Watchdog periods that passed in silence and were borne.
    pub(crate) silences: u32,
    /// Whether people were told that it hangs and is left alone.
    pub(crate) spared: bool,
    /// When the service counts as hung unless it speaks.
    pub(crate) watchdog_at: Option<Duration>,
    /// Why it is being ended.
    pub(crate) reason: Option<Reason>,
}

impl Run {
    pub(crate) fn new(id: RunId, now: Duration, definition: &ServiceDefinition) -> Self {
        Self {
            id,
            pid: None,
            started_at: now,
            ready_by: definition.ready_timeout().map(|timeout| now + timeout),
            ready_at: None,
            probe: Probe::None,
            failed_probes: 0,
            late: false,
            silences: 0,
            spared: false,
            watchdog_at: None,
            reason: None,
        }
    }
}

/// The check of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Probe {
    /// Next one at this time.
    Due { at: Duration, kind: ProbeKind },
    /// None is wanted.
    None,
    /// One is running; it counts as failed at this time.
    Running { until: Duration, kind: ProbeKind },
}

/// A service.
#[derive(Debug)]
pub(crate) struct Service {
    pub(crate) definition: ServiceDefinition,
    pub(crate) state: State,
    pub(crate) since: Duration,
    /// Starts so far.
    pub(crate) starts: u32,
    /// Failures in a row.
    pub(crate) failures: u32,
    /// Restarts because it hung.
    pub(crate) hangs: Hangs,
    pub(crate) last_exit: Option<Exit>,
    pub(crate) was_ready: bool,
}

impl Service {
    pub(crate) fn new(definition: ServiceDefinition) -> Self {
        Self {
            definition,
            state: State::Waiting,
            since: Duration::ZERO,
            starts: 0,
            failures: 0,
            hangs: Hangs::default(),
            last_exit: None,
            was_ready: false,
        }
    }

    /// The run whose process may be alive.
    pub(crate) fn run(&self) -> Option<&Run> {
        match &self.state {
            State::Clearing { run, .. }
            | State::Ready { run }
            | State::Starting { run }
            | State::Stopping { run, .. } => Some(run),
            State::Backoff { .. }
            | State::Disabled
            | State::Draining { .. }
            | State::Exited { .. }
            | State::Stopped
            | State::Waiting => None,
        }
    }

    pub(crate) fn run_mut(&mut self) -> Option<&mut Run> {
        match &mut self.state {
            State::Clearing { run, .. }
            | State::Ready { run }
            | State::Starting { run }
            | State::Stopping { run, .. } => Some(run),
            State::Backoff { .. }
            | State::Disabled
            | State::Draining { .. }
            | State::Exited { .. }
            | State::Stopped
            | State::Waiting => None,
        }
    }

    /// Whether any of its processes may be alive.
    pub(crate) fn alive(&self) -> bool {
        self.run().is_some() || matches!(self.state, State::Draining { .. })
    }

    /// Whether others may count on it.
    pub(crate) fn satisfies_needs(&self) -> bool {
        matches!(
            self.state,
            State::Ready { .. } | State::Disabled | State::Exited { success: true }
        )
    }

    /// When it is tried again after failures.
    pub(crate) fn next_try(&self) -> Option<Duration> {
        match self.state {
            State::Backoff { until } => Some(until),
            _ => None,
        }
    }

    /// The state as people see it.
    pub(crate) fn shown_state(&self) -> ServiceState {
        match self.state {
            State::Backoff { .. } if self.failures >= CRASH_LOOP_FAILURES => {
                ServiceState::CrashLoop
            }
            State::Backoff { .. } => ServiceState::Backoff,
            State::Clearing { .. } | State::Draining { .. } | State::Stopping { .. } => {
                ServiceState::Stopping
            }
            State::Disabled => ServiceState::Disabled,
            State::Exited { .. } => ServiceState::Exited,
            State::Ready { .. } => ServiceState::Ready,
            State::Starting { .. } => ServiceState::Starting,
            State::Stopped => ServiceState::Stopped,
            State::Waiting => ServiceState::Waiting,
        }
    }

    /// Next time something is due.
    pub(crate) fn deadline(&self) -> Option<Duration> {
        match &self.state {
            State::Backoff { until } | State::Clearing { until, .. } => Some(*until),
            State::Draining { give_up_at, .. } => Some(*give_up_at),
            State::Stopping { kill_at, .. } => Some(*kill_at),
            State::Ready { run } | State::Starting { run } => {
                let probe = match run.probe {
                    Probe::Due { at, .. } => Some(at),
                    Probe::Running { until, .. } => Some(until),
                    Probe::None => None,
                };
                let ready_by = match self.state {
                    State::Starting { .. } => run.ready_by,
                    _ => None,
                };
                [probe, ready_by, run.watchdog_at]
                    .into_iter()
                    .flatten()
                    .min()
            }
            State::Disabled | State::Exited { .. } | State::Stopped | State::Waiting => None,
        }
    }

    /// Longest silence; only of use where the definition has one.
    pub(crate) fn watchdog_period(&self) -> Duration {
        Duration::from_secs(self.definition.watchdog_seconds.unwrap_or(0).into())
    }

    /// Longest run of a readiness check.
    pub(crate) fn readiness_timeout(&self) -> Duration {
        match self.definition.readiness() {
            Readiness::Exec(exec) => Duration::from_secs(exec.timeout_seconds.into()),
            // A connection on this machine; only a broken listener takes longer.
            _ => Duration::from_secs(2),
        }
    }

    /// Pause between two readiness checks; `None` when none are wanted.
    pub(crate) fn readiness_interval(&self) -> Option<Duration> {
        match self.definition.readiness() {
            Readiness::Exec(exec) => Some(Duration::from_millis(exec.interval_ms.into())),
            // Costs two system calls; any longer would show in the boot time.
            Readiness::Tcp { .. } | Readiness::Unix { .. } => Some(Duration::from_millis(50)),
            Readiness::Exited {} | Readiness::Notify {} | Readiness::Started {} => None,
        }
    }
}
