//! The socket for sd_notify messages, with the sender's identity from the kernel.

use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixDatagram;
use std::path::Path;

use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg, sockopt::set_socket_passcred,
};

use crate::process::raw_pid;

/// Longest message looked at. READY=1 and WATCHDOG=1 are short; a long STATUS= may be cut.
const MAX_MESSAGE: usize = 4096;

/// A message and who sent it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notification {
    /// Sender's process, as the kernel saw it.
    pub pid: u32,
    /// The assignments, one per line.
    pub text: String,
}

/// A bound datagram socket with credentials switched on.
#[derive(Debug)]
pub struct NotifySocket {
    socket: UnixDatagram,
}

impl NotifySocket {
    /// Binds the socket at a path that must be free.
    pub fn bind(path: &Path) -> io::Result<Self> {
        let socket = UnixDatagram::bind(path)?;
        socket.set_nonblocking(true)?;
        set_socket_passcred(&socket, true)?;
        Ok(Self { socket })
    }

    /// Next message, or `None` when there is none at the moment.
    pub fn next(&self) -> io::Result<Option<Notification>> {
        let mut bytes = [0; MAX_MESSAGE];
        // Room for descriptors too: they must be received to be closed, else a client that sends
        // some (systemd's FDSTORE) would have its credentials cut off.
        let mut space =
            [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(8), ScmCredentials(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
        let received = match recvmsg(
            &self.socket,
            &mut [IoSliceMut::new(&mut bytes)],
            &mut control,
            flags,
        ) {
            Err(Errno::AGAIN | Errno::INTR) => return Ok(None),
            result => result?.bytes,
        };
        let mut pid = 0;
        for message in control.drain() {
            // Descriptors are closed by being dropped here.
            if let RecvAncillaryMessage::ScmCredentials(credentials) = message {
                pid = raw_pid(credentials.pid);
            }
        }
        let text = String::from_utf8_lossy(&bytes[..received]).into_owned();
        Ok(Some(Notification { pid, text }))
    }
}

impl AsFd for NotifySocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_names_the_sender() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let socket = NotifySocket::bind(&path).unwrap();
        assert_eq!(socket.next().unwrap(), None);
        UnixDatagram::unbound()
            .unwrap()
            .send_to(b"READY=1", &path)
            .unwrap();
        let expected = Notification {
            pid: std::process::id(),
            text: "READY=1".to_owned(),
        };
        assert_eq!(socket.next().unwrap(), Some(expected));
    }
}
