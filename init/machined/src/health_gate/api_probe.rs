//! Calls the node API the way people do: TLS to apid, and through it to machined.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper::Request;
use hyper::body::Bytes;
use hyper::client::conn::http2;
use hyper::header::CONTENT_TYPE;
use hyper_util::rt::{TokioExecutor, TokioIo};
use keelson_api::PORT;
use keelson_api::access::Role;
use keelson_control::chain;
use keelson_pki::{DirectoryVault, passing_pair};
use keelson_tls::Identity;
use time::OffsetDateTime;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;

use crate::paths::Paths;

/// apid answers in milliseconds; under emulation and load a handshake takes a second.
const DEADLINE: Duration = Duration::from_secs(10);

/// Who asks, in apid's eyes.
const PERSON: &str = "keelson-health-gate";

/// A trial takes minutes.
const LIFETIME: time::Duration = time::Duration::days(1);

const ADDRESS: &str = "127.0.0.1";

const METHOD: &str = "http://node/grpc.health.v1.Health/Check";

/// `HealthCheckResponse { status: SERVING }` in its gRPC frame.
const SERVING: &[u8] = &[0, 0, 0, 0, 2, 8, 1];

/// Whoever asks is one who only looks.
#[derive(Debug)]
pub(crate) struct ApiProbe {
    authority: PathBuf,
    pair: PathBuf,
    vault: PathBuf,
    /// When the pair was made.
    made: Option<OffsetDateTime>,
}

impl ApiProbe {
    pub(crate) fn new(paths: &Paths) -> Self {
        Self {
            authority: paths.rendered().join("api-ca.crt"),
            pair: paths.gate_pair(),
            vault: paths.vault(),
            made: None,
        }
    }

    /// What is wrong; nothing when it answers.
    pub(crate) async fn ask(&mut self, now: OffsetDateTime) -> Result<(), String> {
        self.keep_pair(now)?;
        let identity = Identity {
            certificate: &self.pair,
            key: &self.pair,
        };
        let mut tls = keelson_tls::client_config(&self.authority, Some(identity))
            .map_err(|error| chain(&error))?;
        tls.alpn_protocols = vec![b"h2".to_vec()];
        match timeout(DEADLINE, call(TlsConnector::from(Arc::new(tls)), PORT)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err(format!("no answer in {} s", DEADLINE.as_secs())),
        }
    }

    /// Its file is on a tmpfs and for root alone.
    fn keep_pair(&mut self, now: OffsetDateTime) -> Result<(), String> {
        if self
            .made
            .is_some_and(|made| (now - made).abs() < LIFETIME / 2)
        {
            return Ok(());
        }
        let vault = DirectoryVault::new(self.vault.clone());
        let organization = Role::Reader.organization();
        let pair = passing_pair(&vault, PERSON, &organization, LIFETIME, now)
            .map_err(|error| chain(&error))?;
        keelson_durable::replace(&self.pair, pair.as_bytes(), 0o600)
            .map_err(|error| chain(&error))?;
        self.made = Some(now);
        Ok(())
    }
}

async fn call(tls: TlsConnector, port: u16) -> io::Result<()> {
    let stream = TcpStream::connect((ADDRESS, port)).await?;
    let name = ServerName::try_from(ADDRESS).map_err(io::Error::other)?;
    let stream = tls.connect(name, stream).await?;
    let (mut sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
        .await
        .map_err(io::Error::other)?;
    let connection = tokio::spawn(connection);
    let answer = ask(&mut sender).await;
    connection.abort();
    answer
}

async fn ask(sender: &mut http2::SendRequest<Full<Bytes>>) -> io::Result<()> {
    // One byte "not compressed", four of length, an empty message.
    let request = Request::post(METHOD)
        .header(CONTENT_TYPE, "application/grpc")
        .header("te", "trailers")
        .body(Full::from(Bytes::from_static(&[0; 5])))
        .map_err(io::Error::other)?;
    let response = sender
        .send_request(request)
        .await
        .map_err(io::Error::other)?;
    let refused = response
        .headers()
        .get("grpc-message")
        .map(|message| String::from_utf8_lossy(message.as_bytes()).into_owned());
    let body = Limited::new(response.into_body(), 4096);
    let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
    if body.as_ref() == SERVING {
        return Ok(());
    }
    Err(io::Error::other(refused.unwrap_or_else(|| {
        "it does not say that it serves".to_owned()
    })))
}
