//! Carries out the plan: completes what is missing, renews what is due, replaces no authority.

use std::collections::BTreeMap;
use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rcgen::KeyPair;
use time::OffsetDateTime;

use crate::authority::{Authority, AuthorityPair};
use crate::decision::{Decision, Rule, Why, decide};
use crate::delivery::Delivery;
use crate::issue::{IssueError, issue};
use crate::plan::{Custody, Identity, KUBE_APISERVER, KUBE_CONTROLLER_MANAGER, Plan};
use crate::vault::{Vault, VaultError};

/// Signs the tokens of service accounts.
const SERVICE_ACCOUNT_KEY: &str = "service-account.key";
/// Encrypts secrets in the datastore.
const ENCRYPTION_KEY: &str = "encryption.key";
/// Key length of secretbox (XSalsa20 and Poly1305).
const ENCRYPTION_KEY_BYTES: usize = 32;

/// The PKI could not be completed.
#[derive(Debug, thiserror::Error)]
pub enum EstablishError {
    /// An authority or key that must never be replaced cannot be read.
    #[error(
        "{name} on STATE is damaged; everything signed with it depends on it, so it is not made \
         anew: restore it from a backup, or remove it to begin anew without what was signed"
    )]
    Damaged {
        /// The file.
        name: String,
        /// Why.
        #[source]
        source: IssueError,
    },
    /// The plan names an authority it does not contain.
    #[error("the plan has no authority {0:?} to sign with")]
    NoAuthority(Authority),
    /// A certificate or key could not be made.
    #[error("cannot make {name}")]
    Make {
        /// The file.
        name: String,
        /// Why.
        #[source]
        source: IssueError,
    },
    /// The kernel gave no random bytes.
    #[error("the kernel gives no random bytes: {0}")]
    Random(getrandom::Error),
    /// STATE could not be read or written.
    #[error("the PKI on STATE is out of reach")]
    Vault(#[from] VaultError),
}

/// One thing that was made, for the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// The file.
    pub name: String,
    /// Why it was made.
    pub why: Why,
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "made {} because {}", self.name, self.why)
    }
}

/// A complete PKI.
pub struct Established {
    /// The authorities of the plan.
    pub authorities: BTreeMap<Authority, AuthorityPair>,
    /// What was made this time.
    pub notes: Vec<Note>,
    identities: Vec<(Identity, String)>,
    service_account_key: KeyPair,
    encryption_key: String,
}

/// Brings the vault in line with the plan.
///
/// # Errors
/// When STATE is out of reach, or an authority or key that must not be replaced is damaged.
pub fn establish(
    vault: &mut dyn Vault,
    plan: &Plan,
    now: OffsetDateTime,
) -> Result<Established, EstablishError> {
    let mut notes = Vec::new();
    let authorities = complete_authorities(vault, plan, now, &mut notes)?;
    let service_account_key = load_service_account_key(vault, &mut notes)?;
    let encryption_key = load_encryption_key(vault, &mut notes)?;
    let identities = complete_identities(vault, plan, &authorities, now, &mut notes)?;
    Ok(Established {
        authorities,
        notes,
        identities,
        service_account_key,
        encryption_key,
    })
}

/// A new pair for kubelet's store, when the one there cannot serve.
///
/// # Errors
/// When the certificate cannot be made.
pub fn kubelet_pair(
    existing: Option<&[u8]>,
    identity: &Identity,
    established: &Established,
    now: OffsetDateTime,
) -> Result<Option<(String, Why)>, EstablishError> {
    let authority = established
        .authorities
        .get(&identity.issuer)
        .ok_or(EstablishError::NoAuthority(identity.issuer))?;
    match decide(existing, identity, authority, Rule::Kubelets, now) {
        Decision::Keep => Ok(None),
        Decision::Make(why) => issue(identity, authority, now)
            .map(|content| Some((content, why)))
            .map_err(|source| EstablishError::Make {
                name: identity.name.to_owned(),
                source,
            }),
    }
}

impl Established {
    /// Every key with the one user who reads it.
    #[must_use]
    pub fn deliveries(&self) -> Vec<Delivery> {
        let mut deliveries: Vec<_> = self
            .identities
            .iter()
            .filter_map(|(identity, content)| match identity.custody {
                Custody::User(user) => Some(Delivery {
                    user,
                    file: format!("{}.pem", identity.name),
                    content: content.clone(),
                }),
                Custody::Kubelet | Custody::Operator => None,
            })
            .collect();
        deliveries.push(Delivery {
            user: KUBE_APISERVER,
            file: SERVICE_ACCOUNT_KEY.to_owned(),
            content: self.service_account_key.serialize_pem(),
        });
        // It signs the certificate requests that clusterd's rules approve.
        if let Some(authority) = self.authorities.get(&Authority::Cluster) {
            deliveries.push(Delivery {
                user: KUBE_CONTROLLER_MANAGER,
                file: Authority::Cluster.vault_name(),
                content: authority.pair_pem().to_owned(),
            });
        }
        deliveries
    }

    /// What everyone may read: file name and content.
    #[must_use]
    pub fn public_files(&self) -> Vec<(String, String)> {
        let mut files: Vec<_> = self
            .authorities
            .iter()
            .map(|(name, authority)| {
                let file = format!("{}.crt", name.name());
                (file, authority.certificate_pem().to_owned())
            })
            .collect();
        files.push((
            "service-account.pub".to_owned(),
            self.service_account_key.public_key_pem(),
        ));
        files
    }

