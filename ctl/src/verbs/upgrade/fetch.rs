//! Reads parts of a file from a web server.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::header::{CONTENT_RANGE, HOST, LOCATION, RANGE, USER_AGENT};
use http::{Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::failure::Failure;

/// For one answer, connection included. A megabyte takes longer only on lines that nobody upgrades
/// nodes over.
const DEADLINE: Duration = Duration::from_secs(60);

/// Places a file may have moved to: release pages move each download once or twice.
const REDIRECTS: usize = 5;

/// A failed request is made again so often, on a new connection.
const ATTEMPTS: usize = 5;

/// Between two attempts.
const PAUSE: Duration = Duration::from_secs(2);

/// A file on a web server.
pub(super) struct Server {
    given: String,
    uri: Uri,
    tls: Option<TlsConnector>,
    connection: Option<SendRequest<Empty<Bytes>>>,
}

impl Server {
    /// Nothing is sent before the first read.
    pub(super) async fn open(url: &str) -> Result<Self, Failure> {
        let uri: Uri = url
            .parse()
            .map_err(|error| Failure::usage(format!("{url} is no URL: {error}")))?;
        if uri.host().is_none() {
            return Err(Failure::usage(format!("{url} names no server")));
        }
        Ok(Self {
            given: url.to_owned(),
            uri,
            tls: None,
            connection: None,
        })
    }

    /// At most so many bytes from a place on.
    pub(super) async fn read(&mut self, position: u64, most: usize) -> Result<Vec<u8>, Failure> {
        let mut attempt = 1;
        loop {
            let asked = timeout(DEADLINE, self.range(position, most)).await;
            let problem = match asked {
                Ok(Ok(bytes)) => return Ok(bytes),
                Ok(Err(Problem::Final(reason))) => return Err(self.failed(&reason)),
                Ok(Err(Problem::Passing(reason))) => reason,
                Err(_) => format!("no answer in {} s", DEADLINE.as_secs()),
            };
            self.connection = None;
            if attempt == ATTEMPTS {
                return Err(self.failed(&problem));
            }
            attempt += 1;
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn range(&mut self, position: u64, most: usize) -> Result<Vec<u8>, Problem> {
        let last = position + u64::try_from(most).unwrap_or(u64::MAX).saturating_sub(1);
        for _ in 0..=REDIRECTS {
            let response = self.ask(&format!("bytes={position}-{last}")).await?;
            match response.status() {
                StatusCode::PARTIAL_CONTENT => {
                    check_range(&response, position)?;
                    return body(response, most).await;
                }
                // The place is behind the end.
                StatusCode::RANGE_NOT_SATISFIABLE => return Ok(Vec::new()),
                StatusCode::OK => {
                    return Err(Problem::Final(
                        "the server sends whole files only, and an upgrade needs parts of it; \
                         download the file and give its name"
                            .to_owned(),
                    ));
                }
                status if status.is_redirection() => self.move_to(&response)?,
                status if status.is_server_error() => {
                    return Err(Problem::Passing(format!("the server answers {status}")));
                }
                status => return Err(Problem::Final(format!("the server answers {status}"))),
            }
        }
        Err(Problem::Final(
            "the file moves from place to place".to_owned(),
        ))
    }

    async fn ask(&mut self, range: &str) -> Result<Response<Incoming>, Problem> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.connect().await?,
        };
        // The server may have closed it meanwhile.
        if connection.ready().await.is_err() {
            connection = self.connect().await?;
        }
        let path = self.uri.path_and_query().map_or("/", |path| path.as_str());
        let host = self
            .uri
            .authority()
            .map_or("", |authority| authority.as_str());
        let request = Request::get(path)
            .header(HOST, host)
            .header(USER_AGENT, "keelsonctl")
            .header(RANGE, range)
            .body(Empty::new())
            .map_err(|error| Problem::Final(error.to_string()))?;
        let response = connection.send_request(request).await.map_err(passing)?;
        self.connection = Some(connection);
        Ok(response)
    }

    async fn connect(&mut self) -> Result<SendRequest<Empty<Bytes>>, Problem> {
        let host = self.uri.host().unwrap_or_default();
        let bare = host
            .trim_start_matches('[')
            .trim_end_matches(']')
            .to_owned();
        let https = self.uri.scheme_str() == Some("https");
        let port = self.uri.port_u16().unwrap_or(if https { 443 } else { 80 });
        let stream = TcpStream::connect((bare.as_str(), port))
            .await
            .map_err(passing)?;
        if https {
            let name =
                ServerName::try_from(bare).map_err(|error| Problem::Final(error.to_string()))?;
            let tls = match &self.tls {
                Some(tls) => tls.clone(),
                None => public_web().map_err(Problem::Final)?,
            };
            let stream = tls.connect(name, stream).await.map_err(passing)?;
            self.tls = Some(tls);
            speak(stream).await
        } else {
            speak(stream).await
        }
    }

    fn move_to(&mut self, response: &Response<Incoming>) -> Result<(), Problem> {
        let location = response
            .headers()
            .get(LOCATION)
            .and_then(|location| location.to_str().ok())
            .ok_or_else(|| Problem::Final("the file moved, and nobody says where".to_owned()))?;
        let uri = if location.starts_with('/') {
            let mut parts = self.uri.clone().into_parts();
            parts.path_and_query = location.parse().ok();
            Uri::from_parts(parts).map_err(|error| Problem::Final(error.to_string()))?
        } else {
            let uri: Uri = location
                .parse()
                .map_err(|_| Problem::Final(format!("the file moved to {location:?}")))?;
            if self.uri.scheme_str() == Some("https") && uri.scheme_str() != Some("https") {
                return Err(Problem::Final(format!(
                    "the file moved to {location}, which is not protected"
                )));
            }
            uri
        };
        self.uri = uri;
        self.connection = None;
        Ok(())
    }

    fn failed(&self, reason: &str) -> Failure {
        Failure::other(format!("{self}: {reason}"))
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.given)
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Server").field(&self.given).finish()
    }
}

