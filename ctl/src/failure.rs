//! Why a command ended early, and the exit code for it.

use std::io;
use std::path::{Path, PathBuf};

use keelson_client::{CallError, ConnectError, ContextsError, CredentialsError, Endpoint};
use keelson_control::chain;

use crate::exit::Exit;
use crate::terminal;

/// One node did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NodeFailure {
    #[error(transparent)]
    Call(#[from] CallError),
    #[error(transparent)]
    Connect(#[from] ConnectError),
}

impl NodeFailure {
    /// A node that restarts looks like this: asking again may help.
    pub(crate) fn may_pass(&self) -> bool {
        match self {
            Self::Call(call) => match call {
                CallError::Deadline { .. }
                | CallError::Lost { .. }
                | CallError::Unavailable { .. } => true,
                CallError::CertificateRefused { .. }
                | CallError::Failed { .. }
                | CallError::NotPermitted { .. } => false,
            },
            Self::Connect(connect) => match connect {
                ConnectError::Deadline
                | ConnectError::Http2(_)
                | ConnectError::Refused
                | ConnectError::Resolve { .. }
                | ConnectError::Tcp(_)
                | ConnectError::Tls(_)
                // Its clock may not be set yet.
                | ConnectError::NotValidNow(_) => true,
                ConnectError::NotPinned
                | ConnectError::NotTrusted(_)
                | ConnectError::OtherName(_)
                | ConnectError::ServerName { .. }
                | ConnectError::Setup(_) => false,
            },
        }
    }

    pub(crate) fn exit(&self) -> Exit {
        match self {
            Self::Connect(_) => Exit::Unreachable,
            Self::Call(call) => match call {
                CallError::Deadline { .. }
                | CallError::Lost { .. }
                | CallError::Unavailable { .. } => Exit::Unreachable,
                CallError::CertificateRefused { .. } | CallError::NotPermitted { .. } => {
                    Exit::Refused
                }
                CallError::Failed { .. } => Exit::Failed,
            },
        }
    }
}

/// A command ended early.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// A certificate request could not be made.
    #[error("cannot make a key and a certificate request")]
    CertificateRequest(#[from] rcgen::Error),
    #[error(transparent)]
    Contexts(#[from] ContextsError),
    #[error("context {context:?} cannot be used")]
    Credentials {
        context: String,
        source: CredentialsError,
    },
    #[error("cannot use the fingerprint")]
    Fingerprint(#[source] CredentialsError),
    #[error("cannot {step} {}", .path.display())]
    File {
        step: &'static str,
        path: PathBuf,
        source: io::Error,
    },
    #[error(transparent)]
    Replace(#[from] keelson_durable::ReplaceError),
    #[error("interrupted")]
    Interrupted,
    #[error("{node}")]
    Node { node: Endpoint, source: NodeFailure },
    /// In words of its own.
    #[error("{0}")]
    Other(String),
    #[error("cannot write the output")]
    Output(#[source] io::Error),
    #[error("cannot ask")]
    Prompt(#[source] io::Error),
    #[error("cannot write the answer as JSON")]
    Json(#[from] serde_json::Error),
    #[error("cannot write the answer as YAML")]
    Yaml(#[from] serde_saphyr::SerializeError),
    #[error("{0}")]
    Usage(String),
}

impl Failure {
    pub(crate) fn usage(text: impl Into<String>) -> Self {
        Self::Usage(text.into())
    }

    pub(crate) fn other(text: impl Into<String>) -> Self {
        Self::Other(text.into())
    }

    pub(crate) fn node(node: &Endpoint, source: impl Into<NodeFailure>) -> Self {
        Self::Node {
            node: node.clone(),
            source: source.into(),
        }
    }

    /// For an error on a file.
    pub(crate) fn file(step: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::File { step, path, source }
    }

    fn exit(&self) -> Exit {
        match self {
            Self::Contexts(_) | Self::Usage(_) => Exit::Usage,
            Self::Credentials { source, .. } => match source {
                CredentialsError::Expired { .. } => Exit::Refused,
                _ => Exit::Usage,
            },
            Self::Fingerprint(_)
            | Self::CertificateRequest(_)
            | Self::File { .. }
            | Self::Replace(_)
            | Self::Other(_)
            | Self::Output(_)
            | Self::Prompt(_)
            | Self::Json(_)
            | Self::Yaml(_) => Exit::Failed,
            Self::Interrupted => Exit::Interrupted,
            Self::Node { source, .. } => source.exit(),
        }
    }

    /// Says it, and gives the exit code.
    pub(crate) fn report(&self) -> Exit {
        match self {
            // `keelsonctl … | head` is no failure.
            Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => return Exit::Ok,
            Self::Interrupted => {}
            failure => terminal::note(&format!("keelsonctl: {}", chain(failure))),
        }
        self.exit()
    }
}
