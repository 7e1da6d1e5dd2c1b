//! Speaks PID 1's control protocol: newline-separated JSON on a unix stream socket.
//!
//! A connection carries requests and their replies in order. After [`Request::Subscribe`] is
//! answered with [`Reply::Ok`], every further line is an [`Event`]: first what already holds
//! (phases, raised conditions, service states), then each change as it happens. PID 1 drops a
//! subscriber that does not read.
//!
//! [`Client`] blocks and has a deadline on every call; [`AsyncClient`] (feature `tokio`) is the
//! same for daemons that run a tokio loop.

mod boot_facts;
mod client;
mod error_chain;
pub mod notify;
#[cfg(feature = "tokio")]
mod tokio_client;
mod wire;

pub use boot_facts::{BootFacts, BootFactsError, LoaderFacts, LoaderKind, StartReason};
pub use client::{Client, ClientError, Subscription};
pub use error_chain::chain;
#[cfg(feature = "tokio")]
pub use tokio_client::{AsyncClient, AsyncSubscription};
pub use wire::{
    BootReport, Event, ExitRecord, Level, Phase, Reply, Request, ResourceLimits, ServiceDetail,
    ServiceState, ServiceStatus, ShutdownKind, Status, decode, encode,
};

use std::time::Duration;

/// Where PID 1 listens.
pub const CONTROL_SOCKET: &str = "/run/keelson/control.sock";

/// Where services send sd_notify messages (PID 1 sets NOTIFY_SOCKET to it).
pub const NOTIFY_SOCKET: &str = "/run/keelson/notify.sock";

/// Longest line either side accepts, newline included. A status of all services with their last
/// log lines fits; a peer that sends more is broken or hostile.
pub const MAX_FRAME: usize = 64 * 1024;

/// PID 1 answers from memory in well under a second; only a dead one takes longer.
pub const CALL_DEADLINE: Duration = Duration::from_secs(10);
