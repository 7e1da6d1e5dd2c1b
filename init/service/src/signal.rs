//! Signals that may stop a service.

use std::fmt;

use serde::Deserialize;

/// A signal by name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub enum Signal {
    /// Abort; a Go program prints what it was doing.
    SIGABRT,
    /// Hang-up.
    SIGHUP,
    /// Interrupt.
    SIGINT,
    /// Kill, not to be caught.
    SIGKILL,
    /// Quit.
    SIGQUIT,
    /// Polite end.
    #[default]
    SIGTERM,
    /// First free one.
    SIGUSR1,
    /// Second free one.
    SIGUSR2,
}

impl Signal {
    /// Its number, the same on every architecture Keelson runs on.
    pub fn number(self) -> i32 {
        match self {
            Self::SIGABRT => 6,
            Self::SIGHUP => 1,
            Self::SIGINT => 2,
            Self::SIGQUIT => 3,
            Self::SIGKILL => 9,
            Self::SIGUSR1 => 10,
            Self::SIGUSR2 => 12,
            Self::SIGTERM => 15,
        }
    }
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}
