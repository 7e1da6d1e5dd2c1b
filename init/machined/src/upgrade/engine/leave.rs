//! Out of the running slot: pods move, the record is written, the machine reboots. And back.

use std::sync::Arc;
use std::time::Duration;

use keelson_bootstate::plan;
use keelson_control::{Level, chain};
use tokio::sync::watch;
use tokio::time::sleep;

use super::super::brake::{Brake, Cancelled};
use super::super::drain::Drained;
use super::super::handle::{Answer, Refused};
use super::super::install::{self, VerifyError};
use super::super::memory::{Target, Trial};
use super::super::{skew, state_version};
use super::{Done, Engine, Failed, Host, Rechecking, State};
use keelson_api::v1alpha1::UpgradeStatus;

/// Before PID 1 is asked for a reboot again.
const REBOOT_RETRY: Duration = Duration::from_secs(10);

/// Names the marker's content for whoever finds it.
const CORDON_TEXT: &[u8] = b"an upgrade has made this node unschedulable\n";

impl<H: Host + 'static> Engine<H> {
    /// Reboots into what is staged; pods move first.
    pub(super) async fn activate_staged(&mut self, no_drain: bool) -> Result<(), Refused> {
        let State::Staged { target } = &self.state else {
            return Err(Refused::not_now(
                "no other version is complete in the other slot; see `keelsonctl upgrade status`",
            ));
        };
        let target = target.clone();
        let settings = self.host.settings();
        let timeout = settings.upgrade.drain_timeout.duration();
        if no_drain || timeout.is_zero() || !settings.configured {
            return self.start_trial(target).await;
        }
        let text = format!(
            "pods move to other nodes, for {} s at most",
            timeout.as_secs()
        );
        self.tell(Level::Info, "draining", Some(&target), &text)
            .await;
        let (host, cordon) = (std::rc::Rc::clone(&self.host), self.files.cordon.clone());
        self.job = Some(Box::pin(async move {
            // Before it is done, so that a power cut does not leave the node without pods.
            let cordoned = || {
                if let Err(error) = keelson_durable::replace(&cordon, CORDON_TEXT, 0o600) {
                    tracing::warn!("upgrade: {}", chain(&error));
                }
            };
            Done::Drained(host.drain(timeout, cordoned).await)
        }));
        self.state = State::Draining { target };
        Ok(())
    }

    /// However it ended, the node reboots.
    pub(super) async fn drained(&mut self, drained: Drained) {
        let State::Draining { target } = &self.state else {
            return;
        };
        let target = target.clone();
        let level = match drained {
            Drained::Alone | Drained::Done { .. } => Level::Info,
            Drained::NoAnswer { .. } | Drained::TimedOut { .. } => Level::Warn,
        };
        self.tell(level, "drained", Some(&target), &drained.to_string())
            .await;
        if let Err(refused) = self.start_trial(target.clone()).await {
            self.uncordon();
            let text = format!("the node does not reboot: {refused}");
            self.tell(Level::Error, "staged", Some(&target), &text)
                .await;
            self.state = State::Staged { target };
        }
    }

    /// The next boot is a trial.
    async fn start_trial(&mut self, target: Target) -> Result<(), Refused> {
        let header = self
            .header_of(target.slot)
            .filter(|header| header.build_id().to_string() == target.build)
            .ok_or_else(|| {
                Refused::not_now(format!(
                    "slot {} does not hold version {} any more",
                    target.slot, target.version
                ))
            })?;
        // It has to understand STATE as it finds it.
        let format = self
            .memory
            .builds
            .get(&target.build)
            .and_then(|facts| facts.components.get(state_version::COMPONENT)?.parse().ok());
        state_version::settle(&self.files.state, Some(format.unwrap_or(1)))
            .map_err(|error| Refused::failed(&error))?;
        let stored = self.stored().map_err(|error| Refused::failed(&error))?;
        let steps = plan::start_trial(&stored, target.slot, header.build_id(), self.grub)
            .map_err(|error| Refused::failed(&error))?;
        self.memory.forgive(&target.build);
        self.memory.trial = Some(Trial {
            target: target.clone(),
            boot_id: self.boot_id.clone(),
            cluster: self.host.settings().configured,
            starts: Vec::new(),
        });
        self.remember()?;
        if let Err(error) = self.execute(steps) {
            self.memory.trial = None;
            self.note();
            self.withdraw().await;
            return Err(Refused::failed(&error));
        }
        let text = format!(
            "the node reboots into version {} in slot {}",
            target.version, target.slot
        );
        self.tell(Level::Info, "rebooting", Some(&target), &text)
            .await;
        self.reboot(Some(target), &text);
        Ok(())
    }

    /// Asks until it is done: the record says what the next boot is.
    pub(super) fn reboot(&mut self, target: Option<Target>, reason: &str) {
        let (host, said) = (std::rc::Rc::clone(&self.host), reason.to_owned());
        self.job = Some(Box::pin(async move {
            while let Err(error) = host.reboot(&said).await {
                tracing::error!("upgrade: PID 1 does not reboot: {error}");
                sleep(REBOOT_RETRY).await;
            }
            Done::Rebooted
        }));
        self.state = State::Rebooting {
            target,
            reason: reason.to_owned(),
        };
    }

    /// Gives an upgrade up.
    pub(super) async fn cancel(&mut self, person: String, answer: Answer<UpgradeStatus>) {
        let refused = match &mut self.state {
            State::Receiving(receiving) => {
                receiving.brake.cancel();
                self.feed.close();
                // Answered when the thread has ended.
                receiving.cancelled = Some((person, answer));
                return;
            }
            State::Rechecking(rechecking) => {
                rechecking.brake.cancel();
                rechecking.cancelled = Some((person, answer));
                return;
            }
            State::Draining { target } | State::Staged { target } => {
                let target = target.clone();
                self.job = None;
                self.uncordon();
                self.close_cancelled(&target, &person).await;
                None
            }
            State::Failed(failed) => {
                let target = failed.target.clone();
                self.close_cancelled(&target, &person).await;
                None
            }
            State::Rebooting { .. } => Some("the node reboots already"),
            State::Trial(_) => Some("the version runs already; go back with `keelsonctl rollback`"),
            State::Fallback(_) | State::Idle => Some("there is no upgrade to give up"),
        };
        let _ = answer.send(match refused {
            None => Ok(self.status()),
            Some(reason) => Err(Refused::not_now(reason)),
        });
    }

    /// Back to the other slot: at once from a trial, else by a trial of it.
    pub(super) async fn roll_back(
        &mut self,
        person: &str,
        no_drain: bool,
        force: bool,
    ) -> Result<(), Refused> {
        if matches!(self.state, State::Trial(_)) {
            self.give_up(&format!("{person} rolled it back")).await;
            return Ok(());
        }
        self.refuse_while_busy()?;
        if matches!(self.state, State::Fallback(_)) {
            return Err(Refused::not_now(
                "the other slot is the one that could not be started",
            ));
        }
        let target = self.other_version(force)?;
        self.job = None;
        self.recheck(target, no_drain)
    }

    /// What is in the other slot, if the node may go there.
    fn other_version(&self, force: bool) -> Result<Target, Refused> {
        let slot = self.running.other();
        let header = self.trusted_header_of(slot)?;
        let build = header.build_id().to_string();
        let facts = self.memory.builds.get(&build);
        let version = header.version().as_str().to_owned();
        if !force {
            if let Some(failed) = self.memory.failure(&build) {
                return Err(Refused::not_now(format!(
                    "version {version} in slot {slot} failed here at {}: {} (--force tries it again)",
                    failed.time, failed.reason
                )));
            }
            if !facts.is_some_and(|facts| facts.good) {
                return Err(Refused::not_now(format!(
                    "version {version} in slot {slot} has not run here yet; activate it with \
                     `keelsonctl upgrade activate`, or roll back with --force"
                )));
            }
        }
        let components = facts
            .map(|facts| facts.components.clone())
            .unwrap_or_default();
        let datastore = self.host.settings().datastore;
        let found = skew::objections(&self.system.components, &components, datastore);
        if !found.is_empty() {
            return Err(Refused::not_now(format!(
                "the node cannot go back to version {version}: {}",
                found.join("; ")
            )));
        }
        Ok(Target {
            slot,
            version,
            build,
            from_version: self.system.version.to_string(),
        })
    }

    /// Reads the other slot as a whole: what is not complete is not worth a reboot.
    fn recheck(&mut self, target: Target, no_drain: bool) -> Result<(), Refused> {
        let header = self.trusted_header_of(target.slot)?;
        let brake = Arc::new(Brake::new(self.host.settings().upgrade.write_limit.bytes()));
        let verified = watch::Sender::new(0);
        let watched = verified.subscribe();
        let (disk, slot, held) = (Arc::clone(&self.disk), target.slot, Arc::clone(&brake));
        let reading = tokio::task::spawn_blocking(move || {
            let news = |bytes| verified.send_modify(|done| *done += bytes);
            install::verify(&*disk, slot, &header, &held, news)
        });
        self.job = Some(Box::pin(async move {
            // A thread that ends without a word panicked, and this program with it.
            Done::Verified(reading.await.unwrap_or(Err(Cancelled.into())))
        }));
        self.state = State::Rechecking(Box::new(Rechecking {
            target,
            no_drain,
            brake,
            total: header.payload_len() + header.root_len(),
            verified: watched,
            cancelled: None,
        }));
        Ok(())
    }

    pub(super) async fn rechecked(&mut self, result: Result<(), VerifyError>) {
        let state = std::mem::replace(&mut self.state, State::Idle);
        let State::Rechecking(rechecking) = state else {
            self.state = state;
            return;
        };
        let mut rechecking = *rechecking;
        let (target, no_drain) = (rechecking.target.clone(), rechecking.no_drain);
        if let Some((_, answer)) = rechecking.cancelled.take() {
            let _ = answer.send(Ok(self.status()));
            return;
        }
        let gone = match result {
            Ok(()) => {
                let time = self.now();
                self.memory.build_mut(&target.build).verified = time;
                self.memory.staged = Some(target.clone());
                self.note();
                self.state = State::Staged {
                    target: target.clone(),
                };
                self.activate_staged(no_drain)
                    .await
                    .map_err(|refused| refused.to_string())
            }
            Err(error) => Err(chain(&error)),
        };
        if let Err(reason) = gone {
            let text = format!(
                "the node does not go back to slot {}: {reason}",
                target.slot
            );
            self.tell(Level::Error, "failed", Some(&target), &text)
                .await;
            self.memory.staged = None;
            self.note();
            self.state = State::Failed(Failed {
                upgrade: String::new(),
                target,
                reason,
            });
        }
    }
}
