//! The node API's own certificates: there from the first boot on, before any configuration.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv6Addr};

use time::{Duration, OffsetDateTime};

use crate::authority::{Authority, AuthorityPair};
use crate::delivery::Delivery;
use crate::establish::{EstablishError, Note, complete_authorities, complete_identities};
use crate::issue::issue_for;
use crate::plan::{Custody, Plan, client, server};
use crate::vault::Vault;

/// The user that runs the node API.
const APID: &str = "apid";

/// File stem of the pair of the machine that runs this one as a virtual machine.
const HOST: &str = "api-host";

/// What the node API's certificates depend on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiFacts {
    /// The node's name.
    pub node_name: String,
    /// Every address the node can be called by.
    pub addresses: BTreeSet<IpAddr>,
    /// Common name and organization for the machine that runs this one, where there is one.
    pub host: Option<(String, String)>,
}

/// The node API's certificates, complete.
pub struct ApiPki {
    /// Signs the API's certificate and people's.
    pub authority: AuthorityPair,
    /// What was made this time.
    pub notes: Vec<Note>,
    serving: String,
    host: Option<String>,
}

fn plan(facts: &ApiFacts) -> Plan {
    let mut serving = server("serving", Authority::Api, "apid", Custody::User(APID));
    serving.dns_names.insert(facts.node_name.clone());
    serving.addresses.insert(Ipv6Addr::LOCALHOST.into());
    serving.addresses.extend(&facts.addresses);
    let mut identities = vec![serving];
    if let Some((person, organization)) = &facts.host {
        let mut host = client(HOST, Authority::Api, person, &[], Custody::Operator);
        host.organizations = vec![organization.clone()];
        identities.push(host);
    }
    Plan {
        authorities: vec![Authority::Api],
        identities,
    }
}

/// Completes what is missing and renews what is due.
///
/// # Errors
/// When STATE is out of reach or the authority is damaged.
pub fn establish_api(
    vault: &mut dyn Vault,
    facts: &ApiFacts,
    now: OffsetDateTime,
) -> Result<ApiPki, EstablishError> {
    let plan = plan(facts);
    let mut notes = Vec::new();
    let mut authorities = complete_authorities(vault, &plan, now, &mut notes)?;
    let identities = complete_identities(vault, &plan, &authorities, now, &mut notes)?;
    let authority = authorities
        .remove(&Authority::Api)
        .ok_or(EstablishError::NoAuthority(Authority::Api))?;
    let mut serving = String::new();
    let mut host = None;
    for (identity, content) in identities {
        match identity.custody {
            Custody::User(_) => serving = content,
            Custody::Operator | Custody::Kubelet => host = Some(content),
        }
    }
    Ok(ApiPki {
        authority,
        notes,
        serving,
        host,
    })
}

/// A pair for a program of the node that calls the API for a while; it is kept nowhere.
///
/// # Errors
/// When there is no authority yet, or STATE is out of reach.
pub fn passing_pair(
    vault: &dyn Vault,
    person: &str,
    organization: &str,
    lifetime: Duration,
    now: OffsetDateTime,
) -> Result<String, EstablishError> {
    let name = Authority::Api.vault_name();
    let content = vault
        .read(&name)?
        .ok_or(EstablishError::NoAuthority(Authority::Api))?;
    let authority = AuthorityPair::load(&content).map_err(|source| EstablishError::Damaged {
        name: name.clone(),
        source,
    })?;
    let mut identity = client("passing", Authority::Api, person, &[], Custody::Operator);
    identity.organizations = vec![organization.to_owned()];
    issue_for(&identity, &authority, lifetime, now)
        .map_err(|source| EstablishError::Make { name, source })
}

impl ApiPki {
    /// For apid: its certificate, the authority and the key. A caller that knows nothing but the
    /// authority's fingerprint needs to be shown the authority.
    #[must_use]
    pub fn delivery(&self) -> Delivery {
        let key = self.serving.find("-----BEGIN PRIVATE KEY-----");
        let (certificate, key) = self.serving.split_at(key.unwrap_or(self.serving.len()));
        Delivery {
            user: APID,
            file: "serving.pem".to_owned(),
            content: format!("{certificate}{}{key}", self.authority.certificate_pem()),
        }
    }

    /// The pair the API serves with.
    #[must_use]
    pub fn serving_pair(&self) -> &str {
        &self.serving
    }

