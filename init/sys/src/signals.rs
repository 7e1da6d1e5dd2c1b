//! Signals as a file descriptor.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

/// A signal PID 1 listens to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Caught {
    /// A child ended or was halted.
    Child,
    /// Ctrl-Alt-Del on the console, or Ctrl-C in tests.
    Interrupt,
    /// An orderly end is wanted.
    Terminate,
}

/// The signals above, blocked for this thread and readable from a descriptor.
#[derive(Debug)]
pub struct SignalQueue {
    fd: SignalFd,
}

impl SignalQueue {
    /// Blocks the signals and opens the descriptor.
    pub fn open() -> io::Result<Self> {
        let mut set = SigSet::empty();
        for signal in [Signal::SIGCHLD, Signal::SIGINT, Signal::SIGTERM] {
            set.add(signal);
        }
        set.thread_block()?;
        let fd = SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
        Ok(Self { fd })
    }

    /// Next signal, or `None` when there is none at the moment.
    pub fn next(&self) -> io::Result<Option<Caught>> {
        loop {
            let Some(info) = self.fd.read_signal()? else {
                return Ok(None);
            };
            match i32::try_from(info.ssi_signo).map(Signal::try_from) {
                Ok(Ok(Signal::SIGCHLD)) => return Ok(Some(Caught::Child)),
                Ok(Ok(Signal::SIGINT)) => return Ok(Some(Caught::Interrupt)),
                Ok(Ok(Signal::SIGTERM)) => return Ok(Some(Caught::Terminate)),
                // Nothing else is in the set.
                _ => {}
            }
        }
    }
}

impl AsFd for SignalQueue {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
