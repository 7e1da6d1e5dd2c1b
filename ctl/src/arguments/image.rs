//! `image`: update bundles on this computer.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::Output;

/// `image`.
#[derive(Debug, Subcommand)]
pub(crate) enum ImageVerb {
    /// Show what an update bundle says about itself, without checking who signed it
    Inspect {
        /// The bundle
        #[arg(value_name = "FILE")]
        file: PathBuf,
        #[command(flatten)]
        output: Output,
    },
    /// Check who signed an update bundle and that every byte of it is what was signed
    Verify(VerifyImage),
}

/// `image verify`.
#[derive(Debug, Args)]
pub(crate) struct VerifyImage {
    /// The bundle
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
    /// The keys to trust: out/keelson.trust of whoever built it, or /usr/share/keelson/trust of a
    /// node (default: the keys this computer builds with)
    #[arg(long, value_name = "FILE")]
    pub(crate) trust: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) output: Output,
}
