//! From a TCP connection to HTTP/2 with a known caller, within one deadline.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::caller::Caller;
use crate::connections::Session;
use crate::identity::IdentityError;
use crate::limits;
use crate::trust::Snapshot;

/// What every HTTP/2 client says first (RFC 9113, 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A connection whose caller is known.
#[derive(Debug)]
pub(crate) struct Arrival {
    pub(crate) stream: TlsStream<TcpStream>,
    pub(crate) session: Rc<Session>,
}

/// A handshake came to nothing.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HandshakeError {
    #[error("the caller closed the connection")]
    Closed,
    #[error("TLS failed")]
    Tls(#[source] io::Error),
    #[error("the caller stands for nobody")]
    Identity(#[source] IdentityError),
    #[error("the caller does not speak HTTP/2")]
    NotHttp2,
    #[error("it took more than {} s", limits::HANDSHAKE_DEADLINE.as_secs())]
    Late,
    #[error("it made room for others")]
    Displaced,
}

/// Shakes hands. The deadline is the caller's business.
pub(crate) async fn shake(
    stream: TcpStream,
    peer: SocketAddr,
    snapshot: &Snapshot,
) -> Result<Arrival, HandshakeError> {
    let mut stream = TlsAcceptor::from(snapshot.tls.clone())
        .accept_with(stream, |tls| {
            tls.set_buffer_limit(Some(limits::TLS_BUFFER));
        })
        .await
        .map_err(HandshakeError::from)?;
    let (_, tls) = stream.get_ref();
    let caller =
        Caller::new(tls.peer_certificates(), snapshot).map_err(HandshakeError::Identity)?;
    // Read here because hyper would wait for it for ever.
    let mut greeting = [0; PREFACE.len()];
    stream.read_exact(&mut greeting).await?;
    if greeting != PREFACE {
        return Err(HandshakeError::NotHttp2);
    }
    Ok(Arrival {
        stream,
        session: Session::new(caller, peer),
    })
}

impl From<io::Error> for HandshakeError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::UnexpectedEof
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::BrokenPipe => Self::Closed,
            _ => Self::Tls(error),
        }
    }
}

/// A stream whose HTTP/2 preface was read already, as it was before.
pub(crate) fn unread(
    stream: TlsStream<TcpStream>,
) -> impl AsyncRead + AsyncWrite + Unpin + 'static {
    let (reader, writer) = tokio::io::split(stream);
    tokio::io::join(PREFACE.chain(reader), writer)
}
