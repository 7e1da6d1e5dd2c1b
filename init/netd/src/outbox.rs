//! What netd tells PID 1, in order, and again until it was heard.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use keelson_control::{AsyncClient, ClientError, Level, chain};
use tokio::sync::mpsc;

/// More than netd has to say in any one moment; beyond that, lines for people are dropped.
const QUEUE: usize = 64;

/// Between attempts to reach PID 1, which is either there or about to reboot the machine.
const RETRY_DELAY: Duration = Duration::from_secs(1);

/// One thing to tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Letter {
    /// Set these facts and raise this condition.
    Raise {
        condition: &'static str,
        facts: BTreeMap<String, String>,
    },
    /// A line on the console.
    Message { level: Level, text: String },
}

/// The sending end.
#[derive(Clone, Debug)]
pub(crate) struct Outbox {
    letters: mpsc::Sender<Letter>,
}

impl Outbox {
    /// The sending end and the one that [`deliver`] (or a test) empties.
    pub(crate) fn new() -> (Self, mpsc::Receiver<Letter>) {
        let (letters, receiver) = mpsc::channel(QUEUE);
        (Self { letters }, receiver)
    }

    /// Waits for room: a condition must not get lost.
    pub(crate) async fn raise(&self, condition: &'static str, facts: BTreeMap<String, String>) {
        // The receiver lives as long as the process.
        let _ = self.letters.send(Letter::Raise { condition, facts }).await;
    }

    /// Does not wait.
    pub(crate) fn message(&self, level: Level, text: String) {
        match level {
            Level::Error => tracing::error!("{text}"),
            Level::Warn => tracing::warn!("{text}"),
            Level::Info => tracing::info!("{text}"),
        }
        if self
            .letters
            .try_send(Letter::Message { level, text })
            .is_err()
        {
            tracing::warn!("PID 1 does not listen; the line before did not reach the console");
        }
    }
}

/// Hands everything to PID 1, for ever.
pub(crate) async fn deliver(socket: PathBuf, mut letters: mpsc::Receiver<Letter>) {
    while let Some(letter) = letters.recv().await {
        while let Err(error) = hand_over(&socket, &letter).await {
            if matches!(error, ClientError::Refused { .. }) {
                tracing::error!("{}", chain(&error));
                break;
            }
            tracing::warn!("{}; trying again", chain(&error));
            tokio::time::sleep(RETRY_DELAY).await;
        }
    }
}

/// A connection each: netd speaks a few times per boot, PID 1 need not keep one open.
async fn hand_over(socket: &Path, letter: &Letter) -> Result<(), ClientError> {
    let mut client = AsyncClient::connect_to(socket).await?;
    match letter {
        Letter::Raise { condition, facts } => client.set(facts.clone(), &[*condition]).await,
        Letter::Message { level, text } => client.message(*level, text).await,
    }
}
