//! Calls over a connection: each has a deadline, and each failure a cause a person can act on.

use std::error::Error;
use std::future::poll_fn;
use std::time::Duration;

use http::{Request, StatusCode, Uri};
use http_body_util::{BodyExt, Limited};
use keelson_api::v1alpha1::certificates_client::CertificatesClient;
use keelson_api::v1alpha1::configuration_client::ConfigurationClient;
use keelson_api::v1alpha1::files_client::FilesClient;
use keelson_api::v1alpha1::logs_client::LogsClient;
use keelson_api::v1alpha1::maintenance_client::MaintenanceClient;
use keelson_api::v1alpha1::resources_client::ResourcesClient;
use keelson_api::v1alpha1::services_client::ServicesClient;
use keelson_api::v1alpha1::system_client::SystemClient;
use keelson_api::v1alpha1::upgrades_client::UpgradesClient;
use keelson_api::{MAX_MESSAGE_BYTES, METRICS_PATH};
use tokio::time::timeout;
use tonic::body::Body;
use tonic::transport::Channel;
use tonic::{Code, Response, Status, Streaming};
use tower_service::Service;

use crate::transport::Ended;

/// A connection to a node.
#[derive(Clone, Debug)]
pub struct Node {
    channel: Channel,
    ended: Ended,
}

macro_rules! clients {
    ($($name:ident $client:ident;)*) => {
        $(
            /// Client of this service.
            #[must_use]
            pub fn $name(&self) -> $client<Channel> {
                $client::new(self.channel.clone())
                    .max_decoding_message_size(MAX_MESSAGE_BYTES)
                    .max_encoding_message_size(MAX_MESSAGE_BYTES)
            }
        )*
    };
}

impl Node {
    pub(crate) fn new(channel: Channel, ended: Ended) -> Self {
        Self { channel, ended }
    }

    clients! {
        certificates CertificatesClient;
        configuration ConfigurationClient;
        files FilesClient;
        logs LogsClient;
        maintenance MaintenanceClient;
        resources ResourcesClient;
        services ServicesClient;
        system SystemClient;
        upgrades UpgradesClient;
    }

    /// Waits for the answer to a call: `node.call(deadline, node.system().status(request))`.
    ///
    /// # Errors
    /// Why there is none.
    pub async fn call<T>(
        &self,
        deadline: Duration,
        call: impl Future<Output = Result<Response<T>, Status>>,
    ) -> Result<T, CallError> {
        match timeout(deadline, call).await {
            Ok(Ok(response)) => Ok(response.into_inner()),
            Ok(Err(status)) => Err(explain(&status, &self.ended)),
            Err(_) => Err(CallError::Deadline { deadline }),
        }
    }

    /// Begins a call that is answered by many messages.
    ///
    /// # Errors
    /// Why it does not begin.
    pub async fn answers<T>(
        &self,
        deadline: Duration,
        call: impl Future<Output = Result<Response<Streaming<T>>, Status>>,
    ) -> Result<Answers<T>, CallError> {
        Ok(Answers {
            stream: self.call(deadline, call).await?,
            ended: self.ended.clone(),
        })
    }

    /// The node in numbers, in the text format of Prometheus.
    ///
    /// # Errors
    /// Why there are none.
    pub async fn metrics(&self, deadline: Duration) -> Result<String, CallError> {
        match timeout(deadline, get_text(self.channel.clone(), METRICS_PATH)).await {
            Ok(text) => text.map_err(|status| explain(&status, &self.ended)),
            Err(_) => Err(CallError::Deadline { deadline }),
        }
    }
}

/// The one request that is no gRPC call; refusals come as gRPC has them all the same.
async fn get_text(mut channel: Channel, path: &'static str) -> Result<String, Status> {
    let lost = |error: tonic::transport::Error| Status::from_error(Box::new(error));
    let mut request = Request::new(Body::empty());
    *request.uri_mut() = Uri::from_static(path);
    poll_fn(|context| channel.poll_ready(context))
        .await
        .map_err(lost)?;
    let response = channel.call(request).await.map_err(lost)?;
    if let Some(status) = Status::from_header_map(response.headers()) {
        return Err(status);
    }
    let code = response.status();
    let body = Limited::new(response.into_body(), MAX_MESSAGE_BYTES);
    let bytes = body.collect().await.map_err(Status::from_error)?.to_bytes();
    let text = String::from_utf8_lossy(&bytes).into_owned();
    if code == StatusCode::OK {
        Ok(text)
    } else {
        Err(Status::unknown(text.trim().to_owned()))
    }
}

