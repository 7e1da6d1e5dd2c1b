//! Upgrades of the node of the tests: takes a bundle as a node does, and ends as the test wants.

use std::future::pending;
use std::pin::Pin;

use futures_util::stream::{Stream, iter};
use keelson_api::v1alpha1::upgrades_server::Upgrades;
#[allow(clippy::wildcard_imports, reason = "nearly all messages of the API")]
use keelson_api::v1alpha1::*;
use keelson_bundle::{Manifest, UnverifiedHead};
use tonic::{Request, Status, async_trait};

use super::{Answer, TIME, answer};
use crate::fake::State;

/// Bytes of the blocks of this node's bundles, which are all as long as each other.
pub(crate) const BLOCK: usize = 70_000;

/// What became of the bundle so far.
#[derive(Default)]
pub(crate) struct FakeUpgrade {
    /// Of what was begun.
    manifest: Option<Manifest>,
    head_bytes: usize,
    total: usize,
    stage: bool,
    phase: UpgradePhase,
    last: Option<UpgradeOutcome>,
    /// Blocks as they came.
    pub(crate) received: Vec<u8>,
    /// How its trial ends: good or rolled-back.
    pub(crate) ends: &'static str,
    /// Why nothing is taken.
    pub(crate) refuses: Option<&'static str>,
    /// The connection breaks once so many bytes have come, and machined is started again.
    pub(crate) breaks_at: Option<usize>,
}

impl FakeUpgrade {
    fn status(&self) -> UpgradeStatus {
        let mut status = UpgradeStatus {
            from_version: "0.1.0".to_owned(),
            last: self.last.clone(),
            ..UpgradeStatus::default()
        };
        status.phase = self.phase.into();
        if self.phase == UpgradePhase::Unspecified {
            status.phase = UpgradePhase::None.into();
        }
        let Some(manifest) = &self.manifest else {
            return status;
        };
        status.upgrade = "up".to_owned();
        status.slot = "b".to_owned();
        status.version = manifest.version().to_string();
        status.build_id = manifest.build().to_string();
        status.bytes_total = self.total as u64;
        status.bytes_done = self.received.len() as u64;
        if self.phase == UpgradePhase::Receiving {
            let offset = self.received.len() % BLOCK;
            status.wants_block = u32::try_from(self.received.len() / BLOCK).unwrap();
            status.wants_offset = offset as u64;
            status.wants_position = (self.head_bytes + self.received.len()) as u64;
            let left = (BLOCK - offset).min(self.total - self.received.len());
            status.wants_bytes = u32::try_from(left).unwrap();
        }
        if self.phase == UpgradePhase::Trial {
            status.reason = "services: kubelet is starting".to_owned();
        }
        if self.phase == UpgradePhase::Failed {
            status.reason = "machined was started again".to_owned();
        }
        status
    }

    /// Every look finds it a bit further.
    fn goes_on(&mut self) {
        self.phase = match self.phase {
            UpgradePhase::Checking => UpgradePhase::Receiving,
            UpgradePhase::Verifying if self.stage => UpgradePhase::Staged,
            UpgradePhase::Verifying => UpgradePhase::Draining,
            UpgradePhase::Draining => UpgradePhase::Rebooting,
            UpgradePhase::Rebooting => UpgradePhase::Trial,
            UpgradePhase::Trial => {
                self.end(self.ends, "of the test");
                UpgradePhase::None
            }
            other => other,
        };
    }

    fn end(&mut self, result: &str, reason: &str) {
        let manifest = self.manifest.take();
        self.last = Some(UpgradeOutcome {
            result: result.to_owned(),
            version: manifest
                .as_ref()
                .map_or_else(String::new, |m| m.version().to_string()),
            build_id: manifest
                .as_ref()
                .map_or_else(String::new, |m| m.build().to_string()),
            slot: "b".to_owned(),
            time: TIME.to_owned(),
            reason: reason.to_owned(),
            starts: vec![TrialStart {
                time: TIME.to_owned(),
                reached: "services".to_owned(),
                missing: String::new(),
            }],
        });
        self.phase = UpgradePhase::None;
    }
}

impl State {
    fn order(
        &self,
        what: &str,
        act: impl FnOnce(&mut FakeUpgrade) -> Result<(), Status>,
    ) -> Answer<UpgradeStatus> {
        let mut upgrade = self.upgrade.lock().unwrap();
        act(&mut upgrade)?;
        let status = upgrade.status();
        drop(upgrade);
        self.did(what.to_owned());
        answer(status)
    }
}

#[async_trait]
impl Upgrades for State {
    type VerifyStream = Pin<Box<dyn Stream<Item = Result<VerifySlotResponse, Status>> + Send>>;

