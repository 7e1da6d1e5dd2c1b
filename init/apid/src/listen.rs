//! The socket callers come to.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use tokio::net::{TcpListener, TcpSocket};

use crate::limits;

/// The port cannot be opened.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}")]
pub struct ListenError {
    address: SocketAddr,
    source: io::Error,
}

/// Listens on all addresses of the node: of both families, or of IPv4 alone where the kernel has
/// no other.
///
/// # Errors
/// When the port cannot be opened.
pub fn listen_everywhere(port: u16) -> Result<TcpListener, ListenError> {
    let both = SocketAddr::from((Ipv6Addr::UNSPECIFIED, port));
    match listen(both) {
        Err(error) if has_no_ipv6(&error.source) => {
            listen(SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)))
        }
        result => result,
    }
}

/// Listens on one address.
///
/// # Errors
/// When the port cannot be opened.
pub fn listen(address: SocketAddr) -> Result<TcpListener, ListenError> {
    open(address).map_err(|source| ListenError { address, source })
}

fn open(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv6() {
        let socket = TcpSocket::new_v6()?;
        rustix::net::sockopt::set_ipv6_v6only(&socket, false)?;
        socket
    } else {
        TcpSocket::new_v4()?
    };
    // Connections of the process before this one may linger on the port.
    socket.set_reuseaddr(true)?;
    // Connections inherit these.
    socket.set_send_buffer_size(limits::SOCKET_BUFFER)?;
    socket.set_recv_buffer_size(limits::SOCKET_BUFFER)?;
    socket.set_nodelay(true)?;
    rustix::net::sockopt::set_tcp_user_timeout(&socket, limits::UNTAKEN_MS)?;
    socket.bind(address)?;
    socket.listen(limits::BACKLOG)
}

/// No such family, or no address of it (net.ipv6.conf.all.disable_ipv6).
fn has_no_ipv6(error: &io::Error) -> bool {
    let known = [
        rustix::io::Errno::AFNOSUPPORT,
        rustix::io::Errno::ADDRNOTAVAIL,
    ];
    known
        .iter()
        .any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

#[cfg(test)]
mod tests {
    use rustix::net::sockopt::{tcp_nodelay, tcp_user_timeout};
    use tokio::net::TcpStream;

    use super::*;

    #[tokio::test]
    async fn both_families_come_in_with_the_limits_of_the_listener() {
        let listener = listen_everywhere(0).unwrap();
        let local = listener.local_addr().unwrap();
        let mut loopbacks = vec![SocketAddr::from((Ipv4Addr::LOCALHOST, local.port()))];
        // A machine without IPv6 listens on IPv4 alone.
        loopbacks.extend(
            local
                .is_ipv6()
                .then(|| SocketAddr::from((Ipv6Addr::LOCALHOST, local.port()))),
        );
        for loopback in loopbacks {
            let client = TcpStream::connect(loopback).await.unwrap();
            let (stream, peer) = listener.accept().await.unwrap();
            assert_eq!(peer.ip().to_canonical(), loopback.ip());
            assert_eq!(tcp_user_timeout(&stream).unwrap(), limits::UNTAKEN_MS);
            assert!(tcp_nodelay(&stream).unwrap());
            let buffer = rustix::net::sockopt::socket_send_buffer_size(&stream).unwrap();
            assert_eq!(buffer, 2 * usize::try_from(limits::SOCKET_BUFFER).unwrap());
            drop(client);
        }
    }

    #[tokio::test]
    async fn a_port_in_use_is_named() {
        let first = listen(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let address = first.local_addr().unwrap();
        let error = listen(address).unwrap_err();
        assert_eq!(error.to_string(), format!("cannot listen on {address}"));
    }
}