/// The messages that answer one call.
#[derive(Debug)]
pub struct Answers<T> {
    stream: Streaming<T>,
    ended: Ended,
}

impl<T> Answers<T> {
    /// The next message; `None` after the last one. Without a deadline only the connection's
    /// keep-alive bounds the wait.
    ///
    /// # Errors
    /// Why there is none.
    pub async fn next(&mut self, deadline: Option<Duration>) -> Result<Option<T>, CallError> {
        let message = match deadline {
            None => self.stream.message().await,
            Some(deadline) => timeout(deadline, self.stream.message())
                .await
                .map_err(|_| CallError::Deadline { deadline })?,
        };
        message.map_err(|status| explain(&status, &self.ended))
    }
}

/// A call has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// The node refused the certificate.
    #[error(
        "the node does not accept your certificate ({why}); it may be revoked, expired or from another authority: ask someone with the role admin for a new one (`keelsonctl cert issue`)"
    )]
    CertificateRefused {
        /// What TLS says.
        why: String,
    },
    /// Nothing within the deadline.
    #[error("no answer within {} s; wait longer with --timeout", .deadline.as_secs_f32())]
    Deadline {
        /// How long it was waited for.
        deadline: Duration,
    },
    /// The node answered with an error.
    #[error("{message}")]
    Failed {
        /// In its words.
        message: String,
    },
    /// The connection broke.
    #[error("the connection was lost ({why}); the node may be going down, or its API restarts")]
    Lost {
        /// What the system says.
        why: String,
    },
    /// The person may not do that.
    #[error("not permitted: {message}")]
    NotPermitted {
        /// In the node's words.
        message: String,
    },
    /// Parts of the node are not there for the moment.
    #[error(
        "the node cannot answer right now ({message}); machined may be starting: try again in some seconds"
    )]
    Unavailable {
        /// In its words.
        message: String,
    },
}

fn explain(status: &Status, ended: &Ended) -> CallError {
    match ended.why() {
        Some(rustls::Error::AlertReceived(alert)) => {
            return CallError::CertificateRefused {
                why: format!("{alert:?}"),
            };
        }
        Some(other) => {
            return CallError::Lost {
                why: other.to_string(),
            };
        }
        None => {}
    }
    // Only what happened on this side has a source.
    if let Some(why) = last_cause(status) {
        return CallError::Lost { why };
    }
    let message = match status.message() {
        "" => status.code().description().to_owned(),
        message => message.to_owned(),
    };
    match status.code() {
        Code::PermissionDenied | Code::Unauthenticated => CallError::NotPermitted { message },
        Code::Unavailable => CallError::Unavailable { message },
        Code::Unimplemented => CallError::Failed {
            message: format!("{message}; the node's version may be older than this program's"),
        },
        _ => CallError::Failed { message },
    }
}

fn last_cause(status: &Status) -> Option<String> {
    let mut cause = status.source()?;
    while let Some(next) = cause.source() {
        cause = next;
    }
    Some(cause.to_string())
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[test]
    fn what_the_node_says_is_told_from_what_happened_here() {
        let said = |status: Status| explain(&status, &Ended::default());
        assert!(matches!(
            said(Status::permission_denied("this call needs the role admin")),
            CallError::NotPermitted { message } if message.contains("admin")
        ));
        assert!(matches!(
            said(Status::unavailable("machined does not answer")),
            CallError::Unavailable { .. }
        ));
        assert_eq!(
            said(Status::not_found("no service \"x\"")),
            CallError::Failed {
                message: "no service \"x\"".to_owned()
            }
        );
        let broken = io::Error::from(io::ErrorKind::ConnectionReset);
        assert!(matches!(
            said(Status::from_error(Box::new(broken))),
            CallError::Lost { why } if why.contains("reset")
        ));
    }
}
