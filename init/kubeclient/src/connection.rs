//! One HTTP/1.1 connection over TLS.

use std::io;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::error::{ConfigureError, RequestError};

/// The API server is on this machine or one hop away; a handshake under emulation takes up to
/// half a second.
const CONNECT_DEADLINE: Duration = Duration::from_secs(10);

/// The body type of every request.
pub(crate) type Body = Full<Bytes>;

/// Where the API server is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    host: String,
    port: u16,
}

impl Server {
    /// Takes an address apart: `https://127.0.0.1:6443`.
    pub fn parse(address: &str) -> Result<Self, ConfigureError> {
        let wrong = || ConfigureError::Address {
            address: address.to_owned(),
        };
        let rest = address.strip_prefix("https://").ok_or_else(wrong)?;
        let (host, port) = rest
            .trim_end_matches('/')
            .rsplit_once(':')
            .ok_or_else(wrong)?;
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let port = port.parse().map_err(|_| wrong())?;
        if ServerName::try_from(host).is_err() {
            return Err(wrong());
        }
        Ok(Self {
            host: host.to_owned(),
            port,
        })
    }

    /// The value of the Host header.
    pub(crate) fn authority(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

/// Connects, with a deadline, and leaves a task that drives the connection.
pub(crate) async fn connect(
    server: &Server,
    tls: &TlsConnector,
) -> Result<SendRequest<Body>, RequestError> {
    let failed = |source| RequestError::Connect {
        address: server.authority(),
        source,
    };
    timeout(CONNECT_DEADLINE, open(server, tls))
        .await
        .map_err(|_| failed(io::ErrorKind::TimedOut.into()))?
        .map_err(failed)
}

async fn open(server: &Server, tls: &TlsConnector) -> io::Result<SendRequest<Body>> {
    let tcp = TcpStream::connect((server.host.as_str(), server.port)).await?;
    tcp.set_nodelay(true)?;
    let name = ServerName::try_from(server.host.clone()).map_err(io::Error::other)?;
    let stream = tls.connect(name, tcp).await?;
    let (sender, connection) = handshake(TokioIo::new(stream))
        .await
        .map_err(io::Error::other)?;
    // The task ends with the connection; its error reaches whoever uses the sender.
    tokio::spawn(async move {
        let _ = connection.await;
    });
    Ok(sender)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_taken_apart() {
        let server = Server::parse("https://127.0.0.1:6443").unwrap();
        assert_eq!(server.authority(), "127.0.0.1:6443");
        let server = Server::parse("https://[fd00::1]:6443/").unwrap();
        assert_eq!(server.authority(), "[fd00::1]:6443");
    }

    #[test]
    fn what_is_no_address_is_refused_and_named() {
        for address in [
            "",
            "127.0.0.1:6443",
            "http://a:1",
            "https://a",
            "https://a:x",
            "https://:1",
        ] {
            let error = Server::parse(address).unwrap_err();
            assert!(error.to_string().contains(address), "{error}");
        }
    }
}
