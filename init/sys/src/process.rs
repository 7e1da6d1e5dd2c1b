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

/// Takes the next ended child, of any kind, without waiting.
pub fn reap() -> io::Result<Option<(u32, Exit)>> {
    loop {
        match rustix::process::wait(WaitOptions::NOHANG) {
            Ok(None) | Err(Errno::CHILD) => return Ok(None),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
            Ok(Some((pid, status))) => {
                let pid = raw_pid(pid);
                if let Some(code) = status.exit_status() {
                    return Ok(Some((pid, Exit::Code(code))));
                }
                if let Some(signal) = status.terminating_signal() {
                    return Ok(Some((pid, Exit::Signal(signal))));
                }
                // Neither: a stopped child, which is not asked for.
            }
        }
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
