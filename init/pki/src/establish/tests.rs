//! The PKI is complete, verifiable, stable, and survives power cuts.

use std::collections::BTreeSet;
use std::io;
use std::time::Duration as StdDuration;

use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use time::Duration;
use webpki::{EndEntityCert, KeyUsage, anchor_from_trusted_cert};

use super::*;
use crate::facts::{Datastore, test_facts};
use crate::plan::{Usage, plan};

/// Loses power after a number of writes.
#[derive(Default)]
struct MemoryVault {
    files: BTreeMap<String, Vec<u8>>,
    writes_left: Option<usize>,
}

impl Vault for MemoryVault {
    fn read(&self, name: &str) -> Result<Option<Vec<u8>>, VaultError> {
        Ok(self.files.get(name).cloned())
    }

    fn replace(&mut self, name: &str, content: &[u8]) -> Result<(), VaultError> {
        if let Some(left) = &mut self.writes_left {
            *left = left.checked_sub(1).ok_or(VaultError::Read {
                path: name.into(),
                source: io::Error::other("power cut"),
            })?;
        }
        self.files.insert(name.to_owned(), content.to_vec());
        Ok(())
    }
}

fn now() -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(1_790_000_000).unwrap()
}

fn etcd_plan() -> Plan {
    plan(&test_facts(Datastore::Etcd))
}

fn verify(pem: &str, identity: &Identity, authority: &AuthorityPair, at: OffsetDateTime) {
    let leaf = CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
    let root = CertificateDer::from_pem_slice(authority.certificate_pem().as_bytes()).unwrap();
    let leaf = EndEntityCert::try_from(&leaf).unwrap();
    let anchor = anchor_from_trusted_cert(&root).unwrap();
    let seconds = u64::try_from(at.unix_timestamp()).unwrap();
    let usages: &[KeyUsage] = match identity.usage {
        Usage::Client => &[KeyUsage::client_auth()],
        Usage::Server => &[KeyUsage::server_auth()],
        Usage::ClientAndServer => &[KeyUsage::client_auth(), KeyUsage::server_auth()],
    };
    for &usage in usages {
        leaf.verify_for_usage(
            webpki::ALL_VERIFICATION_ALGS,
            std::slice::from_ref(&anchor),
            &[],
            UnixTime::since_unix_epoch(StdDuration::from_secs(seconds)),
            usage,
            None,
            None,
        )
        .unwrap_or_else(|error| panic!("{}: {error}", identity.name));
    }
    let names = identity.dns_names.iter().cloned();
    for name in names.chain(identity.addresses.iter().map(ToString::to_string)) {
        leaf.verify_is_valid_for_subject_name(&ServerName::try_from(name).unwrap())
            .unwrap();
    }
}

fn verify_all(established: &Established, at: OffsetDateTime) {
    for (identity, pem) in &established.identities {
        verify(
            pem,
            identity,
            &established.authorities[&identity.issuer],
            at,
        );
    }
}

#[test]
fn every_certificate_verifies_for_its_usage_and_names() {
    let mut vault = MemoryVault::default();
    let established = establish(&mut vault, &etcd_plan(), now()).unwrap();
    verify_all(&established, now());
    for identity in &etcd_plan().identities {
        if identity.custody == Custody::Kubelet {
            let (pem, why) = kubelet_pair(None, identity, &established, now())
                .unwrap()
                .unwrap();
            assert_eq!(why, Why::Absent);
            verify(
                &pem,
                identity,
                &established.authorities[&identity.issuer],
                now(),
            );
            let again = kubelet_pair(Some(pem.as_bytes()), identity, &established, now());
            assert_eq!(again.unwrap(), None);
        }
    }
}

#[test]
fn certificates_are_valid_for_peers_whose_clock_is_behind_and_never_before_their_authority() {
    let mut vault = MemoryVault::default();
    establish(&mut vault, &etcd_plan(), now()).unwrap();
    let later = now() + Duration::days(300);
    let established = establish(&mut vault, &etcd_plan(), later).unwrap();
    verify_all(&established, later - Duration::minutes(59));
    // A clock far behind the authority's first day: still certificates that become valid.
    vault.files.retain(|name, _| name.contains("-ca"));
    let established = establish(&mut vault, &etcd_plan(), now() - Duration::days(9000)).unwrap();
    verify_all(&established, now());
}

