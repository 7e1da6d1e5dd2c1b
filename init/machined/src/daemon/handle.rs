//! How others ask the daemon for something: one queue of requests, an answer with a deadline.

use std::net::IpAddr;
use std::time::Duration;

use keelson_api::access::Role;
use keelson_api::v1alpha1::{Certificate, Change};
use keelson_pki::{PersonName, PersonRequest};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::timeout;
use tonic::{Code, Status};

use super::gate::{Gate, GateError};

/// Requests that wait. Callers are people, and apid allows few of them at a time.
const QUEUE: usize = 16;

/// Longest wait for an answer. The daemon writes files and asks PID 1, which has 10 s for each
/// answer; more than this means that it hangs.
const DEADLINE: Duration = Duration::from_secs(30);

/// What everybody may know of the daemon's state.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Summary {
    /// The node waits for a configuration.
    pub(crate) maintenance: bool,
    /// Empty until it is known, as is the machine id.
    pub(crate) node_name: String,
    pub(crate) machine_id: String,
    /// Addresses the node API can be called by.
    pub(crate) addresses: Vec<IpAddr>,
    /// A configuration on trial goes back at this time (RFC 3339) unless confirmed.
    pub(crate) trial_until: Option<String>,
}

/// How a configuration is put into use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Not at all: only say what it would do.
    DryRun,
    /// For good.
    Keep,
    /// For this time, unless it is confirmed.
    Try(Duration),
}

/// What a configuration changes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) changes: Vec<Change>,
    /// Whether some of it is in force only after a reboot.
    pub(crate) reboot: bool,
    /// Services that are started again.
    pub(crate) restarts: Vec<String>,
}

/// What became of a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Applied {
    pub(crate) plan: Plan,
    pub(crate) trial_until: Option<String>,
}

/// The configuration in use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Shown {
    /// Secrets hidden.
    pub(crate) yaml: String,
    pub(crate) revision: String,
}

/// A certificate for a person and the authority of the node's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Admission {
    pub(crate) certificate: String,
    pub(crate) authority: String,
}

/// Why a request was not fulfilled; the text is for the person who made it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RequestError {
    #[error("{0}")]
    Denied(String),
    #[error("{0}")]
    Failed(String),
    #[error("{0}")]
    Invalid(String),
    #[error("{0}")]
    NotFound(String),
    #[error("{0}")]
    NotNow(String),
    #[error("machined is starting again or has not answered in time; try again")]
    Unavailable,
}

impl RequestError {
    /// The gRPC code.
    pub(crate) fn code(&self) -> Code {
        match self {
            Self::Denied(_) => Code::PermissionDenied,
            Self::Failed(_) => Code::Internal,
            Self::Invalid(_) => Code::InvalidArgument,
            Self::NotFound(_) => Code::NotFound,
            Self::NotNow(_) => Code::FailedPrecondition,
            Self::Unavailable => Code::Unavailable,
        }
    }
}

impl From<RequestError> for Status {
    fn from(error: RequestError) -> Self {
        Self::new(error.code(), error.to_string())
    }
}

/// Where an answer goes.
pub(crate) type Answer<T> = oneshot::Sender<Result<T, RequestError>>;

/// What the daemon can be asked for.
#[derive(Debug)]
pub(crate) enum Request {
    Apply {
        yaml: String,
        mode: Mode,
        /// Only if this revision is in use.
        expected: Option<String>,
        answer: Answer<Applied>,
    },
    Certificates {
        answer: Answer<Vec<Certificate>>,
    },
    Configuration {
        defaults: bool,
        answer: Answer<Shown>,
    },
    Confirm {
        answer: Answer<()>,
    },
    Diff {
        yaml: String,
        answer: Answer<Plan>,
    },
    /// The configuration of a node in maintenance, and a certificate for who brought it.
    Feed {
        yaml: String,
        person: PersonName,
        request: PersonRequest,
        answer: Answer<Admission>,
    },
    Issue {
        person: PersonName,
        role: Role,
        lifetime: Option<Duration>,
        request: PersonRequest,
        answer: Answer<Admission>,
    },
    Revert {
        answer: Answer<()>,
    },
    Revoke {
        fingerprint: String,
        answer: Answer<()>,
    },
    /// What is wrong with it, if anything.
    Validate {
        yaml: String,
        answer: Answer<Option<String>>,
    },
}

/// Asks the daemon.
#[derive(Clone, Debug)]
pub(crate) struct Handle {
    requests: mpsc::Sender<Request>,
    summary: watch::Receiver<Summary>,
    gate: Gate,
}

/// The daemon's end.
#[derive(Debug)]
pub(crate) struct Inbox {
    pub(super) requests: mpsc::Receiver<Request>,
    pub(super) summary: watch::Sender<Summary>,
    pub(super) gate: Gate,
}

