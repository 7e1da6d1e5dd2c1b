//! The hardware watchdog.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::path::Path;
use std::time::Duration;

use rustix::io::{FdFlags, fcntl_getfd, fcntl_setfd};
use rustix::ioctl::{NoArg, Updater, ioctl, opcode};

/// `_IOWR('W', 6, int)` of `linux/watchdog.h`.
const SET_TIMEOUT: u32 = opcode::read_write::<i32>(b'W', 6);
/// `_IOR('W', 5, int)`.
const KEEP_ALIVE: u32 = opcode::read::<i32>(b'W', 5);

/// Something that resets the machine unless it is fed.
pub trait Feed {
    /// Starts the countdown anew.
    fn feed(&mut self) -> io::Result<()>;
}

/// An open watchdog. Dropping it does not stop it: a node without PID 1 must reset.
#[derive(Debug)]
pub struct Watchdog {
    device: File,
}

impl Watchdog {
    /// Opens a device, which starts its countdown.
    pub fn open(path: &Path) -> io::Result<Self> {
        Ok(Self {
            device: OpenOptions::new().write(true).open(path)?,
        })
    }

    /// Takes over a device that stage 1 left open over `exec`.
    pub fn inherit(fd: RawFd) -> io::Result<Self> {
        if fd < 3 {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        // SAFETY: PID 1 calls this once, first thing after exec, with the number that stage 1
        // left open for it; no other part of the program owns a descriptor at that time.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        if let Err(error) = fcntl_setfd(&fd, FdFlags::CLOEXEC) {
            // Not open: there is nothing to close, and closing it would be wrong.
            let _ = fd.into_raw_fd();
            return Err(error.into());
        }
        Ok(Self {
            device: File::from(fd),
        })
    }

    /// Keeps the device open over `exec` and returns its number.
    pub fn leave_open(self) -> io::Result<RawFd> {
        let flags = fcntl_getfd(&self.device)?;
        fcntl_setfd(&self.device, flags - FdFlags::CLOEXEC)?;
        Ok(self.device.into_raw_fd())
    }

    /// Asks for a countdown; returns the one the device can do.
    pub fn set_timeout(&self, timeout: Duration) -> io::Result<Duration> {
        let mut seconds = i32::try_from(timeout.as_secs()).unwrap_or(i32::MAX);
        // SAFETY: WDIOC_SETTIMEOUT reads and writes one int behind the pointer and nothing else.
        unsafe { ioctl(&self.device, Updater::<SET_TIMEOUT, i32>::new(&mut seconds))? };
        Ok(Duration::from_secs(u64::try_from(seconds).unwrap_or(0)))
    }

    /// The descriptor's number, for messages.
    pub fn number(&self) -> RawFd {
        self.device.as_raw_fd()
    }
}

impl Feed for Watchdog {
    fn feed(&mut self) -> io::Result<()> {
        // SAFETY: WDIOC_KEEPALIVE takes no argument; a null pointer is never looked at.
        unsafe { ioctl(&self.device, NoArg::<KEEP_ALIVE>::new())? };
        Ok(())
    }
}

/// Counts instead of feeding.
#[derive(Debug, Default)]
pub struct FakeWatchdog {
    /// How often it was fed.
    pub fed: u32,
}

impl Feed for FakeWatchdog {
    fn feed(&mut self) -> io::Result<()> {
        self.fed += 1;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn request_numbers_are_the_kernels() {
        assert_eq!(SET_TIMEOUT, 0xc004_5706);
        assert_eq!(KEEP_ALIVE, 0x8004_5705);
    }

    #[test]
    fn a_closed_number_is_refused() {
        assert!(Watchdog::inherit(1).is_err());
        assert!(Watchdog::inherit(4_000).is_err());
    }
}
