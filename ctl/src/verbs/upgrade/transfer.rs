//! Gives a node what it wants of a bundle, over as many connections as that takes.

use std::time::{Duration, Instant};

use keelson_api::v1alpha1::{
    BeginUpgradeRequest, SendUpgradeRequest, UpgradeOptions, UpgradeOutcome, UpgradePhase,
    UpgradeStatus,
};
use keelson_client::{Endpoint, Node};
use keelson_control::chain;
use tokio::time::sleep;

use super::progress::Progress;
use super::source::{Head, Source};
use super::{PATIENT, asked, follow};
use crate::exit::Exit;
use crate::failure::{Failure, NodeFailure};
use crate::session::Session;
use crate::terminal::note;
use crate::units::span;

/// Bytes of one piece: at first, and at most. apid gives a request a minute.
const FIRST_PIECE: usize = 256 * 1024;
const LARGEST_PIECE: usize = 1024 * 1024;

/// A piece that takes less than this may be larger, one that takes more than four times as long
/// should be smaller.
const EASY: Duration = Duration::from_secs(2);

/// Between two looks at a node that does not want anything.
const LOOK: Duration = Duration::from_secs(1);

/// How long a lost node is tried again.
const PATIENCE: Duration = Duration::from_secs(600);

/// Between two attempts.
const RETRY: Duration = Duration::from_secs(3);

/// How often a transfer that the node gave up is begun again: a restarted machined, a reboot.
const BEGINNINGS: u32 = 3;

/// One bundle for one node.
pub(super) struct Transfer<'a> {
    pub(super) session: &'a Session,
    pub(super) endpoint: &'a Endpoint,
    pub(super) head: &'a Head,
    pub(super) options: UpgradeOptions,
    pub(super) progress: Progress,
}

/// Where a transfer is.
enum Step {
    /// The bundle is of no use any more, or done.
    End(Exit),
    /// There is more to do.
    Again,
}

