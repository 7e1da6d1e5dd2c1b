//! The one who decides: finds the configuration, puts it in force, and keeps it so.
//!
//! The loop is level-triggered: whatever happened, [`converge`] brings files, certificates, facts
//! and services in line with the configuration, and every step of it may be repeated. So a
//! daemon that ended in the middle of a change completes it when it starts again.

mod answer;
mod begin;
mod converge;
mod gate;
mod handle;
mod keys;
mod machine;
mod maintenance;
mod services;
mod trial;
mod words;

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::io;
use std::time::Duration;

use keelson_api::v1alpha1::Certificate;
use keelson_config::{EmitError, MachineId, NodeConfig};
use keelson_control::{
    AsyncClient, AsyncSubscription, ClientError, Event, Level, ResourceLimits, chain,
};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::api::events::Hub;
use crate::configuration::programs::{Programs, ProgramsError};
use crate::configuration::trial::{Trial, TrialError};
use crate::configuration::{ConfigurationError, Firmware, digest};
use crate::console::say;
use crate::facts::{Facts, ServiceNetworkTooSmall};
use crate::machine_id::{self, MachineIdError};
use crate::paths::Paths;
use crate::render::RenderError;

pub(crate) use gate::Code;
pub(crate) use handle::{Handle, Inbox, Mode, Plan, Shown, Summary, channel};
pub(crate) use machine::{Machine, ThisMachine};

/// How often a node without a usable configuration looks for one. The partition is small and the
/// file a few kilobytes.
const MAINTENANCE_INTERVAL: Duration = Duration::from_secs(30);

/// netd reports after 30 s at the latest; a busy machine may take it longer.
const NETWORK_DEADLINE: Duration = Duration::from_secs(90);

/// netd reports 10 s after the network at the latest.
const TIME_DEADLINE: Duration = Duration::from_secs(40);

/// A look without a reason, should an announcement ever get lost.
const SAFETY_LOOK: Duration = Duration::from_secs(3600);

/// Before what failed is tried again: a full STATE, a damaged file that somebody repairs.
const RETRY: Duration = Duration::from_secs(60);

/// The answer to a change gets this head start: the change may cut the way it takes.
const HEAD_START: Duration = Duration::from_millis(500);

