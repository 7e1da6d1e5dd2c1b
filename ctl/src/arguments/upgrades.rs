//! `upgrade` and `rollback`: another version, and back.

use clap::{Args, Subcommand};

use super::Output;

/// `upgrade`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Upgrade {
    #[command(subcommand)]
    pub(crate) verb: Option<UpgradeVerb>,
    /// Update bundle to install: a file, or an http:// or https:// URL that this program reads
    #[arg(long, value_name = "FILE|URL")]
    pub(crate) image: Option<String>,
    /// Stop when the other slot is complete; `upgrade activate` goes on
    #[arg(long)]
    pub(crate) stage: bool,
    /// Do not move pods to other nodes before the reboot
    #[arg(long)]
    pub(crate) no_drain: bool,
    /// Accept an older version than the running one
    #[arg(long)]
    pub(crate) allow_downgrade: bool,
    /// Upgrade an unhealthy node too, and to a build that has failed on it before
    #[arg(long)]
    pub(crate) force: bool,
    /// Follow the node over its reboot until the version has proved itself (exit code 0) or the
    /// node has gone back to the one before (7)
    #[arg(short, long, conflicts_with = "stage")]
    pub(crate) watch: bool,
}

/// What can be done about an upgrade.
#[derive(Debug, Subcommand)]
pub(crate) enum UpgradeVerb {
    /// Reboot into what is staged
    Activate {
        /// Do not move pods to other nodes before the reboot
        #[arg(long)]
        no_drain: bool,
        /// Follow the node over its reboot
        #[arg(short, long)]
        watch: bool,
    },
    /// Give the upgrade up; the running version is never touched by one
    Cancel,
    /// Stop writing until it is resumed
    Pause,
    /// Go on with what was paused
    Resume,
    /// Show how the upgrade stands, and how the last one ended
    Status(UpgradeStatusArguments),
    /// Read a slot and compare it with what was signed
    Verify {
        /// The slot, a or b
        slot: String,
    },
}

/// `upgrade status`.
#[derive(Debug, Args)]
pub(crate) struct UpgradeStatusArguments {
    #[command(flatten)]
    pub(crate) output: Output,
    /// Follow it until it has ended
    #[arg(short, long)]
    pub(crate) watch: bool,
}

/// `rollback`.
#[derive(Debug, Args)]
pub(crate) struct Rollback {
    /// Do not move pods to other nodes before the reboot
    #[arg(long)]
    pub(crate) no_drain: bool,
    /// Go back to a build that has failed here before too
    #[arg(long)]
    pub(crate) force: bool,
    /// Follow the node over its reboot
    #[arg(short, long)]
    pub(crate) watch: bool,
}
