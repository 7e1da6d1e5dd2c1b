//! Configuration of a Keelson node: the types, reading them from YAML with errors that say where
//! and what to do, and the defaults.
//!
//! [`NodeConfig::parse`] is the only door: what it returns passed every rule. Whoever needs the
//! values that a node really uses calls [`NodeConfig::effective`] with the machine id;
//! [`NodeConfig::default_for`] is the same for a node without a configuration. [`diff`] says what
//! another configuration would change and what that takes.
//! The feature `schema` adds the JSON schema, `docs` the generated reference page; neither is part
//! of the node's binary.

mod address;
mod certificate;
mod diff;
mod effect;
mod endpoint;
mod error;
mod explain;
mod limits;
mod locate;
mod model;
mod name;
mod parse;
#[cfg(feature = "docs")]
pub mod reference;
mod secret;
mod text;
mod upgrade;
mod validate;

pub use address::{Cidr, Family, InterfaceAddress, Mtu, RouteTarget};
pub use certificate::CertificatePem;
pub use diff::{Change, diff};
pub use effect::{EFFECTS, Effect};
pub use endpoint::Endpoint;
pub use error::{ConfigError, Position};
pub use limits::{CpuWeight, SERVICES, ServiceName, Size};
pub use model::{
    Api, ApiVersion, Cluster, Datastore, Interface, Kind, Network, NodeConfig, RegistryMirror,
    Route, ServiceLimits,
};
pub use name::{ClusterName, Domain, Hostname, InterfaceName, MachineId, RegistryHost, ServerName};
pub use parse::{EmitError, MAX_BYTES};
pub use secret::{HIDDEN, Secret};
pub use text::InvalidValue;
pub use upgrade::{CheckKind, CheckUrl, Span, Upgrade};