    /// Every identity kept on STATE with its file's content.
    pub fn identities(&self) -> impl Iterator<Item = (&Identity, &str)> {
        self.identities
            .iter()
            .map(|(identity, content)| (identity, content.as_str()))
    }

    /// Certificate and key of people who administer the cluster.
    #[must_use]
    pub fn operator_pair(&self) -> Option<&str> {
        self.identities
            .iter()
            .find(|(identity, _)| identity.custody == Custody::Operator)
            .map(|(_, content)| content.as_str())
    }

    /// The secretbox key for data at rest, in base64.
    #[must_use]
    pub fn encryption_key(&self) -> &str {
        &self.encryption_key
    }
}

pub(crate) fn complete_authorities(
    vault: &mut dyn Vault,
    plan: &Plan,
    now: OffsetDateTime,
    notes: &mut Vec<Note>,
) -> Result<BTreeMap<Authority, AuthorityPair>, EstablishError> {
    let mut authorities = BTreeMap::new();
    for &authority in &plan.authorities {
        authorities.insert(authority, load_authority(vault, authority, now, notes)?);
    }
    Ok(authorities)
}

/// Each with its file's content.
pub(crate) fn complete_identities(
    vault: &mut dyn Vault,
    plan: &Plan,
    authorities: &BTreeMap<Authority, AuthorityPair>,
    now: OffsetDateTime,
    notes: &mut Vec<Note>,
) -> Result<Vec<(Identity, String)>, EstablishError> {
    let mut identities = Vec::new();
    for identity in &plan.identities {
        let Some(name) = identity.vault_name() else {
            continue;
        };
        let authority = authorities
            .get(&identity.issuer)
            .ok_or(EstablishError::NoAuthority(identity.issuer))?;
        let content = load_identity(vault, &name, identity, authority, now, notes)?;
        identities.push((identity.clone(), content));
    }
    Ok(identities)
}

fn load_authority(
    vault: &mut dyn Vault,
    authority: Authority,
    now: OffsetDateTime,
    notes: &mut Vec<Note>,
) -> Result<AuthorityPair, EstablishError> {
    let name = authority.vault_name();
    if let Some(content) = vault.read(&name)? {
        return AuthorityPair::load(&content)
            .map_err(|source| EstablishError::Damaged { name, source });
    }
    let pair = AuthorityPair::generate(authority, now).map_err(|source| EstablishError::Make {
        name: name.clone(),
        source,
    })?;
    store(vault, name, pair.pair_pem(), Why::Absent, notes)?;
    Ok(pair)
}

fn load_service_account_key(
    vault: &mut dyn Vault,
    notes: &mut Vec<Note>,
) -> Result<KeyPair, EstablishError> {
    let name = SERVICE_ACCOUNT_KEY.to_owned();
    if let Some(content) = vault.read(&name)? {
        return String::from_utf8(content)
            .map_err(|_| IssueError::NotText)
            .and_then(|text| KeyPair::from_pem(&text).map_err(IssueError::Key))
            .map_err(|source| EstablishError::Damaged { name, source });
    }
    let key = KeyPair::generate().map_err(|source| EstablishError::Make {
        name: name.clone(),
        source: IssueError::Generate(source),
    })?;
    store(vault, name, &key.serialize_pem(), Why::Absent, notes)?;
    Ok(key)
}

fn load_encryption_key(
    vault: &mut dyn Vault,
    notes: &mut Vec<Note>,
) -> Result<String, EstablishError> {
    let name = ENCRYPTION_KEY.to_owned();
    if let Some(content) = vault.read(&name)? {
        return String::from_utf8(content)
            .ok()
            .filter(|key| {
                STANDARD
                    .decode(key)
                    .is_ok_and(|k| k.len() == ENCRYPTION_KEY_BYTES)
            })
            .ok_or(EstablishError::Damaged {
                name,
                source: IssueError::NotText,
            });
    }
    let mut key = [0; ENCRYPTION_KEY_BYTES];
    getrandom::fill(&mut key).map_err(EstablishError::Random)?;
    let key = STANDARD.encode(key);
    store(vault, name, &key, Why::Absent, notes)?;
    Ok(key)
}

fn load_identity(
    vault: &mut dyn Vault,
    name: &str,
    identity: &Identity,
    authority: &AuthorityPair,
    now: OffsetDateTime,
    notes: &mut Vec<Note>,
) -> Result<String, EstablishError> {
    let existing = vault.read(name)?;
    let rule = match identity.issuer {
        Authority::Api => Rule::Api,
        Authority::Cluster | Authority::Etcd | Authority::FrontProxy => Rule::Ours,
    };
    let why = match decide(existing.as_deref(), identity, authority, rule, now) {
        Decision::Make(why) => why,
        Decision::Keep => {
            // Judged readable just now, so it is text.
            return Ok(existing
                .map(|content| String::from_utf8_lossy(&content).into_owned())
                .unwrap_or_default());
        }
    };
    let content = issue(identity, authority, now).map_err(|source| EstablishError::Make {
        name: name.to_owned(),
        source,
    })?;
    store(vault, name.to_owned(), &content, why, notes)?;
    Ok(content)
}

fn store(
    vault: &mut dyn Vault,
    name: String,
    content: &str,
    why: Why,
    notes: &mut Vec<Note>,
) -> Result<(), EstablishError> {
    vault.replace(&name, content.as_bytes())?;
    notes.push(Note { name, why });
    Ok(())
}

#[cfg(test)]
mod tests;
