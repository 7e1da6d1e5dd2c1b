//! A small Kubernetes client for the node binary: GET, LIST, WATCH, server-side apply.
//!
//! Objects are JSON values: the node touches a handful of kinds and must not carry typed
//! copies of all of them. One [`Client`] keeps one connection for requests; each [`Watch`]
//! has its own. Every request has a deadline.

#![forbid(unsafe_code)]

mod connection;
mod discovery;
mod error;
mod follow;
mod request;
mod watch;

pub use connection::Server;
pub use discovery::{Discovery, GroupVersionKind, ResourcePath};
pub use error::{ConfigureError, RequestError};
pub use follow::{Change, Follower};
pub use request::Client;
pub use watch::{LineBuffer, Watch, WatchEvent};
