//! `logs`, `dmesg` and `events`: what comes line by line.

use std::time::Duration;

use clap::Args;

use super::Output;
use crate::units::{Since, parse_span};

/// `logs`.
#[derive(Debug, Args)]
pub(crate) struct Logs {
    /// Names of services; the lines of several are merged by time
    #[arg(required = true, value_name = "SERVICE")]
    pub(crate) services: Vec<String>,
    /// Go on with lines as they come, until Ctrl-C
    #[arg(short, long)]
    pub(crate) follow: bool,
    /// Only lines since then: a duration (10m) or a time (RFC 3339)
    #[arg(long, value_name = "WHEN", value_parser = Since::parse)]
    pub(crate) since: Option<Since>,
    /// Only the last so many lines of each service
    #[arg(long, value_name = "LINES", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) tail: Option<u32>,
    #[command(flatten)]
    pub(crate) reconnect: Reconnect,
    #[command(flatten)]
    pub(crate) output: Output,
}

/// `dmesg`.
#[derive(Debug, Args)]
pub(crate) struct Dmesg {
    /// Go on with lines as they come, until Ctrl-C
    #[arg(short, long)]
    pub(crate) follow: bool,
    /// Only the last so many lines
    #[arg(long, value_name = "LINES", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) tail: Option<u32>,
    #[command(flatten)]
    pub(crate) reconnect: Reconnect,
    #[command(flatten)]
    pub(crate) output: Output,
}

/// `events`.
#[derive(Debug, Args)]
pub(crate) struct Events {
    /// Go on with what happens from now on, until Ctrl-C
    #[arg(short, long, visible_alias = "follow")]
    pub(crate) watch: bool,
    /// Only events since then: a duration (10m) or a time (RFC 3339)
    #[arg(long, value_name = "WHEN", value_parser = Since::parse)]
    pub(crate) since: Option<Since>,
    /// Only this kind: service, condition, boot, network, configuration, health, upgrade, audit
    /// or node;
    /// may be given several times
    #[arg(long = "kind", value_name = "KIND")]
    pub(crate) kinds: Vec<String>,
    /// Only the last so many of those that are kept
    #[arg(long, value_name = "EVENTS", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) tail: Option<u32>,
    #[command(flatten)]
    pub(crate) reconnect: Reconnect,
    #[command(flatten)]
    pub(crate) output: Output,
}

/// How a lost connection is borne by who follows.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct Reconnect {
    /// While following: how long a lost node is tried again, to go on where it was; 0s ends at once
    #[arg(long, value_name = "DURATION", default_value = "10m", value_parser = parse_span)]
    pub(crate) reconnect: Duration,
}
