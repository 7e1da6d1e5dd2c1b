//! The one who upgrades: takes requests, writes through a thread, leaves through a reboot, judges
//! after it.
//!
//! What was decided is written down before it is done, so that a power cut or a restart of this
//! program at any place finds the way on ([`boot`]).

mod begin;
mod boot;
mod leave;
mod report;
mod trial;

use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use keelson_bootstate::plan::Step;
use keelson_bootstate::signature::Trust;
use keelson_bootstate::{BuildId, Slot};
use keelson_control::{Level, LoaderFacts, LoaderKind, chain};
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};

use super::brake::Brake;
use super::disk::Disk;
use super::drain::Drained;
use super::feed::Feed;
use super::handle::{Answer, Inbox, Options, Refused, Request};
use super::host::Host;
use super::install::{InstallError, Progress, VerifyError};
use super::memory::{Memory, Target};
use super::steps::{self, RecordError, StepError};
use super::system::System;
use crate::api::events::Hub;
use crate::api::timestamp;
use crate::health_gate::{Gate, Sight, Standing};

use keelson_api::v1alpha1::UpgradeStatus;

/// What the engine works with.
pub(crate) struct Parts<H> {
    pub(crate) host: H,
    pub(crate) disk: Arc<dyn Disk>,
    /// The disk has a GRUBENV.
    pub(crate) grub: bool,
    /// Whose signatures count; the reason why nobody's do.
    pub(crate) trust: Result<Trust, String>,
    pub(crate) system: System,
    pub(crate) boot_id: String,
    pub(crate) running: Slot,
    pub(crate) loader: LoaderFacts,
    pub(crate) files: Files,
    pub(crate) events: Hub,
    pub(crate) inbox: Inbox,
}

/// Where things are.
#[derive(Clone, Debug)]
pub(crate) struct Files {
    pub(crate) memory: PathBuf,
    /// There while an upgrade has made the node unschedulable.
    pub(crate) cordon: PathBuf,
    /// STATE.
    pub(crate) state: PathBuf,
}

/// The engine.
pub(crate) struct Engine<H> {
    host: Rc<H>,
    disk: Arc<dyn Disk>,
    grub: bool,
    trust: Result<Trust, String>,
    system: System,
    boot_id: String,
    running: Slot,
    /// This boot's loader was GRUB.
    grub_booted: bool,
    /// The build in the running slot, by its header.
    build: Option<BuildId>,
    files: Files,
    memory: Memory,
    events: Hub,
    feed: Arc<Feed>,
    state: State,
    job: Option<Job>,
    /// Goes on beside everything else until the cluster has answered.
    uncordoning: Option<Job>,
}

/// What goes on.
pub(crate) enum State {
    /// Pods move to other nodes.
    Draining { target: Target },
    /// It cannot go on.
    Failed(Failed),
    /// The default slot could not be started; the running one has to prove itself to become it.
    Fallback(Proving),
    /// Nothing.
    Idle,
    /// The next boot is a trial, or the end of one.
    Rebooting {
        target: Option<Target>,
        reason: String,
    },
    /// A bundle is written to the other slot.
    Receiving(Box<Receiving>),
    /// The other slot is read before it is started again.
    Rechecking(Box<Rechecking>),
    /// The other slot is complete.
    Staged { target: Target },
    /// The running version has to prove itself.
    Trial(Proving),
}

pub(crate) struct Failed {
    pub(crate) upgrade: String,
    pub(crate) target: Target,
    pub(crate) reason: String,
}

pub(crate) struct Receiving {
    pub(crate) upgrade: String,
    pub(crate) target: Target,
    pub(crate) options: Options,
    pub(crate) brake: Arc<Brake>,
    pub(crate) progress: watch::Receiver<Progress>,
    pub(crate) paused_by: String,
    /// Who gave it up and waits for its end.
    pub(crate) cancelled: Option<(String, Answer<UpgradeStatus>)>,
}

pub(crate) struct Rechecking {
    pub(crate) target: Target,
    pub(crate) no_drain: bool,
    pub(crate) brake: Arc<Brake>,
    pub(crate) total: u64,
    pub(crate) verified: watch::Receiver<u64>,
    pub(crate) cancelled: Option<(String, Answer<UpgradeStatus>)>,
}

/// The thread ends with what it works for: a program that ends waits for its threads.
impl Drop for Receiving {
    fn drop(&mut self) {
        self.brake.cancel();
    }
}

impl Drop for Rechecking {
    fn drop(&mut self) {
        self.brake.cancel();
    }
}

/// A version that has to prove itself.
pub(crate) struct Proving {
    pub(crate) target: Target,
    pub(crate) gate: Gate,
    /// It has to be part of its cluster.
    pub(crate) cluster: bool,
    pub(crate) standing: Option<Standing>,
    pub(crate) sight: Sight,
    /// RFC 3339; empty when there is none.
    pub(crate) deadline: String,
}

/// How often it is looked whether anybody still sends.
const HOUSEKEEPING: Duration = Duration::from_secs(60);

/// Something that takes its time.
type Job = Pin<Box<dyn Future<Output = Done>>>;

