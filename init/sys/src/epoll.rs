//! Waiting for many descriptors at once.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::io::Errno;

/// What to wait for on a descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interest {
    /// A change notice of a cgroup or sysfs file.
    Notice,
    /// Data or the end of the stream.
    Read,
    /// Data, the end of the stream, or room to write.
    ReadWrite,
    /// Room to write, or an error.
    Write,
}

/// A descriptor that is ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Readiness {
    /// What [`Epoll::add`] was given.
    pub token: u64,
    /// Data or the end of the stream can be read.
    pub readable: bool,
    /// There is room to write, or writing would fail.
    pub writable: bool,
}

/// One epoll instance, level-triggered.
#[derive(Debug)]
pub struct Epoll {
    fd: OwnedFd,
}

impl Epoll {
    /// Opens an instance.
    pub fn open() -> io::Result<Self> {
        Ok(Self {
            fd: epoll::create(CreateFlags::CLOEXEC)?,
        })
    }

    /// Waits for a descriptor until it is closed or removed.
    pub fn add(&self, fd: impl AsFd, token: u64, interest: Interest) -> io::Result<()> {
        Ok(epoll::add(
            &self.fd,
            fd,
            EventData::new_u64(token),
            flags(interest),
        )?)
    }

    /// Changes what is waited for.
    pub fn modify(&self, fd: impl AsFd, token: u64, interest: Interest) -> io::Result<()> {
        Ok(epoll::modify(
            &self.fd,
            fd,
            EventData::new_u64(token),
            flags(interest),
        )?)
    }

    /// Stops waiting for a descriptor.
    pub fn remove(&self, fd: impl AsFd) -> io::Result<()> {
        Ok(epoll::delete(&self.fd, fd)?)
    }

    /// Waits until something is ready or the time is over. `None` waits for ever.
    pub fn wait(&self, timeout: Option<Duration>) -> io::Result<Vec<Readiness>> {
        // Twenty services with a few descriptors each; what does not fit comes next time.
        let mut events = Vec::with_capacity(64);
        let timeout = timeout.map(|timeout| Timespec {
            tv_sec: i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: timeout.subsec_nanos().into(),
        });
        let spare = rustix::buffer::spare_capacity(&mut events);
        match epoll::wait(&self.fd, spare, timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        Ok(events.iter().map(readiness).collect())
    }
}

fn readiness(event: &epoll::Event) -> Readiness {
    // Copied out: the kernel's structure is packed.
    let (flags, data) = (event.flags, event.data);
    let broken = flags.intersects(EventFlags::ERR | EventFlags::HUP);
    Readiness {
        token: data.u64(),
        readable: broken || flags.intersects(EventFlags::IN | EventFlags::PRI | EventFlags::RDHUP),
        writable: broken || flags.contains(EventFlags::OUT),
    }
}

fn flags(interest: Interest) -> EventFlags {
    match interest {
        Interest::Notice => EventFlags::PRI,
        Interest::Read => EventFlags::IN | EventFlags::RDHUP,
        Interest::ReadWrite => EventFlags::IN | EventFlags::RDHUP | EventFlags::OUT,
        Interest::Write => EventFlags::OUT,
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn reports_what_is_ready_and_times_out() {
        let epoll = Epoll::open().unwrap();
        let (mut ours, theirs) = UnixStream::pair().unwrap();
        epoll.add(&theirs, 7, Interest::Read).unwrap();
        assert_eq!(epoll.wait(Some(Duration::ZERO)).unwrap(), []);
        ours.write_all(b"x").unwrap();
        let ready = epoll.wait(Some(Duration::from_secs(5))).unwrap();
        assert_eq!(
            ready,
            [Readiness {
                token: 7,
                readable: true,
                writable: false
            }]
        );
    }
}
