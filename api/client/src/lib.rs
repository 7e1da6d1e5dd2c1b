//! Finds a node in the user's contexts and speaks to it over mutual TLS.
//!
//! [`Contexts`] is the file with the nodes a person works with. [`Credentials`] come from one of
//! its contexts, or from a [`Fingerprint`] for a node in maintenance, which nobody has a
//! certificate of yet. [`connect`] makes one connection, and [`Node`] carries calls over it; a
//! connection that is lost is not made again, for the caller knows better whether it should be.

#![forbid(unsafe_code)]

mod call;
mod connect;
mod contexts;
mod credentials;
mod endpoint;
mod fingerprint;
mod identity;
mod transport;
mod trust;

pub use call::{Answers, CallError, Node};
pub use connect::{CONNECT_DEADLINE, ConnectError, connect, presented};
pub use contexts::{Context, Contexts, ContextsError, contexts_path};
pub use credentials::{Credentials, CredentialsError};
pub use endpoint::{Endpoint, InvalidEndpoint};
pub use fingerprint::{Fingerprint, InvalidFingerprint};
pub use identity::{Identity, IdentityError};
