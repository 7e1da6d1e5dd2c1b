//! Decides what happens to services: events go in, actions come out, nothing is touched.
//!
//! [`Supervisor`] holds what is known (definitions, facts, conditions, the state of each
//! service). Its methods are the events; each appends [`Action`]s to a queue that the executor
//! empties with [`Supervisor::next_action`]. Time is passed in, so tests need no clock.
//!
//! What always holds, whatever the order of events:
//! - a service has at most one main process;
//! - it is started only while everything it needs is there;
//! - the delay before a restart never exceeds its cap;
//! - a shutdown ends by its deadline.

mod action;
mod backoff;
mod due;
mod graph;
mod hangs;
mod service;
mod shutdown;
mod supervisor;
#[cfg(test)]
mod tests;

pub use action::{Action, End, Exit, Notice, ProbeKind, Reason, RunId};
pub use graph::problems;
pub use supervisor::{OrderError, Supervisor};

/// Condition after which `only` can be decided: the configuration's facts are set.
pub const CONFIG_CONDITION: &str = "config";
