//! One connection to a node, with words for everything that can be in its way.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustls::{CertificateError, Error as TlsError};
use rustls_pki_types::{InvalidDnsNameError, ServerName};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::call::Node;
use crate::credentials::{provider, verified_by};
use crate::transport::{Ended, Once, Watched, tls_error};
use crate::trust::{LookingVerifier, NOT_PINNED};
use crate::{Credentials, Endpoint, Fingerprint};

/// From the name to the end of the handshake. A node that works answers within a second; one
/// that swaps, or is at the other end of the world, gets some more.
pub const CONNECT_DEADLINE: Duration = Duration::from_secs(10);

/// While calls wait, the connection is tried this often: a node that lost its power says nothing.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(15);
/// And given up when nothing comes back for so long.
const KEEPALIVE_DEADLINE: Duration = Duration::from_secs(15);

/// A node cannot be reached, or is not the one it should be.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// Nothing within the deadline.
    #[error(
        "no answer within {} s; is the node up, and is a firewall in between?", CONNECT_DEADLINE.as_secs()
    )]
    Deadline,
    /// HTTP/2 did not begin.
    #[error("HTTP/2 did not begin; is this the port of a node's API?")]
    Http2(#[source] tonic::transport::Error),
    /// The name has no address.
    #[error("the name {host} has no address")]
    Resolve {
        /// The name.
        host: String,
        /// Why.
        source: io::Error,
    },
    /// Not a name that TLS could check.
    #[error("{host} is neither a name nor an address")]
    ServerName {
        /// What it was.
        host: String,
        /// Why.
        source: InvalidDnsNameError,
    },
    /// TCP refused.
    #[error("nothing listens there; is the node up, and is this the port of its API?")]
    Refused,
    /// TCP failed otherwise.
    #[error("cannot be reached")]
    Tcp(#[source] io::Error),
    /// It is not the node that was meant, or not one of this context.
    #[error(
        "its certificate is not signed by the authority of the context; another machine may have this address, or the node was reset (then take over its new authority)"
    )]
    NotTrusted(#[source] TlsError),
    /// None of its certificates is the pinned one.
    #[error(
        "none of its certificates has the fingerprint that was given; compare it with the node's console"
    )]
    NotPinned,
    /// It is another node's, or the address is missing in it.
    #[error(
        "its certificate is for other names; use one of them, or set serverName in the context"
    )]
    OtherName(#[source] TlsError),
    /// The node's certificate is over, or not valid yet.
    #[error(
        "its certificate is not valid at this time; compare the clocks of this computer and of the node, which renews its certificates by itself"
    )]
    NotValidNow(#[source] TlsError),
    /// The handshake failed otherwise.
    #[error("no TLS connection; is this the port of a node's API?")]
    Tls(#[source] io::Error),
    /// rustls cannot be set up.
    #[error("TLS cannot be set up")]
    Setup(#[source] TlsError),
}

/// Connects to a node.
///
/// # Errors
/// What was in the way. Whether the node accepts us shows only with the first call.
pub async fn connect(endpoint: &Endpoint, credentials: &Credentials) -> Result<Node, ConnectError> {
    let ended = Ended::default();
    let channel = timeout(CONNECT_DEADLINE, async {
        let stream = handshake(endpoint, credentials).await?;
        // The scheme only says that tonic is not to add TLS of its own.
        tonic::transport::Endpoint::from_static("http://node")
            .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
            .keep_alive_timeout(KEEPALIVE_DEADLINE)
            .connect_with_connector(Once::new(Watched::new(stream, ended.clone())))
            .await
            .map_err(ConnectError::Http2)
    })
    .await
    .map_err(|_| ConnectError::Deadline)??;
    Ok(Node::new(channel, ended))
}

/// Fingerprints of the certificates a node shows: its own first, then those above it. Nothing is
/// trusted and nothing is sent.
///
/// # Errors
/// When it shows none.
pub async fn presented(endpoint: &Endpoint) -> Result<Vec<Fingerprint>, ConnectError> {
    let shown = Arc::new(Mutex::new(Vec::new()));
    let provider = provider();
    let verifier = LookingVerifier::new(&provider, Arc::clone(&shown));
    let looking = verified_by(provider, Arc::new(verifier)).map_err(ConnectError::Setup)?;
    let result = timeout(CONNECT_DEADLINE, handshake(endpoint, &looking))
        .await
        .map_err(|_| ConnectError::Deadline)?;
    let shown = std::mem::take(&mut *shown.lock().unwrap_or_else(PoisonError::into_inner));
    match result {
        Err(error) if shown.is_empty() => Err(error),
        _ => Ok(shown),
    }
}

async fn handshake(
    endpoint: &Endpoint,
    credentials: &Credentials,
) -> Result<TlsStream<TcpStream>, ConnectError> {
    let name = match &credentials.server_name {
        Some(name) => name.clone(),
        None => ServerName::try_from(endpoint.host().to_owned()).map_err(|source| {
            ConnectError::ServerName {
                host: endpoint.host().to_owned(),
                source,
            }
        })?,
    };
    let stream = tcp(endpoint).await?;
    TlsConnector::from(Arc::clone(&credentials.tls))
        .connect(name, stream)
        .await
        .map_err(explain)
}

async fn tcp(endpoint: &Endpoint) -> Result<TcpStream, ConnectError> {
    let addresses = tokio::net::lookup_host((endpoint.host(), endpoint.port()))
        .await
        .map_err(|source| ConnectError::Resolve {
            host: endpoint.host().to_owned(),
            source,
        })?;
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for address in addresses {
        match TcpStream::connect(address).await {
            Ok(stream) => {
                // Calls are small and answered at once.
                stream.set_nodelay(true).map_err(ConnectError::Tcp)?;
                return Ok(stream);
            }
            Err(error) => last = error,
        }
    }
    Err(match last.kind() {
        io::ErrorKind::ConnectionRefused => ConnectError::Refused,
        _ => ConnectError::Tcp(last),
    })
}

fn explain(error: io::Error) -> ConnectError {
    use CertificateError as Bad;
    let Some(tls) = tls_error(&error).cloned() else {
        return ConnectError::Tls(error);
    };
    if tls == NOT_PINNED {
        return ConnectError::NotPinned;
    }
    match &tls {
        TlsError::InvalidCertificate(bad) => match bad {
            Bad::Expired
            | Bad::ExpiredContext { .. }
            | Bad::NotValidYet
            | Bad::NotValidYetContext { .. } => ConnectError::NotValidNow(tls),
            Bad::NotValidForName | Bad::NotValidForNameContext { .. } => {
                ConnectError::OtherName(tls)
            }
            _ => ConnectError::NotTrusted(tls),
        },
        _ => ConnectError::Tls(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed(bad: CertificateError) -> ConnectError {
        explain(io::Error::other(TlsError::InvalidCertificate(bad)))
    }

    #[test]
    fn each_cause_has_its_own_advice() {
        assert!(matches!(
            failed(CertificateError::Expired),
            ConnectError::NotValidNow(_)
        ));
        assert!(matches!(
            failed(CertificateError::UnknownIssuer),
            ConnectError::NotTrusted(_)
        ));
        assert!(matches!(
            failed(CertificateError::NotValidForName),
            ConnectError::OtherName(_)
        ));
        assert!(matches!(
            failed(CertificateError::ApplicationVerificationFailure),
            ConnectError::NotPinned
        ));
        assert!(matches!(
            explain(io::Error::from(io::ErrorKind::UnexpectedEof)),
            ConnectError::Tls(_)
        ));
    }

    #[tokio::test]
    async fn a_closed_port_is_refused() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = listener.local_addr().unwrap().to_string().parse().unwrap();
        drop(listener);
        let error = presented(&endpoint).await.unwrap_err();
        assert!(matches!(error, ConnectError::Refused), "{error:?}");
    }
}