#[test]
fn a_second_run_changes_nothing() {
    let mut vault = MemoryVault::default();
    establish(&mut vault, &etcd_plan(), now()).unwrap();
    let before = vault.files.clone();
    let established = establish(&mut vault, &etcd_plan(), now()).unwrap();
    assert_eq!(established.notes, []);
    assert_eq!(vault.files, before);
}

#[test]
fn leaves_are_renewed_and_authorities_and_keys_stay() {
    let mut vault = MemoryVault::default();
    establish(&mut vault, &etcd_plan(), now()).unwrap();
    let before = vault.files.clone();
    let later = now() + Duration::days(250);
    let established = establish(&mut vault, &etcd_plan(), later).unwrap();
    assert!(
        established
            .notes
            .iter()
            .all(|note| note.why == Why::DueForRenewal)
    );
    verify_all(&established, later + Duration::days(364));
    for (name, content) in before {
        let permanent = name.contains("-ca.") || !name.ends_with(".pem");
        assert_eq!(vault.files[&name] == content, permanent, "{name}");
    }
}

#[test]
fn a_power_cut_at_any_write_is_completed_and_replaces_nothing() {
    let writes = {
        let mut vault = MemoryVault::default();
        establish(&mut vault, &etcd_plan(), now())
            .unwrap()
            .notes
            .len()
    };
    for survived in 0..writes {
        let mut vault = MemoryVault {
            writes_left: Some(survived),
            ..MemoryVault::default()
        };
        assert!(establish(&mut vault, &etcd_plan(), now()).is_err());
        let after_cut = vault.files.clone();
        assert_eq!(after_cut.len(), survived);
        vault.writes_left = None;
        let established = establish(&mut vault, &etcd_plan(), now()).unwrap();
        verify_all(&established, now());
        assert_eq!(established.notes.len(), writes - survived);
        for (name, content) in after_cut {
            assert_eq!(
                vault.files[&name], content,
                "{name} after {survived} writes"
            );
        }
    }
}

#[test]
fn damaged_authorities_and_keys_are_reported_and_left_alone() {
    for name in [
        "cluster-ca.pem",
        "etcd-ca.pem",
        "service-account.key",
        "encryption.key",
    ] {
        let mut vault = MemoryVault::default();
        establish(&mut vault, &etcd_plan(), now()).unwrap();
        vault.files.insert(name.to_owned(), b"garbage".to_vec());
        let before = vault.files.clone();
        match establish(&mut vault, &etcd_plan(), now()) {
            Err(EstablishError::Damaged { name: reported, .. }) => assert_eq!(reported, name),
            other => panic!("{name}: {:?}", other.map(|e| e.notes)),
        }
        assert_eq!(vault.files, before);
    }
}

#[test]
fn every_delivered_key_has_one_reader_and_only_the_controller_manager_signs() {
    let mut vault = MemoryVault::default();
    let established = establish(&mut vault, &etcd_plan(), now()).unwrap();
    let mut keys = BTreeSet::new();
    for delivery in established.deliveries() {
        let key = delivery
            .content
            .split("-----BEGIN")
            .last()
            .unwrap()
            .to_owned();
        assert!(
            keys.insert(key),
            "{}/{} is a second copy",
            delivery.user,
            delivery.file
        );
        let signs = delivery.file == "cluster-ca.pem";
        assert_eq!(signs, delivery.user == "kube-controller-manager" && signs);
    }
    for (name, content) in established.public_files() {
        assert!(!content.contains("PRIVATE"), "{name}");
    }
}

#[test]
fn a_directory_vault_is_private() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let mut vault = crate::DirectoryVault::new(folder.path().to_owned());
    establish(&mut vault, &etcd_plan(), now()).unwrap();
    for entry in std::fs::read_dir(folder.path()).unwrap() {
        let mode = entry.unwrap().metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}