impl Transfer<'_> {
    /// How the last upgrade ended, to tell its end from that of this one.
    pub(super) async fn outcome_before(&self) -> Result<Option<UpgradeOutcome>, Failure> {
        let failed = |error: NodeFailure| Failure::node(self.endpoint, error);
        let node = self.session.connect(self.endpoint).await.map_err(failed)?;
        let status = asked(&node).await.map_err(|error| failed(error.into()))?;
        Ok(status.last)
    }

    /// Sends until the other slot is complete and, unless it is only staged, the node leaves.
    pub(super) async fn send(&mut self, source: &mut Source) -> Result<Exit, Failure> {
        let mut begun = 0;
        let mut lost: Option<Instant> = None;
        loop {
            let worked = self.over_one_connection(source, &mut begun).await;
            self.progress.end();
            let failure = match worked {
                Ok(exit) => return Ok(exit),
                Err(Broken::Here(failure)) => return Err(failure),
                Err(Broken::Node(failure)) => failure,
            };
            // What a node refuses it refuses again, and nobody waits for a wrong address.
            if begun == 0 || !failure.may_pass() {
                return Err(Failure::node(self.endpoint, failure));
            }
            let since = *lost.get_or_insert_with(Instant::now);
            if since.elapsed() > PATIENCE {
                note(&format!(
                    "{}: no connection for {}; the same command goes on where this one stopped",
                    self.endpoint,
                    span(PATIENCE)
                ));
                return Err(Failure::node(self.endpoint, failure));
            }
            note(&format!(
                "{}: {}; trying again",
                self.endpoint,
                chain(&failure)
            ));
            sleep(RETRY).await;
        }
    }

    async fn over_one_connection(
        &mut self,
        source: &mut Source,
        begun: &mut u32,
    ) -> Result<Exit, Broken> {
        let node = self.session.connect(self.endpoint).await?;
        // A node that is on its way out begins nothing more.
        let mut status = asked(&node).await?;
        if !self.is_ours(&status) {
            status = self.begin(&node, begun).await?;
        }
        let mut piece = FIRST_PIECE;
        let mut ahead: Option<(u64, Vec<u8>)> = None;
        loop {
            if status.phase() == UpgradePhase::Receiving && status.wants_bytes > 0 {
                status = self
                    .give(&node, source, &status, &mut piece, &mut ahead)
                    .await?;
                continue;
            }
            match self.look(&status)? {
                Step::End(exit) => return Ok(exit),
                Step::Again => {}
            }
            sleep(LOOK).await;
            status = asked(&node).await?;
            if !self.is_ours(&status) {
                status = self.begin(&node, begun).await?;
            }
        }
    }

    /// Whether the node is busy with this bundle.
    fn is_ours(&self, status: &UpgradeStatus) -> bool {
        let busy = !matches!(
            status.phase(),
            UpgradePhase::None | UpgradePhase::Failed | UpgradePhase::Unspecified
        );
        busy && status.build_id == self.head.build
            && (status.phase() != UpgradePhase::Staged || self.options.stage)
    }

    async fn begin(&mut self, node: &Node, begun: &mut u32) -> Result<UpgradeStatus, Broken> {
        if *begun == BEGINNINGS {
            return Err(Broken::Here(Failure::other(format!(
                "{}: the node has given the transfer up {BEGINNINGS} times; see `keelsonctl \
                 upgrade status`",
                self.endpoint
            ))));
        }
        self.progress
            .words("the node looks at the bundle and at its own health");
        let request = BeginUpgradeRequest {
            head: self.head.bytes.clone(),
            options: Some(self.options),
        };
        let status = node.call(PATIENT, node.upgrades().begin(request)).await?;
        *begun += 1;
        Ok(status)
    }

    /// Sends the next piece while the one after it is read.
    async fn give(
        &mut self,
        node: &Node,
        source: &mut Source,
        status: &UpgradeStatus,
        piece: &mut usize,
        ahead: &mut Option<(u64, Vec<u8>)>,
    ) -> Result<UpgradeStatus, Broken> {
        self.progress
            .bytes("sending", status.bytes_done, status.bytes_total);
        let left = usize::try_from(status.wants_bytes).unwrap_or(usize::MAX);
        let position = status.wants_position;
        let mut data = match ahead.take() {
            Some((at, data)) if at == position => data,
            _ => source.read(position, left.min(*piece)).await?,
        };
        data.truncate(left);
        if data.is_empty() {
            return Err(Broken::Here(Failure::other(
                "the bundle ends before its last block: the file is not complete",
            )));
        }
        let next = position + u64::try_from(data.len()).unwrap_or_default();
        let request = SendUpgradeRequest {
            upgrade: status.upgrade.clone(),
            block: status.wants_block,
            offset: status.wants_offset,
            data,
        };
        let begun = Instant::now();
        let mut upgrades = node.upgrades();
        let (sent, read) = tokio::join!(
            node.call(PATIENT, upgrades.send(request)),
            source.read(next, *piece)
        );
        let took = begun.elapsed();
        *ahead = Some((next, read?));
        if took < EASY {
            *piece = (*piece * 2).min(LARGEST_PIECE);
        } else if took > EASY * 4 {
            *piece = (*piece / 2).max(FIRST_PIECE / 4);
        }
        Ok(sent?)
    }

    /// What a phase means for who sends.
    fn look(&mut self, status: &UpgradeStatus) -> Result<Step, Broken> {
        match status.phase() {
            UpgradePhase::Checking => {
                self.progress
                    .words("the node compares what is in its other slot already");
            }
            UpgradePhase::Receiving => {
                let (done, total) = (status.bytes_done, status.bytes_total);
                self.progress.bytes("sending", done, total);
            }
            UpgradePhase::Verifying => {
                let (done, total) = (status.verified_bytes, status.written_bytes);
                self.progress.bytes("verifying", done, total);
            }
            UpgradePhase::Paused => self.progress.words(&status.reason),
            UpgradePhase::Draining => {
                self.progress
                    .words("the node moves its pods to other nodes");
            }
            UpgradePhase::Staged if self.options.stage => {
                self.progress.end();
                note(&format!(
                    "{}: version {} is complete in slot {}; `keelsonctl upgrade activate` reboots \
                     into it",
                    self.endpoint, status.version, status.slot
                ));
                return Ok(Step::End(Exit::Ok));
            }
            UpgradePhase::Staged => {}
            UpgradePhase::Rebooting | UpgradePhase::Trial => {
                self.progress.end();
                note(&format!("{}: {}", self.endpoint, follow::in_words(status)));
                return Ok(Step::End(Exit::Ok));
            }
            UpgradePhase::Failed | UpgradePhase::None | UpgradePhase::Unspecified => {
                return Err(Broken::Here(Failure::other(format!(
                    "{}: {}",
                    self.endpoint,
                    follow::in_words(status)
                ))));
            }
        }
        Ok(Step::Again)
    }
}

/// Why a connection's work ended.
enum Broken {
    Here(Failure),
    Node(NodeFailure),
}

impl<E: Into<NodeFailure>> From<E> for Broken {
    fn from(failure: E) -> Self {
        Self::Node(failure.into())
    }
}

impl From<Failure> for Broken {
    fn from(failure: Failure) -> Self {
        Self::Here(failure)
    }
}