/// machined cannot go on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DaemonError {
    /// The stored configuration is out of reach.
    #[error(transparent)]
    Configuration(#[from] ConfigurationError),
    /// PID 1 does not answer.
    #[error("PID 1 does not do what it is asked")]
    Control(#[from] ClientError),
    /// PID 1 ended the stream of events.
    #[error("PID 1 closed the stream of events")]
    EventsEnded,
    /// The configuration cannot be handed to others.
    #[error(transparent)]
    Emit(#[from] EmitError),
    /// The kernel refused the host name.
    #[error("cannot set the host name {name:?}")]
    HostName { name: String, source: io::Error },
    /// The machine id could not be had.
    #[error(transparent)]
    MachineId(#[from] MachineIdError),
    /// netd reported something that is no address.
    #[error("netd reported {0:?} as the node's address")]
    NodeAddress(String),
    /// The image's services are not known.
    #[error(transparent)]
    Programs(#[from] ProgramsError),
    /// There is no randomness for a one-time code.
    #[error("the kernel gives no random bytes: {0}")]
    Random(getrandom::Error),
    /// A file could not be made.
    #[error(transparent)]
    Render(#[from] RenderError),
    /// The configuration's service network is too small.
    #[error(transparent)]
    ServiceNetwork(#[from] ServiceNetworkTooSmall),
    /// A trial cannot be written down.
    #[error(transparent)]
    Trial(#[from] TrialError),
}

/// What the daemon works with.
pub(crate) struct Parts<'a, M> {
    pub(crate) paths: Paths,
    pub(crate) firmware: &'a dyn Firmware,
    pub(crate) machine: M,
    pub(crate) inbox: Inbox,
    pub(crate) events: Hub,
    /// For who runs this machine, and for the API.
    pub(crate) kubeconfig: watch::Sender<Option<String>>,
    /// What the machine's runner needs to call the node API, as JSON.
    pub(crate) context: watch::Sender<Option<String>>,
}

impl<'a, M> Parts<'a, M> {
    pub(crate) fn new(
        paths: Paths,
        firmware: &'a dyn Firmware,
        machine: M,
        inbox: Inbox,
        events: Hub,
    ) -> Self {
        Self {
            paths,
            firmware,
            machine,
            inbox,
            events,
            kubeconfig: watch::Sender::new(None),
            context: watch::Sender::new(None),
        }
    }
}

/// A configuration: as it was given, and with every default.
#[derive(Clone, Debug)]
struct Document {
    text: String,
    config: NodeConfig,
}

impl Document {
    /// What the API calls this one, and no other one.
    fn revision(&self) -> String {
        digest(self.text.as_bytes())
    }
}

/// What the node lives by.
#[derive(Debug)]
enum Stage {
    /// Nothing usable was found yet.
    Maintenance {
        /// What is wrong with the configuration there is.
        problem: Option<String>,
        /// When the firmware partition is read next.
        look_again: Instant,
    },
    /// It has a configuration.
    Running(Box<Running>),
}

#[derive(Debug)]
struct Running {
    /// The configuration on STATE.
    holding: Document,
    /// In force instead of it, for a while.
    trial: Option<(Trial, Document)>,
    /// A trial has ended, but its file is still there.
    trial_ended: bool,
    /// The host name stays the same until the next boot.
    host_name: keelson_config::Hostname,
}

impl Running {
    /// The configuration in use.
    fn in_use(&self) -> &Document {
        self.trial
            .as_ref()
            .map_or(&self.holding, |(_, document)| document)
    }

    /// What of it is in force: the rest waits for a reboot.
    fn in_force(&self) -> NodeConfig {
        NodeConfig {
            hostname: Some(self.host_name.clone()),
            ..self.in_use().config.clone()
        }
    }
}

/// The daemon's state.
struct Daemon<'a, M> {
    parts: Parts<'a, M>,
    id: MachineId,
    programs: Programs,
    stage: Stage,
    /// What PID 1 puts into command lines, as of the last look.
    facts: Facts,
    /// The one-time code, while there is one.
    code: watch::Receiver<Option<Code>>,
    /// The node API's authority and certificates, once they are there.
    api: Option<keelson_pki::ApiPki>,
    /// Certificates that have been brought up to date.
    api_inventory: Vec<Certificate>,
    cluster_inventory: Vec<Certificate>,
    /// When the network was first seen to be settled.
    network_since: Option<Instant>,
    begun: Instant,
    /// What failed and is tried again then.
    retry: Option<Instant>,
    /// Limits as PID 1 has them.
    limits: Option<BTreeMap<String, ResourceLimits>>,
    /// Services that were started again for a command line; never twice for the same.
    restarted: BTreeMap<String, Vec<String>>,
    /// Services whose new pair waits for them to be started again.
    restarts: BTreeSet<&'static str>,
    /// What people were told by subject, so that they are told once.
    told: BTreeMap<&'static str, String>,
}

/// Runs until something fails that a new start may mend.
pub(crate) async fn run<M: Machine>(
    parts: Parts<'_, M>,
    control: &mut AsyncClient,
) -> Result<Infallible, DaemonError> {
    let id = machine_id::load_or_make(&parts.paths.machine_id())?;
    let programs = Programs::read(&parts.paths.services())?;
    // The subscription first: nothing that happens after the first look is missed.
    let mut events = AsyncClient::connect_to(&parts.paths.control_socket())
        .await?
        .subscribe()
        .await?;
    let mut daemon = Daemon {
        code: parts.inbox.gate.code(),
        id,
        programs,
        stage: Stage::Maintenance {
            problem: None,
            look_again: Instant::now(),
        },
        facts: Facts::new(),
        api: None,
        api_inventory: Vec::new(),
        cluster_inventory: Vec::new(),
        network_since: None,
        begun: Instant::now(),
        retry: None,
        limits: None,
        restarted: BTreeMap::new(),
        restarts: BTreeSet::new(),
        told: BTreeMap::new(),
        parts,
    };
    daemon.begin(control).await?;
    loop {
        daemon.converge(control).await?;
        daemon.wait(control, &mut events).await?;
    }
}

impl<M: Machine> Daemon<'_, M> {
    /// Returns when there is a reason to look again; answers requests meanwhile.
    async fn wait(
        &mut self,
        control: &mut AsyncClient,
        events: &mut AsyncSubscription,
    ) -> Result<(), DaemonError> {
        let wake = self.next_wake();
        loop {
            let request = tokio::select! {
                Some(request) = self.parts.inbox.requests.recv() => request,
                event = events.next() => {
                    match event.ok_or(DaemonError::EventsEnded)?? {
                        Event::Condition { name, .. } if name == "network" || name == "time" => {
                            return Ok(());
                        }
                        _ => continue,
                    }
                }
                Ok(()) = self.code.changed() => return Ok(()),
                () = self.parts.machine.news() => return Ok(()),
                () = tokio::time::sleep_until(wake) => return Ok(()),
            };
            if self.answer(control, request).await {
                return Ok(());
            }
        }
    }

    fn next_wake(&self) -> Instant {
        let now = Instant::now();
        let of_stage = match &self.stage {
            Stage::Maintenance { look_again, .. } => Some(*look_again),
            Stage::Running(running) => running
                .trial
                .as_ref()
                .map(|(trial, _)| now + trial.left(self.parts.machine.since_boot())),
        };
        let deadline = match self.network_since {
            None => self.begun + NETWORK_DEADLINE,
            Some(since) => since + TIME_DEADLINE,
        };
        // Nothing follows from a deadline that is over.
        let deadline = Some(deadline).filter(|deadline| *deadline > now);
        let reasons = [self.retry, of_stage, deadline];
        reasons
            .into_iter()
            .flatten()
            .fold(now + SAFETY_LOOK, Instant::min)
    }

    /// Says something to people, unless it was said last on this subject.
    async fn tell(
        &mut self,
        control: &mut AsyncClient,
        level: Level,
        subject: &'static str,
        text: &str,
    ) {
        if self.told.get(subject).is_none_or(|told| told != text) {
            say(control, level, text).await;
            self.told.insert(subject, text.to_owned());
        }
    }
}

/// The last words of a daemon that gives up.
pub(crate) async fn report(control: &mut AsyncClient, error: &DaemonError) {
    say(
        control,
        Level::Error,
        &format!("machined: {}", chain(error)),
    )
    .await;
}

#[cfg(test)]
mod tests;
