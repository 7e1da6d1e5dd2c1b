//! What a start of this program finds, and goes on with.

use keelson_bootstate::{BootRecord, Slot, plan};
use keelson_control::{Level, LoaderFacts, chain};

use super::super::judge::{Scene, Verdict, judge};
use super::super::memory::{Ending, Memory, Outcome, Target};
use super::super::state_version;
use super::super::steps;
use super::{Engine, Failed, Host, State};

impl<H: Host + 'static> Engine<H> {
    /// Judges this boot, heals the record, and goes on where the last start stopped.
    pub(super) async fn begin_boot(&mut self, loader: &LoaderFacts) {
        self.memory = match Memory::read(&self.files.memory) {
            Ok(memory) => memory,
            Err(error) => {
                let text = format!("what was remembered of upgrades is lost: {}", chain(&error));
                self.tell(Level::Error, "memory", None, &text).await;
                Memory::default()
            }
        };
        self.build = self.header_of(self.running).map(|header| header.build_id());
        let record = self.heal().await;
        let tries = if self.grub_booted {
            steps::grub_tries(&*self.disk)
        } else {
            steps::efi_tries(&*self.disk)
        };
        let build = self.build.map(|build| build.to_string());
        let verdict = judge(&Scene {
            running: self.running,
            running_build: build.as_deref(),
            boot_id: &self.boot_id,
            loader,
            record,
            // A disk that cannot be read here could not be read by the loader either.
            tries: tries.unwrap_or(keelson_bootstate::Tries::Unreadable),
            memory: &self.memory,
        });
        self.follow(verdict, record).await;
        if self.files.cordon.exists() && !matches!(self.state, State::Trial(_)) {
            self.uncordon();
        }
    }

    /// Makes all copies and forms of the record say the same; gives the record.
    async fn heal(&mut self) -> Option<BootRecord> {
        match self.stored() {
            Ok(stored) => {
                if !stored.is_whole() {
                    match self.execute(plan::heal(&stored)) {
                        Ok(()) => tracing::info!("upgrade: a copy of the boot record was healed"),
                        Err(error) => {
                            let text = format!("the boot record is not whole: {}", chain(&error));
                            self.tell(Level::Error, "boot-record", None, &text).await;
                        }
                    }
                }
                Some(*stored.record())
            }
            Err(error) => {
                tracing::warn!("upgrade: {}", chain(&error));
                None
            }
        }
    }

    async fn follow(&mut self, verdict: Verdict, record: Option<BootRecord>) {
        match verdict {
            Verdict::Armed => {
                let target = self.memory.trial.as_ref().map(|trial| trial.target.clone());
                self.reboot(target, "the new version has to prove itself");
            }
            Verdict::Confirmed => self.close_good_trial().await,
            Verdict::Everyday => self.go_on().await,
            Verdict::Fallback { reason } => {
                self.tell(Level::Error, "fallback", None, &reason).await;
                self.prove_fallback();
            }
            Verdict::GivenUp { reason } => self.withdraw_and_reboot(&reason).await,
            Verdict::NeverBegan => {
                if let Some(trial) = self.memory.trial.take() {
                    self.memory.staged = Some(trial.target);
                    self.note();
                }
                self.go_on().await;
            }
            Verdict::NoRecord => {
                self.rebuild().await;
                self.go_on().await;
            }
            Verdict::OnTrial => self.prove().await,
            Verdict::TrialFailed { slot, reason } => {
                let target = self.failed_target(slot, record);
                self.close_failed_trial(target, reason).await;
                self.go_on().await;
            }
        }
    }

    /// Nothing is on trial: the running version is good, and the other slot may hold something.
    async fn go_on(&mut self) {
        self.know_running_build();
        self.settle_state().await;
        if let Some(target) = self.memory.staged.clone() {
            let there = self.header_of(target.slot);
            if there.is_some_and(|header| header.build_id().to_string() == target.build) {
                self.state = State::Staged { target };
                return;
            }
            self.memory.staged = None;
            self.note();
        }
        if let Some(transfer) = self.memory.transfer.clone() {
            self.state = State::Failed(Failed {
                upgrade: transfer.upgrade,
                target: transfer.target,
                reason: "machined was started again while the bundle was received; send the same \
                         bundle again, and it goes on where it stopped"
                    .to_owned(),
            });
        }
    }

    /// The build that runs as the default has proved itself, or came with the disk's image.
    pub(super) fn know_running_build(&mut self) {
        let Some(build) = self.build.map(|build| build.to_string()) else {
            return;
        };
        let before = self.memory.clone();
        let facts = self.memory.build_mut(&build);
        facts.version = self.system.version.to_string();
        facts.components = self.system.components.clone();
        facts.good = true;
        self.memory.forgive(&build);
        let other = self
            .header_of(self.running.other())
            .map(|header| header.build_id().to_string());
        let in_use: Vec<&str> = [Some(build.as_str()), other.as_deref()]
            .into_iter()
            .flatten()
            .collect();
        self.memory.forget_builds(&in_use);
        if self.memory != before {
            self.note();
        }
    }

    /// STATE gets the newest format that the builds of both slots read.
    pub(super) async fn settle_state(&mut self) {
        let other = self.state_format_of(self.running.other());
        if let Err(error) = state_version::settle(&self.files.state, other) {
            let text = chain(&error);
            self.tell(Level::Error, "state-format", None, &text).await;
        }
    }

    /// Newest format of STATE that the build in a slot reads; none when the slot holds nothing. A
    /// build that nothing is known of reads the first one at least.
    fn state_format_of(&self, slot: Slot) -> Option<u32> {
        let build = self.header_of(slot)?.build_id().to_string();
        let facts = self.memory.builds.get(&build);
        let format = facts.and_then(|facts| facts.components.get(state_version::COMPONENT));
        Some(format.and_then(|text| text.parse().ok()).unwrap_or(1))
    }

    async fn rebuild(&mut self) {
        let texts = steps::texts(&*self.disk);
        let rebuilt = texts
            .map_err(|source| source.to_string())
            .and_then(|texts| {
                let [first, second] = &texts;
                self.execute(plan::rebuild(self.running, self.build, [first, second]))
                    .map_err(|error| chain(&error))
            });
        let text = match rebuilt {
            Ok(()) => format!(
                "both copies of the boot record were unreadable; it was made anew with slot {} as \
                 the default",
                self.running
            ),
            Err(reason) => format!("both copies of the boot record are unreadable: {reason}"),
        };
        self.tell(Level::Error, "boot-record", None, &text).await;
    }

    /// What was on trial, by the memory or by what the disk says.
    fn failed_target(&mut self, slot: Slot, record: Option<BootRecord>) -> Target {
        if let Some(trial) = self.memory.trial.as_ref().filter(|t| t.target.slot == slot) {
            return trial.target.clone();
        }
        let header = self.header_of(slot);
        let build = record
            .and_then(|record| record.build(slot))
            .or_else(|| header.map(|header| header.build_id()));
        Target {
            slot,
            version: header.map_or_else(String::new, |header| header.version().as_str().to_owned()),
            build: build.map_or_else(String::new, |build| build.to_string()),
            from_version: self.system.version.to_string(),
        }
    }

    /// The other slot did not prove itself: its build is refused from now on.
    async fn close_failed_trial(&mut self, target: Target, reason: String) {
        let time = self.now();
        let starts = self.memory.trial.take().map(|trial| trial.starts);
        let known = self.memory.last.as_ref().is_some_and(|last| {
            last.result == Ending::RolledBack && last.target == target && last.reason == reason
        });
        if !known {
            self.memory.refuse(&target, &time, &reason);
            self.memory.last = Some(Outcome {
                result: Ending::RolledBack,
                target: target.clone(),
                time,
                reason: reason.clone(),
                starts: starts.unwrap_or_default(),
            });
        }
        self.memory.staged = None;
        self.note();
        self.withdraw().await;
        let text = format!(
            "version {} in slot {} did not prove itself, the node runs {} again: {reason}",
            target.version, target.slot, self.system.version
        );
        self.tell(Level::Error, "rolled-back", Some(&target), &text)
            .await;
    }
}
