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
