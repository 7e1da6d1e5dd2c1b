//! A bundle comes: checked, received, complete or not.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use keelson_bootstate::layout::Partition;
use keelson_bootstate::plan;
use keelson_bundle::{Hash, Head, UnverifiedHead};
use keelson_control::{Level, chain};
use tokio::sync::watch;

use super::super::brake::{Brake, Cancelled};
use super::super::handle::{Options, Refused};
use super::super::install::{InstallError, Progress, Work};
use super::super::memory::{Ending, Outcome, Target, Transfer};
use super::super::preflight;
use super::{Done, Engine, Failed, Host, Receiving, State};

/// Digits of a bundle's name: enough to tell all bundles of a node apart.
const NAME_DIGITS: usize = 32;

/// A transfer that nothing was sent of for so long is ended.
const SILENCE: Duration = Duration::from_secs(30 * 60);

impl<H: Host + 'static> Engine<H> {
    /// Begins an upgrade, or goes on with the one that has this head.
    pub(super) async fn begin(&mut self, head: &[u8], options: Options) -> Result<(), Refused> {
        let mut upgrade = Hash::of(head).to_string();
        upgrade.truncate(NAME_DIGITS);
        if let State::Receiving(receiving) = &mut self.state
            && receiving.upgrade == upgrade
        {
            receiving.options = options;
            return Ok(());
        }
        self.refuse_while_busy()?;
        let trust = self.trust.as_ref().map_err(|reason| {
            Refused::not_now(format!(
                "this node trusts nobody's bundles, for {reason}; write the image to its disk again"
            ))
        })?;
        let head = UnverifiedHead::read(&mut &*head)
            .map_err(|error| Refused::invalid(chain(&error)))?
            .verify(trust)
            .map_err(|error| Refused::invalid(chain(&error)))?;
        let build = head.manifest().build().to_string();
        if let State::Staged { target } = &self.state
            && target.build == build
        {
            return match options.stage {
                true => Ok(()),
                false => self.activate_staged(options.no_drain).await,
            };
        }
        self.leave_fallback(options)?;
        self.preflight(&head, options).await?;
        self.receive(upgrade, head, options)?;
        let State::Receiving(receiving) = &self.state else {
            return Ok(());
        };
        let target = receiving.target.clone();
        let text = format!(
            "version {} is written to slot {}",
            target.version, target.slot
        );
        self.tell(Level::Info, "receiving", Some(&target), &text)
            .await;
        Ok(())
    }

    /// What cannot be interrupted by another upgrade.
    pub(super) fn refuse_while_busy(&self) -> Result<(), Refused> {
        let reason = match &self.state {
            State::Idle | State::Failed(_) | State::Fallback(_) | State::Staged { .. } => {
                return Ok(());
            }
            State::Draining { .. } | State::Rebooting { .. } => {
                "the node is about to reboot for an upgrade"
            }
            State::Receiving(_) => {
                "another bundle is being received; wait for it, or give it up with \
                 `keelsonctl upgrade cancel`"
            }
            State::Rechecking(_) => "the node is about to go back to the other slot",
            State::Trial(_) => {
                "the running version is on trial; wait until it has proved itself, or end it with \
                 `keelsonctl rollback`"
            }
        };
        Err(Refused::not_now(reason))
    }

    /// Nothing is written to the default slot, not even to one that cannot be started: the running
    /// one becomes the default first.
    fn leave_fallback(&mut self, options: Options) -> Result<(), Refused> {
        if !matches!(self.state, State::Fallback(_)) {
            return Ok(());
        }
        if !options.force {
            return Err(Refused::not_now(
                "the node runs from a slot that is not the default one, which cannot be started; \
                 wait until the running one has proved itself and is the default (--force makes it \
                 so at once)",
            ));
        }
        let stored = self.stored().map_err(|error| Refused::failed(&error))?;
        self.execute(plan::mark_good(&stored, self.running))
            .map_err(|error| Refused::failed(&error))?;
        self.job = None;
        self.state = State::Idle;
        self.know_running_build();
        Ok(())
    }

    async fn preflight(&self, head: &Head, options: Options) -> Result<(), Refused> {
        let slot = self.running.other();
        let settings = self.host.settings();
        let ills = match options.force {
            true => Vec::new(),
            false => self.ills(&settings).await,
        };
        let size = |partition| {
            self.disk
                .size(partition)
                .map_err(|error| Refused::failed(&error))
        };
        let node = preflight::Node {
            system: &self.system,
            build: self.build,
            boot_bytes: size(Partition::boot(slot))?,
            root_bytes: size(Partition::root(slot))?,
            datastore: settings.datastore,
            ills,
            memory: &self.memory,
        };
        let found = preflight::check(head.manifest(), &components(head), &node, options);
        if found.is_empty() {
            Ok(())
        } else {
            Err(Refused::not_now(format!(
                "this bundle cannot be installed here: {}",
                found.join("; ")
            )))
        }
    }

    /// What is not well, by what a new version would be judged by.
    pub(super) async fn ills(&self, settings: &super::super::host::Settings) -> Vec<String> {
        let sight = self
            .host
            .look(settings.configured, &settings.upgrade.checks)
            .await;
        sight
            .checks
            .into_iter()
            .filter(|check| !check.passed)
            .map(|check| format!("{}: {}", check.name, check.reason))
            .collect()
    }

    /// Starts the thread that writes.
    fn receive(&mut self, upgrade: String, head: Head, options: Options) -> Result<(), Refused> {
        let slot = self.running.other();
        let manifest = head.manifest();
        let target = Target {
            slot,
            version: manifest.version().to_string(),
            build: manifest.build().to_string(),
            from_version: self.system.version.to_string(),
        };
        let resume = self
            .memory
            .transfer
            .as_ref()
            .is_some_and(|transfer| transfer.upgrade == upgrade);
        self.memory.staged = None;
        self.memory.transfer = Some(Transfer {
            upgrade: upgrade.clone(),
            target: target.clone(),
        });
        let facts = self.memory.build_mut(&target.build);
        facts.version.clone_from(&target.version);
        facts.components = components(&head);
        self.remember()?;

        let limit = self.host.settings().upgrade.write_limit.bytes();
        let brake = Arc::new(Brake::new(limit));
        let progress = watch::Sender::new(Progress::default());
        let watched = progress.subscribe();
        let lengths = head.blocks().iter().map(|block| block.stored_len());
        let start = head.position(0).unwrap_or_default();
        let chunks = self
            .feed
            .open(&upgrade, start, lengths.collect(), progress.subscribe());
        let work = Work {
            disk: Arc::clone(&self.disk),
            head: Arc::new(head),
            slot,
            resume,
            brake: Arc::clone(&brake),
            chunks: chunks.into(),
            progress,
        };
        let writing = tokio::task::spawn_blocking(move || work.run());
        self.job = Some(Box::pin(async move {
            // A thread that ends without a word panicked, and this program with it.
            Done::Installed(writing.await.unwrap_or(Err(Cancelled.into())))
        }));
        self.state = State::Receiving(Box::new(Receiving {
            upgrade,
            target,
            options,
            brake,
            progress: watched,
            paused_by: String::new(),
            cancelled: None,
        }));
        Ok(())
    }

    /// Memory is given back when nobody sends any more: what is in the slot stays.
    pub(super) fn end_silent_transfer(&mut self) {
        if let State::Receiving(receiving) = &self.state
            && !receiving.brake.is_paused()
            && self
                .feed
                .silence()
                .is_some_and(|silence| silence >= SILENCE)
        {
            // The thread sees the end and stops.
            self.feed.close();
        }
    }

    pub(super) fn pause(&mut self, person: String) -> Result<(), Refused> {
        let State::Receiving(receiving) = &mut self.state else {
            return Err(Refused::not_now("nothing is being written"));
        };
        receiving.brake.pause();
        receiving.paused_by = person;
        let target = receiving.target.clone();
        self.publish("paused", &target, "writing is paused");
        Ok(())
    }

    pub(super) fn resume(&mut self) -> Result<(), Refused> {
        let State::Receiving(receiving) = &mut self.state else {
            return Err(Refused::not_now("nothing is paused"));
        };
        receiving.brake.resume();
        let target = receiving.target.clone();
        self.publish("receiving", &target, "writing goes on");
        Ok(())
    }

    fn publish(&self, subject: &str, target: &Target, text: &str) {
        let details = [
            ("version", target.version.clone()),
            ("slot", target.slot.letter().to_string()),
        ];
        self.events.publish("upgrade", subject, text, details);
    }

    /// The thread that writes has ended.
    pub(super) async fn installed(&mut self, result: Result<(), InstallError>) {
        self.feed.close();
        let state = std::mem::replace(&mut self.state, State::Idle);
        let State::Receiving(receiving) = state else {
            self.state = state;
            return;
        };
        let mut receiving = *receiving;
        let (target, options) = (receiving.target.clone(), receiving.options);
        if let Some((person, answer)) = receiving.cancelled.take() {
            self.close_cancelled(&target, &person).await;
            let _ = answer.send(Ok(self.status()));
            return;
        }
        match result {
            Ok(()) => self.complete(target, options).await,
            Err(error) => {
                let reason = match error {
                    InstallError::Cancelled(_) => format!(
                        "nothing was sent for {} minutes; send the same bundle again, and it goes \
                         on where it stopped",
                        SILENCE.as_secs() / 60
                    ),
                    error => chain(&error),
                };
                let text = format!("version {} is not installed: {reason}", target.version);
                self.tell(Level::Error, "failed", Some(&target), &text)
                    .await;
                self.state = State::Failed(Failed {
                    upgrade: receiving.upgrade.clone(),
                    target,
                    reason,
                });
            }
        }
    }

    async fn complete(&mut self, target: Target, options: Options) {
        let time = self.now();
        self.memory.transfer = None;
        self.memory.staged = Some(target.clone());
        self.memory.build_mut(&target.build).verified = time;
        self.note();
        let text = format!(
            "version {} is complete in slot {}",
            target.version, target.slot
        );
        self.tell(Level::Info, "staged", Some(&target), &text).await;
        self.state = State::Staged { target };
        if !options.stage
            && let Err(refused) = self.activate_staged(options.no_drain).await
        {
            let text = format!("the node does not reboot into it: {refused}");
            self.tell(Level::Error, "staged", None, &text).await;
        }
    }

    /// A person gave it up: the slot holds nothing any more.
    pub(super) async fn close_cancelled(&mut self, target: &Target, person: &str) {
        let emptied = self
            .stored()
            .map_err(|error| chain(&error))
            .and_then(|stored| {
                let steps = plan::install(&stored, target.slot).map_err(|error| chain(&error))?;
                // The part of the plan that leaves an empty slot.
                let steps = steps.take_while(|step| !matches!(step, plan::Step::WriteRoot(_)));
                self.execute(steps).map_err(|error| chain(&error))
            });
        if let Err(reason) = emptied {
            tracing::warn!("upgrade: slot {} is not emptied: {reason}", target.slot);
        }
        self.memory.transfer = None;
        self.memory.staged = None;
        self.memory.last = Some(Outcome {
            result: Ending::Cancelled,
            target: target.clone(),
            time: self.now(),
            reason: format!("{person} gave it up"),
            starts: Vec::new(),
        });
        self.note();
        self.state = State::Idle;
        let text = format!("version {} was given up by {person}", target.version);
        self.tell(Level::Info, "cancelled", Some(target), &text)
            .await;
    }
}

/// What the bundle says about what is in it.
fn components(head: &Head) -> BTreeMap<String, String> {
    head.manifest().components().clone()
}
