//! Sockets whose every wait ends at the same moment.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

/// A socket that can be told how long to wait.
pub(crate) trait Timed: Read + Write {
    fn read_within(&self, timeout: Duration) -> io::Result<()>;
    fn write_within(&self, timeout: Duration) -> io::Result<()>;
}

impl Timed for TcpStream {
    fn read_within(&self, timeout: Duration) -> io::Result<()> {
        self.set_read_timeout(Some(timeout))
    }

    fn write_within(&self, timeout: Duration) -> io::Result<()> {
        self.set_write_timeout(Some(timeout))
    }
}

impl Timed for UnixStream {
    fn read_within(&self, timeout: Duration) -> io::Result<()> {
        self.set_read_timeout(Some(timeout))
    }

    fn write_within(&self, timeout: Duration) -> io::Result<()> {
        self.set_write_timeout(Some(timeout))
    }
}

/// A socket and the moment.
pub(crate) struct Deadlined<S> {
    pub(crate) stream: S,
    pub(crate) end: Instant,
}

impl<S: Timed> Read for Deadlined<S> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.stream.read_within(remaining(self.end))?;
        self.stream.read(buffer).map_err(timed_out)
    }
}

impl<S: Timed> Write for Deadlined<S> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.stream.write_within(remaining(self.end))?;
        self.stream.write(buffer).map_err(timed_out)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

/// Never zero, which a socket takes for "for ever".
pub(crate) fn remaining(end: Instant) -> Duration {
    end.saturating_duration_since(Instant::now())
        .max(Duration::from_millis(1))
}

/// The kernel reports a deadline as "try again".
fn timed_out(error: io::Error) -> io::Error {
    if error.kind() == io::ErrorKind::WouldBlock {
        io::ErrorKind::TimedOut.into()
    } else {
        error
    }
}
