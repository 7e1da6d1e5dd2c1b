//! The node API: messages, clients and servers generated from `proto/`, and who may call what.
//!
//! `keelson apid` terminates TLS, asks [`access`] and passes calls on to `keelson machined`, which
//! serves them. The headers below are apid's word to machined on who calls; what a client sends
//! under these names is dropped.

pub mod access;
mod text;

/// Messages, clients and servers.
#[allow(
    missing_docs,
    clippy::all,
    clippy::pedantic,
    clippy::nursery,
    clippy::restriction,
    reason = "generated"
)]
pub mod v1alpha1 {
    tonic::include_proto!("keelson.node.v1alpha1");
}

pub use text::{phase_word, state_word};

/// TCP port of the node API.
pub const PORT: u16 = 9440;

/// Path of the node's metrics on that port: HTTP/2 GET, for Prometheus.
pub const METRICS_PATH: &str = "/metrics";

/// Where machined serves the calls that apid passes on.
pub const MACHINED_SOCKET: &str = "/run/keelson/machined/api.sock";

/// Longest message either side accepts. The largest are a configuration of 256 KiB with its
/// escapes and the list of processes of a full node.
pub const MAX_MESSAGE_BYTES: usize = 4 * 1024 * 1024;

/// Header with the caller's name.
pub const PERSON_HEADER: &str = "keelson-person";

/// Header with the caller's role.
pub const ROLE_HEADER: &str = "keelson-role";

/// Header with the address the call came from.
pub const PEER_HEADER: &str = "keelson-peer";