/// Both ends.
pub(crate) fn channel() -> (Handle, Inbox) {
    let (sender, requests) = mpsc::channel(QUEUE);
    let (summary, receiver) = watch::channel(Summary::default());
    let gate = Gate::default();
    let handle = Handle {
        requests: sender,
        summary: receiver,
        gate: gate.clone(),
    };
    let inbox = Inbox {
        requests,
        summary,
        gate,
    };
    (handle, inbox)
}

impl Handle {
    /// The daemon's state, and every change of it.
    pub(crate) fn summary(&self) -> watch::Receiver<Summary> {
        self.summary.clone()
    }

    /// Puts a configuration into use; with an expected revision only in place of that one.
    pub(crate) async fn apply(
        &self,
        yaml: String,
        mode: Mode,
        expected: Option<String>,
    ) -> Result<Applied, RequestError> {
        self.ask(|answer| Request::Apply {
            yaml,
            mode,
            expected,
            answer,
        })
        .await
    }

    /// Every certificate the node knows.
    pub(crate) async fn certificates(&self) -> Result<Vec<Certificate>, RequestError> {
        self.ask(|answer| Request::Certificates { answer }).await
    }

    /// The configuration in use, secrets hidden.
    pub(crate) async fn configuration(&self, defaults: bool) -> Result<Shown, RequestError> {
        self.ask(|answer| Request::Configuration { defaults, answer })
            .await
    }

    /// Keeps the configuration on trial.
    pub(crate) async fn confirm(&self) -> Result<(), RequestError> {
        self.ask(|answer| Request::Confirm { answer }).await
    }

    /// What a configuration would change.
    pub(crate) async fn diff(&self, yaml: String) -> Result<Plan, RequestError> {
        self.ask(|answer| Request::Diff { yaml, answer }).await
    }

    /// Gives a node in maintenance its configuration. A wrong code slows the next attempt; the
    /// right one is used up only when everything else is in order.
    pub(crate) async fn feed(
        &self,
        code: &str,
        yaml: String,
        request: &str,
    ) -> Result<Admission, RequestError> {
        let admitted = self.gate.admit(code).await?;
        let request = parse_request(request)?;
        let person = request.common_name().unwrap_or_default().parse();
        let person: PersonName = person.map_err(|error| {
            RequestError::Invalid(format!("the certificate request's common name: {error}"))
        })?;
        let admission = self
            .ask(|answer| Request::Feed {
                yaml,
                person,
                request,
                answer,
            })
            .await?;
        admitted.use_up();
        Ok(admission)
    }

    /// Signs for a person.
    pub(crate) async fn issue(
        &self,
        request: &str,
        person: &str,
        role: &str,
        lifetime: Option<Duration>,
    ) -> Result<Admission, RequestError> {
        let request = parse_request(request)?;
        let invalid = |error: &dyn std::error::Error| RequestError::Invalid(error.to_string());
        let person = person.parse::<PersonName>().map_err(|e| invalid(&e))?;
        let role = role.parse::<Role>().map_err(|e| invalid(&e))?;
        self.ask(|answer| Request::Issue {
            person,
            role,
            lifetime,
            request,
            answer,
        })
        .await
    }

    /// Ends a trial at once.
    pub(crate) async fn revert(&self) -> Result<(), RequestError> {
        self.ask(|answer| Request::Revert { answer }).await
    }

    /// From now on a certificate gets nothing.
    pub(crate) async fn revoke(&self, fingerprint: &str) -> Result<(), RequestError> {
        let hexadecimal = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        if fingerprint.len() != 64 || !fingerprint.bytes().all(hexadecimal) {
            return Err(RequestError::Invalid(
                "a fingerprint is 64 hexadecimal digits in lower case, as `keelsonctl cert list -o wide` \
                 shows it"
                    .to_owned(),
            ));
        }
        let fingerprint = fingerprint.to_owned();
        self.ask(|answer| Request::Revoke {
            fingerprint,
            answer,
        })
        .await
    }

    /// What is wrong with a configuration; `None` when this node could use it.
    pub(crate) async fn validate(&self, yaml: String) -> Result<Option<String>, RequestError> {
        self.ask(|answer| Request::Validate { yaml, answer }).await
    }

    async fn ask<T>(&self, request: impl FnOnce(Answer<T>) -> Request) -> Result<T, RequestError> {
        let (sender, receiver) = oneshot::channel();
        let asked = async {
            self.requests.send(request(sender)).await.ok()?;
            receiver.await.ok()
        };
        match timeout(DEADLINE, asked).await {
            Ok(Some(answer)) => answer,
            Ok(None) | Err(_) => Err(RequestError::Unavailable),
        }
    }
}

fn parse_request(pem: &str) -> Result<PersonRequest, RequestError> {
    PersonRequest::parse(pem).map_err(|error| RequestError::Invalid(keelson_control::chain(&error)))
}

impl From<GateError> for RequestError {
    fn from(error: GateError) -> Self {
        match error {
            GateError::Closed | GateError::TooMany => Self::NotNow(error.to_string()),
            GateError::Wrong { .. } => Self::Denied(error.to_string()),
        }
    }
}
