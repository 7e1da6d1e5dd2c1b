//! `config`, `apply` and `edit config`: the node's configuration and the contexts.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use keelson_client::Endpoint;
use keelson_config::{Cidr, ClusterName, Hostname, InterfaceAddress, InterfaceName, ServerName};

use super::Output;
use crate::units::parse_wait;

/// `config`.
#[derive(Debug, Subcommand)]
pub(crate) enum ConfigurationVerb {
    /// Show the configuration in use, secrets hidden
    Show {
        /// With every default filled in
        #[arg(long)]
        defaults: bool,
        /// Print only its revision, for `apply --if-revision`
        #[arg(long, conflicts_with_all = ["defaults", "format"])]
        revision: bool,
        #[command(flatten)]
        output: Output,
    },
    /// Print the JSON schema of the configuration
    Schema,
    /// Check whether the node could use a configuration
    Validate {
        #[command(flatten)]
        file: ConfigurationFile,
        /// Check with what this program knows, without a node
        #[arg(long)]
        local: bool,
    },
    /// Show what a configuration would change
    Diff {
        #[command(flatten)]
        file: ConfigurationFile,
        #[command(flatten)]
        output: Output,
    },
    /// Write a new configuration, from options or a few questions
    New(NewConfiguration),
    /// Keep the configuration that is on trial
    Confirm,
    /// End a trial at once: the configuration before it holds again
    Revert,
    /// Show the contexts
    Contexts(Output),
    /// Make a context the current one
    Use {
        /// Its name
        name: String,
    },
    /// Add a context, from a file that somebody made for you or from its parts
    Add(AddContext),
    /// Remove a context with its key
    Remove {
        /// Its name
        name: String,
    },
}

/// A configuration on this computer.
#[derive(Debug, Args)]
pub(crate) struct ConfigurationFile {
    /// File with the configuration; - is standard input
    #[arg(short = 'f', long = "file", value_name = "FILE")]
    pub(crate) path: PathBuf,
}

/// `apply`.
#[derive(Debug, Args)]
pub(crate) struct Apply {
    #[command(flatten)]
    pub(crate) file: ConfigurationFile,
    /// Say what would happen, and do nothing
    #[arg(long, conflicts_with = "try_for")]
    pub(crate) dry_run: bool,
    /// Go back to the configuration before after this time, unless somebody confirms
    #[arg(long = "try", id = "try_for", value_name = "DURATION", value_parser = parse_wait)]
    pub(crate) try_for: Option<Duration>,
    /// Do nothing unless this revision is in use, as `config show --revision` prints it: what
    /// somebody else changed meanwhile is not undone
    #[arg(long, value_name = "REVISION", value_parser = parse_revision)]
    pub(crate) if_revision: Option<String>,
    /// One-time code from the console of a node in maintenance; makes you an admin of it and
    /// writes a context
    #[arg(long, value_name = "CODE", conflicts_with_all = ["dry_run", "try_for", "if_revision"])]
    pub(crate) code: Option<String>,
    /// With --code: your name on the node (default: $USER)
    #[arg(long, value_name = "NAME", requires = "code")]
    pub(crate) person: Option<String>,
    /// With --code: name of the context (default: the node's host name)
    #[arg(long, value_name = "CONTEXT", requires = "code")]
    pub(crate) save_as: Option<String>,
    #[command(flatten)]
    pub(crate) output: Output,
}

/// SHA-256 as the API writes it. An empty one would mean any.
fn parse_revision(text: &str) -> Result<String, String> {
    let hexadecimal = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
    if text.len() == 64 && text.bytes().all(hexadecimal) {
        Ok(text.to_owned())
    } else {
        Err("no revision; `keelsonctl config show --revision` prints one".to_owned())
    }
}

/// `edit config`.
#[derive(Debug, Args)]
pub(crate) struct EditConfiguration {
    /// Go back to the configuration before after this time, unless somebody confirms
    #[arg(long = "try", id = "try_for", value_name = "DURATION", value_parser = parse_wait)]
    pub(crate) try_for: Option<Duration>,
}

