//! Checks that are connections: made without waiting, answered by the event loop.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with,
    sockopt::socket_error,
};

/// Where a connection attempt stands.
#[derive(Debug)]
pub(crate) enum Attempt {
    /// Accepted.
    Accepted,
    /// Under way: the descriptor becomes writable when it is decided.
    Pending(OwnedFd),
    /// Nobody listens.
    Refused,
}

const FLAGS: SocketFlags = SocketFlags::CLOEXEC.union(SocketFlags::NONBLOCK);

/// Tries a TCP address.
pub(crate) fn tcp(address: &str) -> io::Result<Attempt> {
    let address: SocketAddr = address
        .parse()
        .map_err(|_| io::Error::other("not an address and port like 127.0.0.1:2379"))?;
    let family = if address.is_ipv4() {
        AddressFamily::INET
    } else {
        AddressFamily::INET6
    };
    let socket = socket_with(family, SocketType::STREAM, FLAGS, None)?;
    Ok(match connect(&socket, &address) {
        Ok(()) => Attempt::Accepted,
        Err(Errno::INPROGRESS) => Attempt::Pending(socket),
        Err(_) => Attempt::Refused,
    })
}

/// Tries a unix socket.
pub(crate) fn unix(path: &Path) -> io::Result<Attempt> {
    let address = SocketAddrUnix::new(path)?;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, FLAGS, None)?;
    Ok(match connect(&socket, &address) {
        Ok(()) => Attempt::Accepted,
        // A full backlog comes as EAGAIN: it listens but does not keep up, so not ready.
        Err(_) => Attempt::Refused,
    })
}

/// Whether a socket is closed to everyone but its owner.
pub(crate) fn is_private(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|socket| socket.permissions().mode() & 0o077 == 0)
}

/// Whether a pending attempt was accepted.
pub(crate) fn accepted(socket: &OwnedFd) -> bool {
    matches!(socket_error(socket), Ok(Ok(())))
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::os::unix::net::UnixListener;
    use std::time::Duration;

    use keelson_sys::epoll::{Epoll, Interest};

    use super::*;

    fn settled(attempt: Attempt) -> bool {
        match attempt {
            Attempt::Accepted => true,
            Attempt::Refused => false,
            Attempt::Pending(socket) => {
                let epoll = Epoll::open().unwrap();
                epoll.add(&socket, 1, Interest::Write).unwrap();
                assert_eq!(epoll.wait(Some(Duration::from_secs(5))).unwrap().len(), 1);
                accepted(&socket)
            }
        }
    }

    #[test]
    fn listeners_are_told_from_closed_ports() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        assert!(settled(tcp(&address).unwrap()));
        drop(listener);
        assert!(!settled(tcp(&address).unwrap()));
        assert!(tcp("localhost:1").is_err());
    }

    #[test]
    fn sockets_without_a_listener_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        assert!(!is_private(&path));
        assert!(!settled(unix(&path).unwrap()));
        let listener = UnixListener::bind(&path).unwrap();
        assert!(settled(unix(&path).unwrap()));
        assert!(!is_private(&path));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        assert!(is_private(&path));
        drop(listener);
        assert!(!settled(unix(&path).unwrap()));
    }
}
