//! What can go wrong between the node and the API server.

use std::io;
use std::time::Duration;

use thiserror::Error;

/// Why a client could not be made.
#[derive(Debug, Error)]
pub enum ConfigureError {
    /// The address is not `https://host:port`.
    #[error("\"{address}\" is not an API server address; it must look like https://127.0.0.1:6443")]
    Address {
        /// What was given.
        address: String,
    },
    /// The certificates or the key cannot be used.
    #[error("no TLS identity for the API server")]
    Tls(#[source] keelson_tls::TlsError),
}

/// Why a request has no good answer.
#[derive(Debug, Error)]
pub enum RequestError {
    /// Nobody answers at the address, or TLS failed.
    #[error("cannot connect to the API server at {address}")]
    Connect {
        /// Where.
        address: String,
        /// What the system or rustls said.
        source: io::Error,
    },
    /// The connection broke, or what came was not HTTP.
    #[error("the connection to the API server broke during {what}")]
    Http {
        /// Method and path.
        what: String,
        /// What hyper said.
        source: hyper::Error,
    },
    /// No answer in time.
    #[error("no answer to {what} within {} s", deadline.as_secs())]
    Deadline {
        /// Method and path.
        what: String,
        /// How long was waited.
        deadline: Duration,
    },
    /// The API server refused.
    #[error("{what} was refused: {code} {reason}: {message}")]
    Status {
        /// Method and path.
        what: String,
        /// HTTP status code.
        code: u16,
        /// `reason` of the Status object (`NotFound`, `Conflict` …), or empty.
        reason: String,
        /// `message` of the Status object, or the start of the body.
        message: String,
    },
    /// The answer is not the JSON that was expected.
    #[error("the answer to {what} is not valid JSON")]
    Decode {
        /// Method and path.
        what: String,
        /// What serde said.
        source: serde_json::Error,
    },
    /// The answer is larger than the client takes.
    #[error("the answer to {what} is larger than {limit} bytes")]
    TooLarge {
        /// Method and path.
        what: String,
        /// The limit.
        limit: usize,
    },
    /// The server serves no such kind (yet).
    #[error("the API server serves no {kind} in {api_version}")]
    UnknownKind {
        /// `group/version`.
        api_version: String,
        /// The kind.
        kind: String,
    },
    /// A path or header could not be made into a request.
    #[error("\"{path}\" is not a request path")]
    Path {
        /// The path.
        path: String,
        /// What the http crate said.
        source: hyper::http::Error,
    },
}

impl RequestError {
    /// HTTP status code, when the server gave one.
    pub fn status_code(&self) -> Option<u16> {
        match self {
            Self::Status { code, .. } => Some(*code),
            _ => None,
        }
    }
}