/// Where the cluster keeps its state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Datastore {
    /// etcd, one member on the node
    Etcd,
    /// kine with an SQLite file: for small machines
    Sqlite,
}

impl From<Datastore> for keelson_config::Datastore {
    fn from(datastore: Datastore) -> Self {
        match datastore {
            Datastore::Etcd => Self::Etcd,
            Datastore::Sqlite => Self::Sqlite,
        }
    }
}

/// `config new`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Args)]
pub(crate) struct NewConfiguration {
    /// Name of the node (default: made from its machine id)
    #[arg(long, value_name = "NAME")]
    pub(crate) hostname: Option<Hostname>,
    /// Interface that addresses and routes are for
    #[arg(long, value_name = "NAME")]
    pub(crate) interface: Option<InterfaceName>,
    /// Ask for an IPv4 address by DHCP (also what happens when no address is given)
    #[arg(long)]
    pub(crate) dhcp: bool,
    /// Static address with the length of its prefix (192.0.2.10/24); may be given several times
    #[arg(
        long = "address",
        value_name = "ADDRESS/LENGTH",
        requires = "interface"
    )]
    pub(crate) addresses: Vec<InterfaceAddress>,
    /// Gateway of the default route; may be given once for IPv4 and once for IPv6
    #[arg(long = "gateway", value_name = "ADDRESS", requires = "interface")]
    pub(crate) gateways: Vec<IpAddr>,
    /// DNS server; may be given several times
    #[arg(long = "dns", value_name = "ADDRESS")]
    pub(crate) name_servers: Vec<IpAddr>,
    /// SNTP server; may be given several times
    #[arg(long = "time-server", value_name = "HOST")]
    pub(crate) time_servers: Vec<ServerName>,
    /// Name of the cluster
    #[arg(long, value_name = "NAME")]
    pub(crate) cluster_name: Option<ClusterName>,
    /// Where the cluster keeps its state
    #[arg(long, value_enum)]
    pub(crate) datastore: Option<Datastore>,
    /// Network of the pods
    #[arg(long = "pod-cidr", value_name = "NETWORK")]
    pub(crate) pod_cidr: Option<Cidr>,
    /// Network of the services
    #[arg(long = "service-cidr", value_name = "NETWORK")]
    pub(crate) service_cidr: Option<Cidr>,
    /// File to write; it must not exist (default: standard output)
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
}

/// `config add`.
#[derive(Debug, Args)]
pub(crate) struct AddContext {
    /// Name of the context
    #[arg(required_unless_present = "from", conflicts_with = "from")]
    pub(crate) name: Option<String>,
    /// Contexts file to take all contexts from, as `cert issue` writes it
    #[arg(long, value_name = "FILE")]
    pub(crate) from: Option<PathBuf>,
    /// A node; may be given several times
    #[arg(
        long = "endpoint",
        value_name = "ADDRESS",
        required_unless_present = "from",
        conflicts_with = "from"
    )]
    pub(crate) endpoints: Vec<Endpoint>,
    /// File with the authority of the nodes (PEM)
    #[arg(
        long,
        value_name = "FILE",
        required_unless_present = "from",
        conflicts_with = "from"
    )]
    pub(crate) authority: Option<PathBuf>,
    /// File with your certificate (PEM)
    #[arg(
        long,
        value_name = "FILE",
        required_unless_present = "from",
        conflicts_with = "from"
    )]
    pub(crate) certificate: Option<PathBuf>,
    /// File with its key (PEM)
    #[arg(
        long,
        value_name = "FILE",
        required_unless_present = "from",
        conflicts_with = "from"
    )]
    pub(crate) key: Option<PathBuf>,
    /// Name in the nodes' certificates, when it is not the one they are reached by
    #[arg(long, value_name = "NAME", conflicts_with = "from")]
    pub(crate) server_name: Option<String>,
    /// Replace contexts of the same name
    #[arg(long)]
    pub(crate) replace: bool,
}
