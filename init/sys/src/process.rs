//! Ends of processes and signals to them.

use std::fmt;
use std::io;
use std::os::fd::BorrowedFd;

use rustix::io::Errno;
use rustix::process::{Pid, WaitOptions};

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// By itself, with this code.
    Code(i32),
    /// By this signal.
    Signal(i32),
}

impl Exit {
    /// Whether it ended as programs do when all went well.
    pub fn success(self) -> bool {
        self == Self::Code(0)
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => write!(f, "exit code {code}"),
            Self::Signal(signal) => write!(f, "signal {signal}"),
        }
    }
}

/// What became of a child.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It ended and is gone.
    Ended(Exit),
    /// This signal halted it; it lives, but does nothing until it is continued or killed. Told
    /// once for each halt. The stops of a debugger are not told.
    Halted(i32),
}

/// Takes the next change of a child, of any kind, without waiting.
pub fn next_change() -> io::Result<Option<(u32, Change)>> {
    loop {
        match rustix::process::wait(WaitOptions::NOHANG | WaitOptions::UNTRACED) {
            Ok(None) | Err(Errno::CHILD) => return Ok(None),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
            Ok(Some((pid, status))) => {
                let pid = raw_pid(pid);
                if let Some(code) = status.exit_status() {
                    return Ok(Some((pid, Change::Ended(Exit::Code(code)))));
                }
                if let Some(signal) = status.terminating_signal() {
                    return Ok(Some((pid, Change::Ended(Exit::Signal(signal)))));
                }
                if let Some(signal) = status.stopping_signal() {
                    return Ok(Some((pid, Change::Halted(signal))));
                }
                // None of these: a continued child, which is not asked for.
            }
        }
    }
}

/// A signal's name for people: `SIGSTOP`, or its number where it has none.
pub fn signal_name(signal: i32) -> String {
    match nix::sys::signal::Signal::try_from(signal) {
        Ok(signal) => signal.as_str().to_owned(),
        Err(_) => format!("signal {signal}"),
    }
}

/// Sends a signal to the process behind a pidfd; one that has ended already is fine.
pub fn signal(pidfd: BorrowedFd<'_>, signal: i32) -> io::Result<()> {
    let signal = rustix::process::Signal::from_named_raw(signal)
        .ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
    match rustix::process::pidfd_send_signal(pidfd, signal) {
        Ok(()) | Err(Errno::SRCH) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Sends SIGTERM to a process by number, for processes that are not our children.
pub fn terminate(pid: u32) -> io::Result<()> {
    let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    match rustix::process::kill_process(pid, rustix::process::Signal::TERM) {
        Ok(()) | Err(Errno::SRCH) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// A process number as the kernel prints it.
pub(crate) fn raw_pid(pid: Pid) -> u32 {
    pid.as_raw_nonzero().get().unsigned_abs()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_have_names() {
        assert_eq!(signal_name(19), "SIGSTOP");
        assert_eq!(signal_name(60), "signal 60");
    }
}