    /// The pair of the machine that runs this one.
    #[must_use]
    pub fn host_pair(&self) -> Option<&str> {
        self.host.as_deref()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use rustls_pki_types::pem::PemObject;
    use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
    use webpki::{EndEntityCert, KeyUsage, anchor_from_trusted_cert};

    use super::*;
    use crate::decision::Why;
    use crate::vault::VaultError;

    #[derive(Default)]
    struct MemoryVault(BTreeMap<String, Vec<u8>>);

    impl Vault for MemoryVault {
        fn read(&self, name: &str) -> Result<Option<Vec<u8>>, VaultError> {
            Ok(self.0.get(name).cloned())
        }

        fn replace(&mut self, name: &str, content: &[u8]) -> Result<(), VaultError> {
            self.0.insert(name.to_owned(), content.to_vec());
            Ok(())
        }
    }

    fn now() -> OffsetDateTime {
        OffsetDateTime::from_unix_timestamp(1_790_000_000).unwrap()
    }

    fn facts() -> ApiFacts {
        ApiFacts {
            node_name: "node-1".to_owned(),
            addresses: ["192.0.2.7".parse().unwrap(), "2001:db8::7".parse().unwrap()].into(),
            host: Some(("admin".to_owned(), "keelson:admin".to_owned())),
        }
    }

    #[test]
    fn apid_gets_its_certificate_the_authority_and_the_key() {
        let pki = establish_api(&mut MemoryVault::default(), &facts(), now()).unwrap();
        let delivery = pki.delivery();
        let content = delivery.content.as_bytes();
        let chain: Vec<_> = CertificateDer::pem_slice_iter(content)
            .map(Result::unwrap)
            .collect();
        assert_eq!(chain.len(), 2);
        assert!(PrivateKeyDer::from_pem_slice(content).is_ok());
        let leaf = EndEntityCert::try_from(&chain[0]).unwrap();
        let anchor = anchor_from_trusted_cert(&chain[1]).unwrap();
        let time = u64::try_from(now().unix_timestamp()).unwrap();
        leaf.verify_for_usage(
            webpki::ALL_VERIFICATION_ALGS,
            &[anchor],
            &[],
            UnixTime::since_unix_epoch(std::time::Duration::from_secs(time)),
            KeyUsage::server_auth(),
            None,
            None,
        )
        .unwrap();
        for name in [
            "node-1",
            "localhost",
            "127.0.0.1",
            "::1",
            "192.0.2.7",
            "2001:db8::7",
        ] {
            leaf.verify_is_valid_for_subject_name(&ServerName::try_from(name).unwrap())
                .unwrap_or_else(|error| panic!("{name}: {error}"));
        }
    }

    #[test]
    fn a_new_address_makes_a_new_certificate_and_keeps_the_authority() {
        let mut vault = MemoryVault::default();
        let first = establish_api(&mut vault, &facts(), now()).unwrap();
        let mut moved = facts();
        moved.addresses.insert("192.0.2.8".parse().unwrap());
        let second = establish_api(&mut vault, &moved, now() + Duration::days(1)).unwrap();
        let made: Vec<_> = second
            .notes
            .iter()
            .map(|n| (n.name.as_str(), n.why))
            .collect();
        assert_eq!(made, [("apid-serving.pem", Why::OtherNames)]);
        assert_eq!(
            first.authority.certificate_pem(),
            second.authority.certificate_pem()
        );
        assert_eq!(first.host_pair(), second.host_pair());
        // An address that went does no harm in the certificate.
        let third = establish_api(&mut vault, &facts(), now() + Duration::days(1)).unwrap();
        assert_eq!(third.notes, []);
    }

    #[test]
    fn a_passing_pair_is_short_lived_and_kept_nowhere() {
        let mut vault = MemoryVault::default();
        let make = |vault: &MemoryVault| {
            let day = Duration::days(1);
            passing_pair(vault, "gate", "keelson:reader", day, now())
        };
        assert!(make(&vault).is_err(), "there is no authority");
        establish_api(&mut vault, &facts(), now()).unwrap();
        let before = vault.0.len();
        let pair = make(&vault).unwrap();
        assert_eq!(vault.0.len(), before);
        let summary = crate::summary(pair.as_bytes()).unwrap();
        assert!(summary.not_after <= now() + Duration::days(1));
        assert!(PrivateKeyDer::from_pem_slice(pair.as_bytes()).is_ok());
    }

    #[test]
    fn a_machine_without_a_host_has_no_pair_for_one() {
        let mut vault = MemoryVault::default();
        let mut alone = facts();
        alone.host = None;
        let pki = establish_api(&mut vault, &alone, now()).unwrap();
        assert_eq!(pki.host_pair(), None);
        let names: Vec<_> = vault.0.keys().map(String::as_str).collect();
        assert_eq!(names, ["api-ca.pem", "apid-serving.pem"]);
    }
}
