//! A version proves itself, or does not.

use std::time::Duration;

use keelson_bootstate::plan;
use keelson_control::{Level, chain};
use tokio::time::sleep;

use super::super::memory::{Ending, Outcome, Target, Trial};
use super::super::steps;
use super::{Done, Engine, Host, Proving, State};
use crate::api::timestamp;
use crate::health_gate::{Decision, Gate, Reached, Sight};

/// Between two looks: what breaks for less than this shows in the count of restarts.
const INTERVAL: Duration = Duration::from_secs(3);

/// Before the cluster is asked again to take pods.
const UNCORDON_RETRY: Duration = Duration::from_secs(10);

impl<H: Host + 'static> Engine<H> {
    /// The running slot is on trial.
    pub(super) async fn prove(&mut self) {
        let settings = self.host.settings();
        let (boot_id, now) = (self.boot_id.clone(), self.now());
        let (target, version) = (self.running_target(), self.system.version.to_string());
        // A STATE without memory: what the disk says is enough.
        let trial = self.memory.trial.get_or_insert_with(|| Trial {
            target,
            boot_id: String::new(),
            cluster: settings.configured,
            starts: Vec::new(),
        });
        if let Some(start) = trial.start(&boot_id, &now)
            && start.reached.is_empty()
        {
            start.reached = Reached::Started.to_string();
        }
        let (target, cluster) = (trial.target.clone(), trial.cluster);
        self.note();
        let deadline = settings.upgrade.health_deadline.duration();
        let left = deadline.saturating_sub(self.host.since_boot());
        let text = format!(
            "version {version} in slot {} is on trial; it has to be well for {} s within {} s",
            self.running,
            settings.upgrade.stable_for.duration().as_secs(),
            left.as_secs()
        );
        self.tell(Level::Info, "trial", Some(&target), &text).await;
        self.state = State::Trial(Proving {
            target,
            gate: Gate::new(Some(deadline), settings.upgrade.stable_for.duration()),
            cluster,
            standing: None,
            sight: Sight::default(),
            deadline: timestamp::text(self.host.now() + left),
        });
        self.look_soon(Duration::ZERO);
    }

    /// The running slot is not the default and not on trial: it becomes the default once it is
    /// well, and is never given up, for nothing else is left.
    pub(super) fn prove_fallback(&mut self) {
        let settings = self.host.settings();
        self.state = State::Fallback(Proving {
            target: self.running_target(),
            gate: Gate::new(None, settings.upgrade.stable_for.duration()),
            cluster: settings.configured,
            standing: None,
            sight: Sight::default(),
            deadline: String::new(),
        });
        self.look_soon(Duration::ZERO);
    }

    fn running_target(&self) -> Target {
        Target {
            slot: self.running,
            version: self.system.version.to_string(),
            build: self
                .build
                .map_or_else(String::new, |build| build.to_string()),
            from_version: String::new(),
        }
    }

    fn look_soon(&mut self, after: Duration) {
        let host = std::rc::Rc::clone(&self.host);
        let (State::Trial(proving) | State::Fallback(proving)) = &self.state else {
            return;
        };
        let cluster = proving.cluster;
        self.job = Some(Box::pin(async move {
            sleep(after).await;
            let checks = host.settings().upgrade.checks;
            Done::Saw(host.look(cluster, &checks).await)
        }));
    }

    pub(super) async fn saw(&mut self, sight: Sight) {
        let now = self.host.since_boot();
        let (State::Trial(proving) | State::Fallback(proving)) = &mut self.state else {
            return;
        };
        let decision = proving.gate.look(now, &sight);
        proving.sight = sight;
        match decision {
            Decision::Wait(standing) => {
                let (reached, missing) = (standing.reached.to_string(), standing.missing.clone());
                proving.standing = Some(standing);
                if matches!(self.state, State::Trial(_)) {
                    self.note_progress(&reached, &missing);
                }
                self.look_soon(INTERVAL);
            }
            Decision::Good => self.good().await,
            Decision::GiveUp { reason } => self.give_up(&reason).await,
        }
    }

    /// For the version before, should this one end without a word. Reasons change all the time;
    /// only how far it came is worth a write.
    fn note_progress(&mut self, reached: &str, missing: &str) {
        let (boot_id, now) = (self.boot_id.clone(), self.now());
        let Some(start) = self
            .memory
            .trial
            .as_mut()
            .and_then(|trial| trial.start(&boot_id, &now))
        else {
            return;
        };
        if start.reached != reached {
            start.reached = reached.to_owned();
            start.missing = missing.to_owned();
            self.note();
        }
    }

    /// The running version stays.
    async fn good(&mut self) {
        let marked = self
            .stored()
            .map_err(|error| chain(&error))
            .and_then(|stored| {
                self.execute(plan::mark_good(&stored, self.running))
                    .map_err(|error| chain(&error))
            });
        if let Err(reason) = marked {
            // The disk may recover; until then the version is on trial.
            let text = format!("the version is well, but cannot be made the default: {reason}");
            self.tell(Level::Error, "boot-record", None, &text).await;
            self.look_soon(INTERVAL);
            return;
        }
        match std::mem::replace(&mut self.state, State::Idle) {
            State::Fallback(_) => {
                self.know_running_build();
                let text = format!("slot {} is the default now", self.running);
                self.tell(Level::Warn, "fallback", None, &text).await;
            }
            _ => self.close_good_trial().await,
        }
    }

    /// The record calls the running version good: now everybody may know.
    pub(super) async fn close_good_trial(&mut self) {
        let trial = self.memory.trial.take();
        let target = trial
            .as_ref()
            .map_or_else(|| self.running_target(), |trial| trial.target.clone());
        let mut starts = trial.map(|trial| trial.starts).unwrap_or_default();
        if let Some(last) = starts.last_mut() {
            last.reached = Reached::Stable.to_string();
            last.missing.clear();
        }
        self.memory.staged = None;
        self.memory.transfer = None;
        self.memory.last = Some(Outcome {
            result: Ending::Good,
            target: target.clone(),
            time: self.now(),
            reason: "everything was well for long enough".to_owned(),
            starts,
        });
        self.note();
        self.know_running_build();
        self.settle_state().await;
        self.state = State::Idle;
        let text = format!(
            "version {} in slot {} has proved itself and stays",
            target.version, target.slot
        );
        self.tell(Level::Info, "good", Some(&target), &text).await;
        self.uncordon();
    }

    /// The running version goes.
    pub(super) async fn give_up(&mut self, reason: &str) {
        let time = self.now();
        let trial = self.memory.trial.take();
        let target = trial
            .as_ref()
            .map_or_else(|| self.running_target(), |trial| trial.target.clone());
        self.memory.refuse(&target, &time, reason);
        self.memory.last = Some(Outcome {
            result: Ending::RolledBack,
            target: target.clone(),
            time,
            reason: reason.to_owned(),
            starts: trial.map(|trial| trial.starts).unwrap_or_default(),
        });
        self.memory.staged = None;
        self.note();
        let text = format!("version {} is given up: {reason}", target.version);
        self.tell(Level::Error, "rolled-back", Some(&target), &text)
            .await;
        self.withdraw_and_reboot(reason).await;
    }

    /// The next boot is one of the version before.
    pub(super) async fn withdraw_and_reboot(&mut self, reason: &str) {
        self.withdraw().await;
        let reason = format!("the version before is started again: {reason}");
        self.reboot(None, &reason);
    }

    /// Ends the trial in the record. Without it the loader gives the trial its other tries, and
    /// then ends it itself.
    pub(super) async fn withdraw(&mut self) {
        let withdrawn = self
            .stored()
            .map_err(|error| chain(&error))
            .and_then(|stored| {
                steps::execute(&*self.disk, plan::withdraw(&stored)).map_err(|error| chain(&error))
            });
        if let Err(reason) = withdrawn {
            let text = format!("the trial cannot be ended in the boot record: {reason}");
            self.tell(Level::Error, "boot-record", None, &text).await;
        }
    }

    /// Pods may come again, if it was an upgrade that kept them away.
    pub(super) fn uncordon(&mut self) {
        if !self.files.cordon.exists() {
            return;
        }
        let host = std::rc::Rc::clone(&self.host);
        self.uncordoning = Some(Box::pin(async move {
            while let Err(reason) = host.uncordon().await {
                tracing::debug!("upgrade: the node is not schedulable yet: {reason}");
                sleep(UNCORDON_RETRY).await;
            }
            Done::Uncordoned
        }));
    }
}
