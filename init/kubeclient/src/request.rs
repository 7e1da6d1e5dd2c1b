//! Requests with one answer: GET, POST, PUT and server-side apply.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::SendRequest;
use hyper::header::{ACCEPT, CONTENT_TYPE, HOST};
use hyper::{Method, Request, Response, StatusCode};
use keelson_tls::Identity;
use serde_json::Value;
use tokio::sync::Mutex;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::connection::{Body, Server, connect};
use crate::error::{ConfigureError, RequestError};

/// Who owns the fields that Keelson applies.
const FIELD_MANAGER: &str = "keelson";
/// A first write after start waits for the API server's caches; emulated machines are slow.
const DEADLINE: Duration = Duration::from_secs(30);
/// The largest object in etcd is 1.5 MiB; lists of this client are short.
const LARGEST_ANSWER: usize = 8 * 1024 * 1024;

/// A client of one API server.
pub struct Client {
    pub(crate) server: Server,
    pub(crate) tls: TlsConnector,
    /// The connection that the last request left usable.
    idle: Mutex<Option<SendRequest<Body>>>,
}

impl Client {
    /// Reads the identity's files; connects with the first request.
    pub fn new(server: Server, ca: &Path, identity: Identity<'_>) -> Result<Self, ConfigureError> {
        let config = keelson_tls::client_config(ca, Some(identity)).map_err(ConfigureError::Tls)?;
        let tls = TlsConnector::from(Arc::new(config));
        Ok(Self {
            server,
            tls,
            idle: Mutex::new(None),
        })
    }

    /// Reads one object or list.
    pub async fn get(&self, path: &str) -> Result<Value, RequestError> {
        self.call(Method::GET, path, None).await
    }

    /// Creates an object in the collection at `path`.
    pub async fn create(&self, path: &str, object: &Value) -> Result<Value, RequestError> {
        self.call(Method::POST, path, Some(("application/json", object)))
            .await
    }

    /// Replaces an object or a subresource; the server refuses when `resourceVersion` is old.
    pub async fn replace(&self, path: &str, object: &Value) -> Result<Value, RequestError> {
        self.call(Method::PUT, path, Some(("application/json", object)))
            .await
    }

    /// Server-side apply: makes the object if it is missing, and owns the given fields.
    pub async fn apply(&self, path: &str, object: &Value) -> Result<Value, RequestError> {
        let path = format!("{path}?fieldManager={FIELD_MANAGER}&force=true");
        // JSON is YAML, and cheaper to write.
        self.call(
            Method::PATCH,
            &path,
            Some(("application/apply-patch+yaml", object)),
        )
        .await
    }

    /// Changes the given fields of an object that exists (JSON merge patch, RFC 7396).
    pub async fn merge(&self, path: &str, fields: &Value) -> Result<Value, RequestError> {
        self.call(
            Method::PATCH,
            path,
            Some(("application/merge-patch+json", fields)),
        )
        .await
    }

    async fn call(
        &self,
        method: Method,
        path: &str,
        body: Option<(&'static str, &Value)>,
    ) -> Result<Value, RequestError> {
        let what = format!("{method} {path}");
        timeout(DEADLINE, self.exchange(&what, method, path, body))
            .await
            .map_err(|_| RequestError::Deadline {
                what,
                deadline: DEADLINE,
            })?
    }

    async fn exchange(
        &self,
        what: &str,
        method: Method,
        path: &str,
        body: Option<(&'static str, &Value)>,
    ) -> Result<Value, RequestError> {
        let mut sender = self.sender().await?;
        let request = request(&self.server, method, path, body)?;
        let http = |source| RequestError::Http {
            what: what.to_owned(),
            source,
        };
        let response = sender.send_request(request).await.map_err(http)?;
        let value = answer(what, response).await;
        // After an error the rest of the body may still be on the wire: let that one go.
        if value.is_ok() {
            *self.idle.lock().await = Some(sender);
        }
        value
    }

    /// The idle connection if the server has not closed it, else a new one.
    async fn sender(&self) -> Result<SendRequest<Body>, RequestError> {
        if let Some(mut sender) = self.idle.lock().await.take()
            && sender.ready().await.is_ok()
        {
            return Ok(sender);
        }
        connect(&self.server, &self.tls).await
    }
}

impl std::fmt::Debug for Client {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Client")
            .field("server", &self.server)
            .finish_non_exhaustive()
    }
}

pub(crate) fn request(
    server: &Server,
    method: Method,
    path: &str,
    body: Option<(&'static str, &Value)>,
) -> Result<Request<Body>, RequestError> {
    let mut builder = Request::builder()
        .method(method)
        .uri(path)
        .header(HOST, server.authority())
        .header(ACCEPT, "application/json");
    let mut bytes = Bytes::new();
    if let Some((content_type, value)) = body {
        builder = builder.header(CONTENT_TYPE, content_type);
        bytes = Bytes::from(value.to_string());
    }
    builder
        .body(Full::new(bytes))
        .map_err(|source| RequestError::Path {
            path: path.to_owned(),
            source,
        })
}

async fn answer(what: &str, response: Response<Incoming>) -> Result<Value, RequestError> {
    let status = response.status();
    let bytes = collect(what, response.into_body()).await?;
    if !status.is_success() {
        return Err(refusal(what, status, &bytes));
    }
    serde_json::from_slice(&bytes).map_err(|source| RequestError::Decode {
        what: what.to_owned(),
        source,
    })
}

pub(crate) async fn collect(what: &str, body: Incoming) -> Result<Bytes, RequestError> {
    match Limited::new(body, LARGEST_ANSWER).collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) => Err(match error.downcast::<hyper::Error>() {
            Ok(source) => RequestError::Http {
                what: what.to_owned(),
                source: *source,
            },
            Err(_) => RequestError::TooLarge {
                what: what.to_owned(),
                limit: LARGEST_ANSWER,
            },
        }),
    }
}

/// Turns the server's Status object (or whatever came) into an error.
pub(crate) fn refusal(what: &str, status: StatusCode, body: &[u8]) -> RequestError {
    let object: Value = serde_json::from_slice(body).unwrap_or_default();
    let text = |key: &str| object[key].as_str().map(str::to_owned);
    let start = || {
        String::from_utf8_lossy(body)
            .trim()
            .chars()
            .take(200)
            .collect()
    };
    RequestError::Status {
        what: what.to_owned(),
        code: status.as_u16(),
        reason: text("reason").unwrap_or_default(),
        message: text("message").unwrap_or_else(start),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_object_becomes_an_error_with_its_words() {
        let body = br#"{"kind":"Status","reason":"NotFound","message":"nodes \"a\" not found"}"#;
        let error = refusal("GET /api/v1/nodes/a", StatusCode::NOT_FOUND, body);
        assert_eq!(error.status_code(), Some(404));
        assert_eq!(
            error.to_string(),
            "GET /api/v1/nodes/a was refused: 404 NotFound: nodes \"a\" not found"
        );
    }

    #[test]
    fn a_refusal_that_is_no_json_shows_its_start() {
        let error = refusal("GET /x", StatusCode::BAD_GATEWAY, b"  no upstream\n");
        assert!(error.to_string().ends_with("502 : no upstream"), "{error}");
    }

    #[test]
    fn a_path_that_cannot_be_sent_is_an_error() {
        let server = Server::parse("https://127.0.0.1:6443").unwrap();
        let error = request(&server, Method::GET, "/a b", None).unwrap_err();
        assert_eq!(error.to_string(), "\"/a b\" is not a request path");
    }
}
