//! How the API asks for upgrades: one queue of requests, and a door of its own for what is sent.

use std::sync::Arc;
use std::time::Duration;

use keelson_api::v1alpha1::{Slot as ApiSlot, UpgradeStatus, VerifySlotResponse};
use keelson_bootstate::Slot;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;
use tonic::{Code, Status};

use super::feed::Feed;

/// Requests that wait; people make them.
const QUEUE: usize = 16;

/// Longest wait for an answer: a cancelled write ends with its piece, a look at the node's health
/// takes as long as its slowest check.
const DEADLINE: Duration = Duration::from_secs(60);

/// A request that is not fulfilled; the text is for the person who made it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub(crate) struct Refused {
    pub(crate) code: Code,
    pub(crate) message: String,
}

impl Refused {
    /// Something is wrong with what was asked for.
    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self {
            code: Code::InvalidArgument,
            message: message.into(),
        }
    }

    /// It cannot be done as things are.
    pub(crate) fn not_now(message: impl Into<String>) -> Self {
        Self {
            code: Code::FailedPrecondition,
            message: message.into(),
        }
    }

    /// The node failed.
    pub(crate) fn failed(error: &dyn std::error::Error) -> Self {
        Self {
            code: Code::Internal,
            message: keelson_control::chain(error),
        }
    }
}

impl From<Refused> for Status {
    fn from(refused: Refused) -> Self {
        Self::new(refused.code, refused.message)
    }
}

/// Where an answer goes.
pub(crate) type Answer<T> = oneshot::Sender<Result<T, Refused>>;

/// How a bundle is installed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Options {
    pub(crate) stage: bool,
    pub(crate) no_drain: bool,
    pub(crate) allow_downgrade: bool,
    pub(crate) force: bool,
}

/// What can be asked for.
#[derive(Debug)]
pub(crate) enum Request {
    Activate {
        no_drain: bool,
        answer: Answer<UpgradeStatus>,
    },
    Begin {
        head: Vec<u8>,
        options: Options,
        answer: Answer<UpgradeStatus>,
    },
    Cancel {
        person: String,
        answer: Answer<UpgradeStatus>,
    },
    Pause {
        person: String,
        answer: Answer<UpgradeStatus>,
    },
    Resume {
        answer: Answer<UpgradeStatus>,
    },
    Rollback {
        person: String,
        no_drain: bool,
        force: bool,
        answer: Answer<UpgradeStatus>,
    },
    Slots {
        answer: Answer<Vec<ApiSlot>>,
    },
    Status {
        answer: Answer<UpgradeStatus>,
    },
    Verify {
        slot: Slot,
        news: mpsc::Sender<Result<VerifySlotResponse, Status>>,
        answer: Answer<()>,
    },
}

impl Request {
    /// Answers that nothing of the kind is possible on this node.
    pub(super) fn refuse(self, reason: &str) {
        let refused = Refused::not_now(format!("this node cannot be upgraded: {reason}"));
        let _ = match self {
            Self::Activate { answer, .. }
            | Self::Begin { answer, .. }
            | Self::Cancel { answer, .. }
            | Self::Pause { answer, .. }
            | Self::Resume { answer }
            | Self::Rollback { answer, .. }
            | Self::Status { answer } => answer.send(Err(refused)).is_ok(),
            Self::Slots { answer } => answer.send(Err(refused)).is_ok(),
            Self::Verify { answer, .. } => answer.send(Err(refused)).is_ok(),
        };
    }
}

/// Asks for upgrades.
#[derive(Clone, Debug)]
pub(crate) struct Upgrades {
    requests: mpsc::Sender<Request>,
    feed: Arc<Feed>,
}

/// The other end.
#[derive(Debug)]
pub(crate) struct Inbox {
    pub(super) requests: mpsc::Receiver<Request>,
    pub(super) feed: Arc<Feed>,
}

/// Both ends.
pub(crate) fn channel() -> (Upgrades, Inbox) {
    let (sender, requests) = mpsc::channel(QUEUE);
    let feed = Arc::new(Feed::default());
    let upgrades = Upgrades {
        requests: sender,
        feed: Arc::clone(&feed),
    };
    (upgrades, Inbox { requests, feed })
}

impl Upgrades {
    /// Asks and waits for the answer.
    pub(crate) async fn ask<T>(
        &self,
        request: impl FnOnce(Answer<T>) -> Request,
    ) -> Result<T, Refused> {
        let (sender, receiver) = oneshot::channel();
        let asked = async {
            self.requests.send(request(sender)).await.ok()?;
            receiver.await.ok()
        };
        match timeout(DEADLINE, asked).await {
            Ok(Some(answer)) => answer,
            Ok(None) | Err(_) => Err(Refused {
                code: Code::Unavailable,
                message: "machined is starting again or has not answered in time; try again"
                    .to_owned(),
            }),
        }
    }

    /// Takes the next bytes of a bundle, then says how things stand.
    pub(crate) async fn send(
        &self,
        upgrade: &str,
        block: u32,
        offset: u64,
        data: Vec<u8>,
    ) -> Result<UpgradeStatus, Refused> {
        self.feed.push(upgrade, block, offset, data).await?;
        self.ask(|answer| Request::Status { answer }).await
    }
}
