//! The node's public key infrastructure: what certificates exist, when they are made again, and who may read them.
//!
//! - [`plan`](mod@plan) says, as a pure function of [`NodeFacts`], which certificates a node needs and which
//!   single process reads each key.
//! - [`decide`] says what to do with one that exists: keep it, or make it anew and why.
//! - [`establish`] carries this out against a [`Vault`] (STATE's `pki` folder). Every authority and
//!   every identity is one file holding certificate and key, so a power cut leaves a file whole or
//!   absent: what is absent is completed, an authority that exists is never replaced.
//! - [`establish_api`] does the same for the node API, which exists before there is a cluster;
//!   [`PersonRequest`] signs for the people who call it.
//! - [`deliver`] copies each key to the folder of the one user who reads it.
//!
//! All keys are ECDSA P-256. Authorities live ten years, leaves one; leaves are renewed at two
//! thirds of their life.

mod api;
mod authority;
mod decision;
mod delivery;
mod establish;
mod facts;
mod issue;
mod pem;
mod person;
mod plan;
mod summary;
mod vault;

pub use api::{ApiFacts, ApiPki, establish_api, passing_pair};
pub use authority::{Authority, AuthorityPair};
pub use decision::{Decision, Rule, Why, decide};
pub use delivery::{DeliverError, Delivery, deliver};
pub use establish::{EstablishError, Established, Note, establish, kubelet_pair};
pub use facts::{Datastore, NodeFacts};
pub use issue::IssueError;
pub use person::{IssuedCertificate, PersonError, PersonName, PersonRequest, PersonRequestError};
pub use plan::{Custody, Identity, Plan, Usage, plan};
pub use summary::{CertificateSummary, client_authority, fingerprint, summary};
pub use vault::{DirectoryVault, Vault, VaultError};
