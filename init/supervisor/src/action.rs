//! What the executor does, and what it tells.

use std::fmt;

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

/// What a service says through sd_notify.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notice {
    /// READY=1
    Ready,
    /// WATCHDOG=1
    Watchdog,
}
