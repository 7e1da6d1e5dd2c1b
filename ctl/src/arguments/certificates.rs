//! `cert`: certificates of the node and of people.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use keelson_api::access;
use keelson_client::Fingerprint;

use super::Output;
use crate::units::parse_wait;

/// `cert`.
#[derive(Debug, Subcommand)]
pub(crate) enum CertificateVerb {
    /// Make a certificate for a person, and a contexts file with it; the key is made here
    Issue(IssueArguments),
    /// Show every certificate the node knows
    #[command(visible_alias = "ls")]
    List(Output),
    /// Make a person's certificate worth nothing
    Revoke(RevokeArguments),
}

/// What a person may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Role {
    /// Everything
    Admin,
    /// Keep the node going: services, reboot, files for support
    Operator,
    /// See what is no secret
    Reader,
}

impl Role {
    /// The same for the API.
    pub(crate) const fn access(self) -> access::Role {
        match self {
            Self::Admin => access::Role::Admin,
            Self::Operator => access::Role::Operator,
            Self::Reader => access::Role::Reader,
        }
    }
}

/// `cert issue`.
#[derive(Debug, Args)]
pub(crate) struct IssueArguments {
    /// Who it is for: the name in the audit lines
    #[arg(long, value_name = "NAME")]
    pub(crate) person: String,
    /// What the person may do
    #[arg(long, value_enum)]
    pub(crate) role: Role,
    /// How long it is valid (default: a year)
    #[arg(long, value_name = "DURATION", value_parser = parse_wait)]
    pub(crate) lifetime: Option<Duration>,
    /// Contexts file to write for the person (default: NAME.keelson.yaml)
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
}

/// `cert revoke`.
#[derive(Debug, Args)]
pub(crate) struct RevokeArguments {
    /// SHA-256 fingerprint of the certificate, as `cert list -o wide` shows it
    #[arg(value_name = "FINGERPRINT")]
    pub(crate) certificate: Fingerprint,
}
