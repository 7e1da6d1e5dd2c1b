//! The command line. The comments are what people read in `--help`, in the man pages and in
//! docs/reference/keelsonctl.md.

mod certificates;
mod configuration;
mod image;
mod streams;
mod upgrades;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use keelson_client::{Endpoint, Fingerprint};

pub(crate) use self::certificates::{CertificateVerb, IssueArguments, RevokeArguments};
pub(crate) use self::configuration::{
    AddContext, Apply, ConfigurationVerb, Datastore, EditConfiguration, NewConfiguration,
};
pub(crate) use self::image::{ImageVerb, VerifyImage};
pub(crate) use self::streams::{Dmesg, Events, Logs, Reconnect};
pub(crate) use self::upgrades::{Rollback, Upgrade, UpgradeStatusArguments, UpgradeVerb};
use crate::output::Format;
use crate::units::parse_wait;

/// Operates Keelson nodes from outside.
#[derive(Debug, Parser)]
#[command(name = "keelsonctl", version, disable_help_subcommand = true)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) common: Common,
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

/// What every command takes.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Options of every command")]
pub(crate) struct Common {
    /// Context to use instead of the current one
    #[arg(long, global = true, value_name = "NAME")]
    pub(crate) context: Option<String>,
    /// Node to speak to, instead of all of the context; may be given several times
    ///
    /// An endpoint of the context or any other address: HOST or HOST:PORT.
    #[arg(short = 'n', long = "node", global = true, value_name = "ADDRESS")]
    pub(crate) nodes: Vec<Endpoint>,
    /// Longest wait for one answer of a node
    #[arg(long, global = true, value_name = "DURATION", default_value = "30s", value_parser = parse_wait)]
    pub(crate) timeout: Duration,
    /// Trust the node by its certificate's fingerprint instead of using a context
    ///
    /// For a node in maintenance, whose console shows it (SHA-256). Without a context the node
    /// knows nobody: only version, get disks and apply --code are of use.
    #[arg(long, global = true, value_name = "HEX")]
    pub(crate) fingerprint: Option<Fingerprint>,
    /// No colours
    ///
    /// There are none either when NO_COLOR is set or the output is no terminal.
    #[arg(long, global = true)]
    pub(crate) no_color: bool,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Put a configuration into use
    Apply(Apply),
    /// Show how long each part of the boot took
    BootReport(Output),
    /// Show the content of a file
    Cat {
        /// Path on the node; what holds secrets is refused
        path: String,
    },
    /// Certificates of the node and of people
    #[command(subcommand)]
    Cert(CertificateVerb),
    /// Print the completions for a shell
    Completion {
        /// The shell
        shell: Shell,
    },
    /// The node's configuration, and the contexts of this program
    #[command(subcommand)]
    Config(ConfigurationVerb),
    /// Show one thing with all that is known about it
    #[command(subcommand)]
    Describe(DescribeVerb),
    /// Show what the kernel logged
    Dmesg(Dmesg),
    /// Change something with an editor
    #[command(subcommand)]
    Edit(EditVerb),
    /// Show what happened
    Events(Events),
    /// List things of the node
    Get(Get),
    /// Check the node's health; the exit code is 5 when a check has not passed
    Health(Output),
    /// Update bundles on this computer
    #[command(subcommand)]
    Image(ImageVerb),
    /// Get a kubeconfig with every right in the cluster
    Kubeconfig(Kubeconfig),
    /// Show the logs of services
    Logs(Logs),
    /// List a folder
    Ls {
        /// Path on the node
        #[arg(default_value = "/")]
        path: String,
        #[command(flatten)]
        output: Output,
    },
    /// Write the man pages
    Man {
        /// Folder to write them into
        folder: PathBuf,
    },
    /// Print the node's metrics, as Prometheus gets them from https://NODE:9440/metrics with a
    /// client certificate
    Metrics,
    /// End everything in order and start again
    Reboot(Reboot),
    /// Erase partitions and reboot: what was on them is gone
    Reset(Reset),
    /// Stop services and start them again
    Restart(ServiceNames),
    /// Go back to the version in the other slot, which has to prove itself again
    Rollback(Rollback),
    /// End everything in order and switch off
    Shutdown {
        /// Why, for the console and the audit line
        #[arg(long, value_name = "TEXT", default_value = "")]
        reason: String,
    },
    /// Start services that were stopped
    Start(ServiceNames),
    /// Show the node at a glance
    Status(Output),
    /// Stop services until they are started again or the node reboots
    Stop(ServiceNames),
    /// Fetch everything a supporter asks for as one archive, secrets left out
    Support {
        /// File to write (default: support-NODE-TIME.tar.zst)
        #[arg(short, long, value_name = "FILE")]
        output: Option<PathBuf>,
    },
    /// Install another version into the slot that is not running, and reboot into it
    Upgrade(Upgrade),
    /// Show what runs on the node (`--version` is about this program)
    Version(Output),
}