/// What became of it.
enum Done {
    Drained(Drained),
    Installed(Result<(), InstallError>),
    Rebooted,
    Saw(Sight),
    Uncordoned,
    Verified(Result<(), VerifyError>),
}

/// Runs for ever.
pub(crate) async fn run<H: Host + 'static>(parts: Parts<H>) {
    let Parts {
        host,
        disk,
        grub,
        trust,
        system,
        boot_id,
        running,
        loader,
        files,
        events,
        inbox,
    } = parts;
    let Inbox { mut requests, feed } = inbox;
    let mut engine = Engine {
        host: Rc::new(host),
        build: None,
        memory: Memory::default(),
        state: State::Idle,
        job: None,
        uncordoning: None,
        disk,
        grub,
        trust,
        system,
        boot_id,
        running,
        grub_booted: loader.kind == LoaderKind::Grub,
        files,
        events,
        feed,
    };
    engine.begin_boot(&loader).await;
    // Outside of the loop: whoever asks often must not put it off.
    let mut housekeeping = interval(HOUSEKEEPING);
    housekeeping.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            // Nobody asks any more only when the program ends.
            Some(request) = requests.recv() => engine.answer(request).await,
            done = next(&mut engine.job) => engine.done(done).await,
            done = next(&mut engine.uncordoning) => engine.done(done).await,
            _ = housekeeping.tick() => engine.end_silent_transfer(),
        }
    }
}

/// Waits for a job; for ever when there is none.
async fn next(job: &mut Option<Job>) -> Done {
    let done = match job {
        Some(running) => running.await,
        None => std::future::pending().await,
    };
    *job = None;
    done
}

impl<H: Host + 'static> Engine<H> {
    async fn answer(&mut self, request: Request) {
        // Whoever does not wait for the answer any more does not need it.
        match request {
            Request::Activate { no_drain, answer } => {
                let result = self.activate_staged(no_drain).await;
                let _ = answer.send(result.map(|()| self.status()));
            }
            Request::Begin {
                head,
                options,
                answer,
            } => {
                let result = self.begin(&head, options).await;
                if let Err(refused) = &result {
                    let text = format!("a bundle was refused: {refused}");
                    self.events.publish("upgrade", "refused", &text, []);
                }
                let _ = answer.send(result.map(|()| self.status()));
            }
            Request::Cancel { person, answer } => self.cancel(person, answer).await,
            Request::Pause { person, answer } => {
                let result = self.pause(person);
                let _ = answer.send(result.map(|()| self.status()));
            }
            Request::Resume { answer } => {
                let result = self.resume();
                let _ = answer.send(result.map(|()| self.status()));
            }
            Request::Rollback {
                person,
                no_drain,
                force,
                answer,
            } => {
                let result = self.roll_back(&person, no_drain, force).await;
                let _ = answer.send(result.map(|()| self.status()));
            }
            Request::Slots { answer } => {
                let _ = answer.send(self.slots());
            }
            Request::Status { answer } => {
                let _ = answer.send(Ok(self.status()));
            }
            Request::Verify { slot, news, answer } => {
                let _ = answer.send(self.verify(slot, news));
            }
        }
    }

    async fn done(&mut self, done: Done) {
        match done {
            Done::Drained(drained) => self.drained(drained).await,
            Done::Installed(result) => self.installed(result).await,
            // The machine goes down; until it has, nothing else happens.
            Done::Rebooted => {}
            Done::Saw(sight) => self.saw(sight).await,
            Done::Uncordoned => {
                if let Err(error) = keelson_durable::remove(&self.files.cordon) {
                    tracing::warn!("upgrade: {}", chain(&error));
                }
            }
            Done::Verified(result) => self.rechecked(result).await,
        }
    }

    /// Writes the memory down; what follows may then be done.
    fn remember(&mut self) -> Result<(), Refused> {
        self.memory
            .write(&self.files.memory)
            .map_err(|error| Refused::failed(&error))
    }

    /// Writes it down where nothing follows that could not be done again after a power cut.
    fn note(&mut self) {
        if let Err(error) = self.memory.write(&self.files.memory) {
            tracing::error!("upgrade: {}", chain(&error));
        }
    }

    /// Executes a plan that concerns the boot record alone.
    fn execute(&self, steps: impl Iterator<Item = Step>) -> Result<(), StepError> {
        steps::execute(&*self.disk, steps)
    }

    fn stored(&self) -> Result<keelson_bootstate::plan::Stored, RecordError> {
        steps::stored(&*self.disk)
    }

    fn now(&self) -> String {
        timestamp::text(self.host.now())
    }

    /// For watchers and the person at the console.
    async fn tell(&self, level: Level, subject: &str, target: Option<&Target>, text: &str) {
        let mut details = Vec::new();
        if let Some(target) = target {
            details.push(("version", target.version.clone()));
            details.push(("build", target.build.clone()));
            details.push(("slot", target.slot.letter().to_string()));
        }
        self.events.publish("upgrade", subject, text, details);
        self.host.say(level, &format!("upgrade: {text}")).await;
    }
}

#[cfg(test)]
mod tests;
