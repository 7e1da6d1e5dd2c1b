//! Descriptors that a tokio runtime waits for until they can be read.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// A descriptor in a runtime. It is never given out to be changed, which is what [`AsyncFd`] asks
/// of who uses it.
#[derive(Debug)]
pub struct Readable {
    descriptor: AsyncFd<OwnedFd>,
}

impl Readable {
    /// Must be called inside a tokio runtime, with a descriptor that does not block.
    pub fn new(descriptor: OwnedFd) -> io::Result<Self> {
        // SAFETY: an `OwnedFd` is open until it is dropped and has one number all its life. No
        // method of `Readable` replaces it or gives a `&mut` to it, so that it lives as long as
        // the registration. The safe constructor is deprecated, for it takes any `AsRawFd`.
        let descriptor = unsafe { AsyncFd::register_with_interest(descriptor, Interest::READABLE) };
        Ok(Self {
            descriptor: descriptor?,
        })
    }

    /// Calls `read` whenever there may be something, until it answers anything but `WouldBlock`.
    /// It must answer that only when the descriptor did. Safe to use in `select!`.
    pub async fn read<T>(
        &self,
        mut read: impl FnMut(BorrowedFd<'_>) -> io::Result<T>,
    ) -> io::Result<T> {
        self.descriptor
            .async_io(Interest::READABLE, |descriptor| read(descriptor.as_fd()))
            .await
    }
}

impl AsFd for Readable {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.get_ref().as_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rustix::pipe::{PipeFlags, pipe_with};

    use super::*;

    #[tokio::test]
    async fn a_reader_waits_for_what_comes_and_for_what_comes_after() {
        let (reader, writer) = pipe_with(PipeFlags::NONBLOCK | PipeFlags::CLOEXEC).unwrap();
        let reader = Readable::new(reader).unwrap();
        let next = async || {
            let mut buffer = [0; 8];
            let read = reader.read(|fd| Ok(rustix::io::read(fd, &mut buffer)?));
            read.await.map(|length| buffer[..length].to_vec())
        };
        for text in [b"one", b"two"] {
            let nothing = tokio::time::timeout(Duration::from_millis(10), next()).await;
            assert!(nothing.is_err(), "{nothing:?}");
            let write = async { rustix::io::write(&writer, text).unwrap() };
            let (read, _) = tokio::join!(next(), write);
            assert_eq!(read.unwrap(), text);
        }
        drop(writer);
        assert_eq!(next().await.unwrap(), b"");
    }

    #[tokio::test]
    async fn what_cannot_be_waited_for_is_refused() {
        // epoll(7): ordinary files are always ready.
        let file = tempfile::tempfile().unwrap();
        let error = Readable::new(file.into()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
    }
}
