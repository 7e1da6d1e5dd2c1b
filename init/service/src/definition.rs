//! What a definition says, with its defaults.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;

use crate::{Capability, FileMode, Limits, Name, Signal};

/// One service.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct ServiceDefinition {
    /// Name of the service, of its cgroup and of its log.
    pub name: Name,
    /// What it does, for people.
    pub description: String,
    /// Program with its absolute path, then arguments; `${fact}` is expanded in all but the first.
    pub command: Vec<String>,
    /// Environment on top of PATH and HOME; values are expanded.
    #[serde(default)]
    pub environment: BTreeMap<String, String>,
    /// User by name; root when absent.
    #[serde(default)]
    pub user: Option<String>,
    /// Group by name; the user's own when absent.
    #[serde(default)]
    pub group: Option<String>,
    /// Further groups.
    #[serde(default)]
    pub supplementary_groups: Vec<String>,
    /// Ambient and bounding set. Absent: all for root, none for anyone else.
    #[serde(default)]
    pub capabilities: Option<Vec<Capability>>,
    /// Whether set-user-id programs are without effect below it.
    #[serde(default = "yes")]
    pub no_new_privileges: bool,
    /// Runs for good or does one piece of work.
    #[serde(default)]
    pub kind: Kind,
    /// Whether the node could no longer be managed without it: it can be restarted on request,
    /// but neither it nor what it needs can be stopped.
    #[serde(default)]
    pub essential: bool,
    /// Facts that must have these values, else the service is disabled. Decided once the
    /// condition `config` holds.
    #[serde(default)]
    pub only: BTreeMap<Name, String>,
    /// What must be there before it starts.
    #[serde(default)]
    pub needs: Needs,
    /// Conditions it may raise and clear.
    #[serde(default)]
    pub provides: Vec<Name>,
    /// Facts it may set.
    #[serde(default)]
    pub provides_facts: Vec<Name>,
    /// When it counts as ready. Default: `started` for a daemon, `exited` for a oneshot.
    #[serde(default)]
    pub ready: Option<Readiness>,
    /// Longest wait for readiness of one start, in seconds; past it the process is restarted.
    /// 0 = for ever.
    #[serde(default)]
    pub ready_timeout_seconds: u32,
    /// A check that restarts it when it fails.
    #[serde(default)]
    pub liveness: Option<Liveness>,
    /// Longest silence in seconds of a service that sends sd_notify's WATCHDOG=1.
    #[serde(default)]
    pub watchdog_seconds: Option<u32>,
    /// How it is ended.
    #[serde(default)]
    pub stop: StopConfig,
    /// What follows when it ends by itself.
    #[serde(default)]
    pub restart: RestartConfig,
    /// Limits of its cgroup.
    #[serde(default)]
    pub resources: Resources,
    /// Order of death when memory runs out: higher dies first.
    #[serde(default)]
    pub oom_score_adj: i16,
    /// Limits of the process.
    #[serde(default)]
    pub limits: Limits,
    /// Made before each start.
    #[serde(default)]
    pub directories: Vec<Directory>,
}

impl ServiceDefinition {
    /// The readiness in force.
    pub fn readiness(&self) -> Readiness {
        match (&self.ready, self.kind) {
            (Some(ready), _) => ready.clone(),
            (None, Kind::Daemon) => Readiness::Started {},
            (None, Kind::Oneshot) => Readiness::Exited {},
        }
    }

    /// The restart policy in force: a daemon always, a oneshot only when it failed.
    pub fn restart_policy(&self) -> RestartPolicy {
        self.restart.policy.unwrap_or(match self.kind {
            Kind::Daemon => RestartPolicy::Always,
            Kind::Oneshot => RestartPolicy::OnFailure,
        })
    }

    /// Longest wait for readiness, `None` = for ever.
    pub fn ready_timeout(&self) -> Option<Duration> {
        (self.ready_timeout_seconds > 0)
            .then(|| Duration::from_secs(u64::from(self.ready_timeout_seconds)))
    }
}

/// Runs for good or does one piece of work.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Runs for good.
    #[default]
    Daemon,
    /// Ends with exit code 0 when its work is done.
    Oneshot,
}

/// What must be there before a start. It gates starting only: what has started is left alone
/// when a need goes away.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Needs {
    /// Services that must be ready; a disabled one counts as ready.
    pub services: Vec<Name>,
    /// Conditions that must hold.
    pub conditions: Vec<Name>,
}

/// When a service counts as ready.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub enum Readiness {
    /// A program of its user ends with exit code 0.
    Exec(Exec),
    /// It ended with exit code 0.
    Exited {},
    /// It sent READY=1.
    Notify {},
    /// Its process exists.
    Started {},
    /// A TCP connection is accepted.
    Tcp {
        /// Address and port: `127.0.0.1:2379`.
        address: String,
    },
    /// A connection to a unix socket is accepted.
    Unix {
        /// Path of the socket.
        path: String,
        /// User who gets the socket, for programs that make it 0600 after they listen: before
        /// that it is not ready, because they could not change a socket of somebody else.
        #[serde(default)]
        owner: Option<String>,
    },
}