/// Begins HTTP on a stream. How the connection ends shows with the next request.
async fn speak(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
) -> Result<SendRequest<Empty<Bytes>>, Problem> {
    let (sender, connection) = handshake(TokioIo::new(stream)).await.map_err(passing)?;
    tokio::spawn(async move {
        let _ = connection.await;
    });
    Ok(sender)
}

/// Why a range was not read.
enum Problem {
    /// Asking again does not help.
    Final(String),
    Passing(String),
}

fn passing(error: impl std::error::Error) -> Problem {
    Problem::Passing(keelson_control::chain(&error))
}

/// Servers that do not know ranges may send others.
fn check_range(response: &Response<Incoming>, position: u64) -> Result<(), Problem> {
    let range = response
        .headers()
        .get(CONTENT_RANGE)
        .and_then(|range| range.to_str().ok())
        .unwrap_or_default();
    if range.starts_with(&format!("bytes {position}-")) {
        Ok(())
    } else {
        Err(Problem::Final(format!(
            "the server sends another part than was asked for ({range:?})"
        )))
    }
}

async fn body(response: Response<Incoming>, most: usize) -> Result<Vec<u8>, Problem> {
    Limited::new(response.into_body(), most)
        .collect()
        .await
        .map(|body| body.to_bytes().to_vec())
        .map_err(|error| Problem::Passing(error.to_string()))
}

/// Trust as this computer has it.
fn public_web() -> Result<TlsConnector, String> {
    let mut roots = RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    let (added, _) = roots.add_parsable_certificates(found.certs);
    if added == 0 {
        return Err(
            "this computer has no list of web authorities (ca-certificates); download the file \
             and give its name"
                .to_owned(),
        );
    }
    let config =
        ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .with_root_certificates(roots)
            .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}
