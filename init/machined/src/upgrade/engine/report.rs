//! How things stand, for people.

use std::sync::Arc;

use keelson_api::v1alpha1::{
    Slot as ApiSlot, TrialStart, UpgradeOutcome, UpgradePhase, UpgradeStatus, VerifySlotResponse,
};
use keelson_bootstate::signature::{Context, KeyCertificate};
use keelson_bootstate::{HEADER_SIZE, HeaderError, SIGNED_SIZE, Slot, SlotHeader, SlotPage};
use keelson_control::chain;
use tokio::sync::mpsc;
use tonic::Status;

use super::super::brake::Brake;
use super::super::handle::Refused;
use super::super::install::{self, Stage};
use super::super::memory::{Outcome, Start, Target};
use super::super::steps;
use super::{Engine, Host, Proving, State};

/// Digits of a key that people compare.
const KEY_DIGITS: usize = 16;

impl<H: Host + 'static> Engine<H> {
    /// How the upgrade stands.
    pub(super) fn status(&self) -> UpgradeStatus {
        let mut status = UpgradeStatus {
            from_version: self.system.version.to_string(),
            last: self.memory.last.as_ref().map(outcome),
            ..UpgradeStatus::default()
        };
        let (phase, target) = match &self.state {
            State::Idle => (UpgradePhase::None, None),
            State::Draining { target } => (UpgradePhase::Draining, Some(target)),
            State::Failed(failed) => {
                status.upgrade.clone_from(&failed.upgrade);
                status.reason.clone_from(&failed.reason);
                (UpgradePhase::Failed, Some(&failed.target))
            }
            State::Fallback(proving) => {
                prove(&mut status, proving);
                (UpgradePhase::Trial, Some(&proving.target))
            }
            State::Rebooting { target, reason } => {
                status.reason.clone_from(reason);
                (UpgradePhase::Rebooting, target.as_ref())
            }
            State::Receiving(receiving) => {
                status.upgrade.clone_from(&receiving.upgrade);
                let sent = self.feed.sent();
                let progress = *receiving.progress.borrow();
                status.bytes_total = sent.total;
                status.bytes_done = sent.done;
                status.written_bytes = progress.written;
                status.verified_bytes = progress.verified;
                let phase = if receiving.brake.is_paused() {
                    status.reason = format!("{} paused it", receiving.paused_by);
                    UpgradePhase::Paused
                } else {
                    match progress.stage {
                        Stage::Checking => UpgradePhase::Checking,
                        Stage::Receiving => UpgradePhase::Receiving,
                        Stage::Verifying => UpgradePhase::Verifying,
                    }
                };
                if let Some(wants) = sent.wants {
                    status.wants_block = wants.block;
                    status.wants_offset = wants.offset;
                    status.wants_position = wants.position;
                    status.wants_bytes = wants.left;
                }
                (phase, Some(&receiving.target))
            }
            State::Rechecking(rechecking) => {
                status.bytes_total = rechecking.total;
                status.verified_bytes = *rechecking.verified.borrow();
                (UpgradePhase::Verifying, Some(&rechecking.target))
            }
            State::Staged { target } => (UpgradePhase::Staged, Some(target)),
            State::Trial(proving) => {
                prove(&mut status, proving);
                (UpgradePhase::Trial, Some(&proving.target))
            }
        };
        status.phase = phase.into();
        if let Some(target) = target {
            status.slot = target.slot.letter().to_string();
            status.version.clone_from(&target.version);
            status.build_id.clone_from(&target.build);
            if !target.from_version.is_empty() {
                status.from_version.clone_from(&target.from_version);
            }
        }
        status
    }

    /// What is in both slots.
    pub(super) fn slots(&self) -> Result<Vec<ApiSlot>, Refused> {
        Slot::ALL.into_iter().map(|slot| self.slot(slot)).collect()
    }

    fn slot(&self, slot: Slot) -> Result<ApiSlot, Refused> {
        let (page, header) =
            steps::page(&*self.disk, slot).map_err(|error| Refused::failed(&error))?;
        let record = self.stored().ok().map(|stored| *stored.record());
        let trial = record.is_some_and(|record| record.trial() == Some(slot));
        let mut shown = ApiSlot {
            name: slot.letter().to_string(),
            running: slot == self.running,
            default: record.is_some_and(|record| record.default_slot() == slot),
            trial,
            ..ApiSlot::default()
        };
        let header = match header {
            Ok(header) => header,
            Err(HeaderError::Blank) => {
                let partly = self
                    .memory
                    .transfer
                    .as_ref()
                    .filter(|transfer| transfer.target.slot == slot);
                (shown.state, shown.reason) = match partly {
                    Some(transfer) => (
                        "incomplete".to_owned(),
                        format!("version {} is not complete", transfer.target.version),
                    ),
                    None => ("empty".to_owned(), "nothing is installed".to_owned()),
                };
                return Ok(shown);
            }
            Err(error) => {
                shown.state = "untrusted".to_owned();
                shown.reason = error.to_string();
                return Ok(shown);
            }
        };
        let build = header.build_id().to_string();
        shown.version = header.version().as_str().to_owned();
        shown.boot_bytes = header.payload_len();
        shown.root_bytes = header.root_len();
        shown.verified = self
            .memory
            .builds
            .get(&build)
            .map_or_else(String::new, |facts| facts.verified.clone());
        if trial {
            let tries = steps::efi_tries(&*self.disk).map_or(0, |tries| tries.used());
            let grub = steps::grub_tries(&*self.disk).map_or(0, |tries| tries.used());
            shown.tries_used = u32::from(if self.grub_booted { grub } else { tries });
        }
        (shown.state, shown.reason) = match self.check_signatures(&page) {
            Ok(certificate) => {
                let mut key = certificate.key.to_string();
                key.truncate(KEY_DIGITS);
                shown.signed_by = vec![key];
                self.standing(slot, &build, trial)
            }
            Err(reason) => ("untrusted".to_owned(), reason),
        };
        shown.build_id = build;
        Ok(shown)
    }

    /// State and reason of a slot that is complete and signed.
    fn standing(&self, slot: Slot, build: &str, trial: bool) -> (String, String) {
        let facts = self.memory.builds.get(build);
        let good = facts.is_some_and(|facts| facts.good);
        let (state, reason) = if trial && slot == self.running {
            ("trial", "it has to prove itself".to_owned())
        } else if let Some(failed) = self.memory.failure(build) {
            ("failed", format!("at {}: {}", failed.time, failed.reason))
        } else if trial {
            ("trial", "the next boot starts it".to_owned())
        } else if good && slot == self.running {
            ("good", "it runs".to_owned())
        } else if good {
            ("good", "it ran before".to_owned())
        } else {
            ("staged", "it has not run here yet".to_owned())
        };
        (state.to_owned(), reason)
    }

    /// Reads a slot and compares it with its header.
    pub(super) fn verify(
        &mut self,
        slot: Slot,
        news: mpsc::Sender<Result<VerifySlotResponse, Status>>,
    ) -> Result<(), Refused> {
        if let State::Receiving(receiving) = &self.state
            && receiving.target.slot == slot
        {
            return Err(Refused::not_now("this slot is being written"));
        }
        let header = self.trusted_header_of(slot)?;
        let total = header.payload_len() + header.root_len();
        let disk = Arc::clone(&self.disk);
        let brake = Brake::new(self.host.settings().upgrade.write_limit.bytes());
        tokio::task::spawn_blocking(move || {
            let mut done = 0;
            let told = |response| news.blocking_send(Ok(response)).is_ok();
            let result = install::verify(&*disk, slot, &header, &brake, |bytes| {
                done += bytes;
                let heard = told(VerifySlotResponse {
                    bytes_total: total,
                    bytes_done: done,
                    ..VerifySlotResponse::default()
                });
                if !heard {
                    brake.cancel();
                }
            });
            told(VerifySlotResponse {
                bytes_total: total,
                bytes_done: total,
                finished: true,
                good: result.is_ok(),
                reason: result.map_or_else(
                    |error| chain(&error),
                    |()| "all bytes are as its header says".to_owned(),
                ),
            });
        });
        Ok(())
    }

    /// The header of a slot, if there is one.
    pub(super) fn header_of(&self, slot: Slot) -> Option<SlotHeader> {
        match steps::page(&*self.disk, slot) {
            Ok((_, header)) => header.ok(),
            Err(error) => {
                tracing::warn!("upgrade: cannot read slot {slot}: {error}");
                None
            }
        }
    }

    /// The header of a slot that a loader would start.
    pub(super) fn trusted_header_of(&self, slot: Slot) -> Result<SlotHeader, Refused> {
        let (page, header) =
            steps::page(&*self.disk, slot).map_err(|error| Refused::failed(&error))?;
        let header = header
            .map_err(|error| Refused::not_now(format!("slot {slot} holds nothing: {error}")))?;
        self.check_signatures(&page)
            .map_err(|reason| Refused::not_now(format!("slot {slot}: {reason}")))?;
        Ok(header)
    }

    fn check_signatures(&self, page: &[u8; HEADER_SIZE]) -> Result<KeyCertificate, String> {
        let trust = self.trust.as_ref().map_err(Clone::clone)?;
        let signed = page.get(..SIGNED_SIZE).unwrap_or_default();
        trust
            .check(Context::SlotHeader, signed, SlotPage::signatures(page))
            .map_err(|error| error.to_string())
    }
}

fn prove(status: &mut UpgradeStatus, proving: &Proving) {
    status.trial_deadline.clone_from(&proving.deadline);
    status.stable_for_ms = millis(proving.gate.stable_for());
    status.checks.clone_from(&proving.sight.checks);
    if let Some(standing) = &proving.standing {
        status.stable_ms = millis(standing.well_for);
        status.reason.clone_from(&standing.missing);
    }
}

fn millis(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn outcome(outcome: &Outcome) -> UpgradeOutcome {
    let Target {
        slot,
        version,
        build,
        ..
    } = &outcome.target;
    UpgradeOutcome {
        result: outcome.result.word().to_owned(),
        version: version.clone(),
        build_id: build.clone(),
        slot: slot.letter().to_string(),
        time: outcome.time.clone(),
        reason: outcome.reason.clone(),
        starts: outcome.starts.iter().map(start).collect(),
    }
}

fn start(start: &Start) -> TrialStart {
    TrialStart {
        time: start.time.clone(),
        reached: start.reached.clone(),
        missing: start.missing.clone(),
    }
}
