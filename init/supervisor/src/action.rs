//! What the executor does, and what it tells.

use std::fmt;
use std::time::Duration;

use keelson_control::Level;
use keelson_service::{Name, Signal};

/// One start of a service. Answers carry it, so that late ones are recognised.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RunId(pub u64);

/// What a probe is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProbeKind {
    /// Is it still working?
    Liveness,
    /// Is it working already?
    Readiness,
}

/// One thing for the executor to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Kill a probe that takes too long. Its result is not waited for.
    CancelProbe {
        /// Service.
        service: Name,
        /// Its run.
        run: RunId,
    },
    /// Send SIGTERM to everything in the service's `stop.clearFirst` cgroups; answer with
    /// `cleared` when they are empty.
    ClearCgroups {
        /// Service.
        service: Name,
    },
    /// Tell subscribers.
    ConditionChanged {
        /// Condition.
        name: String,
        /// Whether it holds now.
        raised: bool,
    },
    /// Keep the record of a run that ended.
    Ended {
        /// Service.
        service: Name,
        /// Its end.
        end: End,
    },
    /// Kill everything in the service's cgroup; answer with `drained` when it is empty.
    KillCgroup {
        /// Service.
        service: Name,
    },
    /// Kill everything in the service's `stop.clearFirst` cgroups.
    KillCleared {
        /// Service.
        service: Name,
    },
    /// Kill the main process.
    KillMain {
        /// Service.
        service: Name,
        /// Its run.
        run: RunId,
    },
    /// Stamp a boot phase.
    Phase {
        /// Its name.
        name: String,
    },
    /// Run a check; answer with `probed`.
    Probe {
        /// Service.
        service: Name,
        /// Its run.
        run: RunId,
        /// Which check.
        kind: ProbeKind,
    },
    /// Print a line for people.
    Report {
        /// How urgent.
        level: Level,
        /// The line.
        text: String,
    },
    /// Everything has ended or will not.
    ShutdownComplete,
    /// Send a signal to the main process.
    Signal {
        /// Service.
        service: Name,
        /// Its run.
        run: RunId,
        /// Signal.
        signal: Signal,
    },
    /// Start the process; answer with `spawned` or `start_failed`.
    Start {
        /// Service.
        service: Name,
        /// Its new run.
        run: RunId,
    },
    /// Tell subscribers.
    StateChanged {
        /// Service.
        service: Name,
    },
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Exit {
    /// It could not be started, with the reason.
    CannotStart(String),
    /// By itself, with this code.
    Code(i32),
    /// By this signal.
    Signal(i32),
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CannotStart(reason) => f.write_str(reason),
            Self::Code(code) => write!(f, "exit code {code}"),
            Self::Signal(signal) => write!(f, "signal {signal}"),
        }
    }
}

/// The end of a run, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct End {
    /// When it ended.
    pub at: Duration,
    /// How long it had run.
    pub ran: Duration,
    /// How.
    pub exit: Exit,
    /// Why, when that was not its own doing.
    pub reason: Option<Reason>,
}

/// Why a run was ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// It failed this many checks in a row.
    Liveness(u32),
    /// The kernel killed a process of it because memory ran out.
    OutOfMemory,
    /// Somebody asked for a restart.
    RestartRequested,
    /// The machine goes down.
    Shutdown,
    /// Somebody asked for a stop.
    StopRequested,
    /// A signal halted its main process without ending it.
    Suspended(String),
    /// It was not ready within this time.
    Unready(Duration),
    /// It did not report within this time.
    Watchdog(Duration),
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Liveness(failures) => write!(f, "failed {failures} liveness checks in a row"),
            Self::OutOfMemory => f.write_str("memory ran out (oom_kill)"),
            Self::RestartRequested => f.write_str("restart requested"),
            Self::Shutdown => f.write_str("shutdown"),
            Self::StopRequested => f.write_str("stop requested"),
            Self::Suspended(signal) => write!(f, "stopped by {signal}"),
            Self::Unready(time) => write!(f, "not ready after {} s", time.as_secs()),
            Self::Watchdog(time) => write!(f, "silent for {} s", time.as_secs()),
        }
    }
}

/// What a service says through sd_notify.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notice {
    /// READY=1
    Ready,
    /// WATCHDOG=1
    Watchdog,
}