/// A program that checks something.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Exec {
    /// Program with its absolute path, then arguments; expanded like a command.
    pub command: Vec<String>,
    /// Time between the end of one run and the next.
    #[serde(default = "probe_interval_ms")]
    pub interval_ms: u32,
    /// Longest run; then it is killed and counts as failed.
    #[serde(default = "probe_timeout_seconds")]
    pub timeout_seconds: u32,
}

/// A check of a running service. It begins once the service is ready. While the machine does not
/// get its work done the service is given four times as long.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub enum Liveness {
    /// By a program of its user.
    #[serde(rename_all = "camelCase")]
    Exec {
        /// Program with its absolute path, then arguments; expanded like a command.
        command: Vec<String>,
        /// Time between the end of a good run and the next; a failed one is repeated sooner.
        #[serde(default = "liveness_interval_seconds")]
        interval_seconds: u32,
        /// Longest run; then it is killed and counts as failed.
        #[serde(default = "liveness_timeout_seconds")]
        timeout_seconds: u32,
        /// Failures in a row that restart the service.
        #[serde(default = "liveness_failures")]
        failures: u32,
    },
}

/// How a service is ended.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct StopConfig {
    /// Sent to the main process first.
    pub signal: Signal,
    /// Time until everything left is killed.
    pub timeout_seconds: u32,
    /// Whether the whole cgroup is killed at the end, or only the main process.
    pub kill_cgroup: bool,
    /// Cgroups that are emptied before the service is told to end at shutdown, as paths below
    /// the root: their processes get SIGTERM and, in the end, SIGKILL.
    pub clear_first: Vec<String>,
    /// Time those processes have.
    pub clear_timeout_seconds: u32,
}

impl Default for StopConfig {
    fn default() -> Self {
        // etcd and the API server end within a few seconds even under emulation; whoever needs
        // longer says so.
        // Pods that take SIGTERM seriously end in a few seconds; those that do not would take
        // any time given.
        Self {
            signal: Signal::SIGTERM,
            timeout_seconds: 20,
            kill_cgroup: true,
            clear_first: Vec::new(),
            clear_timeout_seconds: 10,
        }
    }
}

/// What follows when a service ends by itself. The first restart after a stable run is
/// immediate; then the delay doubles, with jitter, up to the cap. One that was killed from
/// outside comes back at once every time.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct RestartConfig {
    /// When to restart; see [`ServiceDefinition::restart_policy`] for the default.
    pub policy: Option<RestartPolicy>,
    /// Delay before the first restart.
    pub initial_delay_ms: u32,
    /// Longest delay.
    pub max_delay_seconds: u32,
    /// Time it must have been ready for an end to count as the first.
    pub stable_seconds: u32,
}

impl Default for RestartConfig {
    fn default() -> Self {
        Self {
            policy: None,
            initial_delay_ms: 0,
            max_delay_seconds: 30,
            stable_seconds: 60,
        }
    }
}

/// When to restart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RestartPolicy {
    /// Whatever the exit status.
    Always,
    /// Never.
    Never,
    /// After anything but exit code 0.
    OnFailure,
}

/// Limits of the cgroup, written as the kernel takes them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Resources {
    /// Bytes kept from reclaim.
    pub memory_low: Option<u64>,
    /// Bytes above which it is slowed down.
    pub memory_high: Option<u64>,
    /// Bytes above which it is killed.
    pub memory_max: Option<u64>,
    /// Share of the processor, 1 to 10000, 100 being normal.
    pub cpu_weight: Option<u16>,
    /// Most processes and threads.
    pub pids_max: Option<u32>,
}

/// A directory that must exist. Its parents are made for root with mode 0755; no symbolic link
/// on the way is followed.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Directory {
    /// Absolute path.
    pub path: String,
    /// Permission bits.
    #[serde(default = "directory_mode")]
    pub mode: FileMode,
    /// User and group by the user's name; the service's when absent.
    #[serde(default)]
    pub owner: Option<String>,
}

fn yes() -> bool {
    true
}

fn directory_mode() -> FileMode {
    FileMode::DIRECTORY_DEFAULT
}

/// Short enough not to add to the boot, long enough not to load a small machine.
fn probe_interval_ms() -> u32 {
    250
}

fn probe_timeout_seconds() -> u32 {
    10
}

/// A hang is rare, and a check costs a TLS handshake; a process that ends or is halted is noticed
/// at once and needs no check.
fn liveness_interval_seconds() -> u32 {
    30
}

/// Ten times what the slowest service needs on an emulated machine that is busy.
fn liveness_timeout_seconds() -> u32 {
    15
}

fn liveness_failures() -> u32 {
    3
}