/// Form of the output.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct Output {
    /// Form of the output: table, wide (more columns, full times), json or yaml (the API's
    /// messages)
    #[arg(
        short = 'o',
        long = "output",
        value_enum,
        value_name = "FORM",
        hide_possible_values = true,
        default_value_t
    )]
    pub(crate) format: Format,
}

/// What can be listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Resource {
    /// IP addresses and links (address, addr, links)
    #[value(aliases = ["address", "addr", "link", "links"])]
    Addresses,
    /// Certificates with their expiry (certificate, cert)
    #[value(aliases = ["certificate", "cert", "certs"])]
    Certificates,
    /// What each control group uses (cgroup, cg)
    #[value(aliases = ["cgroup", "cg"])]
    Cgroups,
    /// The configuration in use, secrets hidden (configuration)
    #[value(alias = "configuration")]
    Config,
    /// Disks and their partitions (disk)
    #[value(alias = "disk")]
    Disks,
    /// What happened (event, ev)
    #[value(aliases = ["event", "ev"])]
    Events,
    /// Memory of the machine (mem)
    #[value(alias = "mem")]
    Memory,
    /// Mounted file systems (mount)
    #[value(alias = "mount")]
    Mounts,
    /// Processes (process, proc, ps)
    #[value(aliases = ["process", "proc", "ps"])]
    Processes,
    /// Routes (route)
    #[value(alias = "route")]
    Routes,
    /// Services of the node (service, svc)
    #[value(aliases = ["service", "svc"])]
    Services,
    /// What is in the two slots, and whether it is good (slot)
    #[value(alias = "slot")]
    Slots,
    /// TCP and UDP sockets (socket, ss)
    #[value(aliases = ["socket", "ss"])]
    Sockets,
}

/// `get`.
#[derive(Debug, Args)]
pub(crate) struct Get {
    /// What to list
    #[arg(value_enum)]
    pub(crate) resource: Resource,
    #[command(flatten)]
    pub(crate) output: Output,
    /// Ask again every two seconds and show what changed, until Ctrl-C
    #[arg(short, long)]
    pub(crate) watch: bool,
    #[command(flatten)]
    pub(crate) reconnect: Reconnect,
    /// Only sockets that listen
    #[arg(short, long)]
    pub(crate) listening: bool,
}

/// `describe`.
#[derive(Debug, Subcommand)]
pub(crate) enum DescribeVerb {
    /// A service: what it is, what it uses, how it ended before, its last log lines
    #[command(visible_alias = "svc")]
    Service {
        /// Its name
        name: String,
        #[command(flatten)]
        output: Output,
    },
}

/// `edit`.
#[derive(Debug, Subcommand)]
pub(crate) enum EditVerb {
    /// The configuration in use, with $VISUAL or $EDITOR; it is checked before it is applied
    Config(EditConfiguration),
}

/// Services to act on.
#[derive(Debug, Args)]
pub(crate) struct ServiceNames {
    /// Names of services
    #[arg(required = true, value_name = "SERVICE")]
    pub(crate) services: Vec<String>,
}

/// `kubeconfig`.
#[derive(Debug, Args)]
pub(crate) struct Kubeconfig {
    /// File to write, for you only (default: standard output)
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    /// Replace the file
    #[arg(long, requires = "output")]
    pub(crate) force: bool,
}

/// `reboot`.
#[derive(Debug, Args)]
pub(crate) struct Reboot {
    /// Why, for the console and the audit line
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub(crate) reason: String,
    /// Wait until the node is back and healthy, at most so long
    #[arg(
        long,
        value_name = "DURATION",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "10m",
        value_parser = parse_wait
    )]
    pub(crate) wait: Option<Duration>,
}

/// Partitions that can be erased.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ResetPartition {
    /// Identity, keys and configuration
    #[value(name = "STATE")]
    State,
    /// The cluster, images, volumes and logs
    #[value(name = "DATA")]
    Data,
}

/// `reset`.
#[derive(Debug, Args)]
pub(crate) struct Reset {
    /// What is erased: STATE, DATA, or both with a comma between
    #[arg(
        long,
        value_enum,
        ignore_case = true,
        required = true,
        value_delimiter = ',',
        value_name = "PARTITIONS"
    )]
    pub(crate) partitions: Vec<ResetPartition>,
    /// The node's own name, as `status` shows it; without it you are asked
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<String>,
    /// Do not ask; needs --name
    #[arg(long, requires = "name")]
    pub(crate) yes: bool,
    /// Switch off instead of rebooting
    #[arg(long)]
    pub(crate) power_off: bool,
}