    async fn activate(&self, _: Request<ActivateUpgradeRequest>) -> Answer<UpgradeStatus> {
        self.order("activate", |upgrade| match upgrade.phase {
            UpgradePhase::Staged => {
                upgrade.phase = UpgradePhase::Draining;
                Ok(())
            }
            _ => Err(Status::failed_precondition("nothing is staged")),
        })
    }

    async fn begin(&self, request: Request<BeginUpgradeRequest>) -> Answer<UpgradeStatus> {
        let BeginUpgradeRequest { head, options } = request.into_inner();
        let options = options.unwrap();
        let what = format!(
            "begin stage={} drain={} downgrade={} force={}",
            options.stage, !options.no_drain, options.allow_downgrade, options.force
        );
        self.order(&what, |upgrade| {
            if let Some(reason) = upgrade.refuses {
                return Err(Status::failed_precondition(reason));
            }
            let claims = UnverifiedHead::read(&mut head.as_slice())
                .unwrap()
                .claims()
                .unwrap();
            upgrade.total = usize::try_from(claims.boot().size).unwrap();
            upgrade.manifest = Some(claims);
            upgrade.head_bytes = head.len();
            upgrade.stage = options.stage;
            upgrade.phase = UpgradePhase::Checking;
            Ok(())
        })
    }

    async fn cancel(&self, _: Request<CancelUpgradeRequest>) -> Answer<UpgradeStatus> {
        self.order("cancel", |upgrade| {
            upgrade.end("cancelled", "ana gave it up");
            Ok(())
        })
    }

    async fn pause(&self, _: Request<PauseUpgradeRequest>) -> Answer<UpgradeStatus> {
        self.order("pause", |_| Ok(()))
    }

    async fn resume(&self, _: Request<ResumeUpgradeRequest>) -> Answer<UpgradeStatus> {
        self.order("resume", |_| {
            Err(Status::failed_precondition("nothing is paused"))
        })
    }

    async fn rollback(&self, _: Request<RollbackRequest>) -> Answer<UpgradeStatus> {
        self.order("rollback", |upgrade| {
            if upgrade.phase == UpgradePhase::Trial {
                upgrade.end("rolled-back", "ana rolled it back");
            }
            Ok(())
        })
    }

    async fn send(&self, request: Request<SendUpgradeRequest>) -> Answer<UpgradeStatus> {
        let SendUpgradeRequest {
            upgrade: name,
            block,
            offset,
            data,
        } = request.into_inner();
        let breaks = {
            let mut upgrade = self.upgrade.lock().unwrap();
            assert_eq!(name, "up");
            let wants = upgrade.status();
            if (block, offset) == (wants.wants_block, wants.wants_offset) {
                assert!(data.len() <= wants.wants_bytes as usize);
                upgrade.received.extend_from_slice(&data);
            }
            if upgrade.received.len() == upgrade.total {
                upgrade.phase = UpgradePhase::Verifying;
            }
            let breaks = upgrade
                .breaks_at
                .is_some_and(|at| upgrade.received.len() >= at);
            if breaks {
                upgrade.breaks_at = None;
                upgrade.phase = UpgradePhase::Failed;
            }
            breaks
        };
        if breaks {
            self.cut();
            return pending().await;
        }
        answer(self.upgrade.lock().unwrap().status())
    }

    async fn slots(&self, _: Request<ListSlotsRequest>) -> Answer<ListSlotsResponse> {
        let slot = |name: &str, running, state: &str, version: &str| Slot {
            name: name.to_owned(),
            running,
            default: running,
            state: state.to_owned(),
            version: version.to_owned(),
            ..Slot::default()
        };
        answer(ListSlotsResponse {
            slots: vec![
                slot("a", true, "good", "0.1.0"),
                slot("b", false, "failed", "0.2.0"),
            ],
        })
    }

    async fn status(&self, _: Request<UpgradeStatusRequest>) -> Answer<UpgradeStatus> {
        let mut upgrade = self.upgrade.lock().unwrap();
        upgrade.goes_on();
        answer(upgrade.status())
    }

    async fn verify(&self, request: Request<VerifySlotRequest>) -> Answer<Self::VerifyStream> {
        let good = request.into_inner().slot == "a";
        let part = |done, finished| {
            Ok(VerifySlotResponse {
                bytes_total: 2048,
                bytes_done: done,
                finished,
                good,
                reason: if good {
                    "all well"
                } else {
                    "the root part is damaged"
                }
                .to_owned(),
            })
        };
        answer(Box::pin(iter(vec![part(1024, false), part(2048, true)])))
    }
}
