//! Describes services as data: what a YAML file may say, and the facts it may refer to.
//!
//! [`parse`] turns one file into a [`ServiceDefinition`] or an error that names line and key;
//! [`expand`] puts facts into argv and templates. Nothing here touches the system.

mod accounts;
mod capability;
mod definition;
mod describe;
mod expand;
mod file_mode;
mod name;
mod parse;
mod rlimit;
mod signal;

pub use accounts::{Accounts, AccountsError, User};
pub use capability::Capability;
pub use definition::{
    Directory, Exec, Kind, Liveness, Needs, Readiness, Resources, RestartConfig, RestartPolicy,
    ServiceDefinition, StopConfig,
};
pub use expand::{ExpandError, expand, fact_names};
pub use file_mode::FileMode;
pub use name::{Name, NameError};
pub use parse::{ParseError, parse};
pub use rlimit::{Limits, Rlimit};
pub use signal::Signal;
