//! The certificates people were given, and those that get nothing any more.
//!
//! One file on STATE. What is revoked stays in it for good, also after its last day: a clock that
//! is wrong for an hour must not bring it back.

use std::io;
use std::path::{Path, PathBuf};

use keelson_durable::ReplaceError;
use keelson_pki::{IssuedCertificate, PersonName};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

/// Certificates in the file. At 250 bytes each it stays below a megabyte, of which STATE has 128.
const MOST: usize = 4096;

/// Far more than [`MOST`] certificates take.
const MAX_BYTES: u64 = 4 << 20;

/// One certificate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct Record {
    /// SHA-256 over its DER form, hexadecimal.
    pub(crate) fingerprint: String,
    /// Whom it names; empty for one that another authority signed.
    pub(crate) person: String,
    /// The word for the role; empty for one that another authority signed.
    pub(crate) role: String,
    /// First and last moment of its life, in seconds since 1970.
    pub(crate) not_before: i64,
    pub(crate) not_after: i64,
    pub(crate) revoked: bool,
}

/// The file's content.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct People {
    certificates: Vec<Record>,
}

/// The list cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PeopleError {
    /// It is not what was written.
    #[error(
        "{} is damaged, so nobody can tell whose certificates were revoked: restore it from a \
         backup, or remove it, and every certificate that has not expired is accepted again",
        path.display()
    )]
    Damaged {
        path: PathBuf,
        source: serde_json::Error,
    },
    /// It holds as many as it may.
    #[error(
        "this node has signed {MOST} certificates that are valid or revoked, and keeps no more; \
         sign further ones with an authority of your own (api.clientAuthorities)"
    )]
    Full,
    /// The file is out of reach.
    #[error("cannot read {}", path.display())]
    Read { path: PathBuf, source: io::Error },
    /// The file cannot be replaced.
    #[error("cannot keep the list of certificates")]
    Write(#[from] ReplaceError),
}

/// What became of a revocation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Revocation {
    /// It gets nothing from now on.
    Revoked,
    /// It got nothing before.
    Already,
    /// This node did not sign it.
    Unknown,
}

impl People {
    /// Reads the list; a node that has signed nothing has none.
    pub(crate) fn read(path: &Path) -> Result<Self, PeopleError> {
        let failed = |source| PeopleError::Read {
            path: path.to_owned(),
            source,
        };
        match std::fs::metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            Ok(metadata) if metadata.len() > MAX_BYTES => {
                return Err(failed(io::ErrorKind::FileTooLarge.into()));
            }
            _ => {}
        }
        let text = std::fs::read(path).map_err(failed)?;
        serde_json::from_slice(&text).map_err(|source| PeopleError::Damaged {
            path: path.to_owned(),
            source,
        })
    }

    /// Adds a certificate that was just signed, and forgets those whose last day is over.
    pub(crate) fn add(
        &mut self,
        person: &PersonName,
        role: &str,
        issued: &IssuedCertificate,
        now: OffsetDateTime,
    ) -> Result<(), PeopleError> {
        let now = now.unix_timestamp();
        self.certificates
            .retain(|record| record.revoked || record.not_after > now);
        if self.certificates.len() >= MOST {
            return Err(PeopleError::Full);
        }
        self.certificates.push(Record {
            fingerprint: issued.summary.fingerprint.clone(),
            person: person.to_string(),
            role: role.to_owned(),
            not_before: issued.summary.not_before.unix_timestamp(),
            not_after: issued.summary.not_after.unix_timestamp(),
            revoked: false,
        });
        Ok(())
    }

    /// Revokes. One that this node did not sign is taken only when others may sign as well: else
    /// it is a slip of the pen.
    pub(crate) fn revoke(
        &mut self,
        fingerprint: &str,
        others_sign: bool,
    ) -> Result<Revocation, PeopleError> {
        let full = self.certificates.len() >= MOST;
        let known = self
            .certificates
            .iter_mut()
            .find(|record| record.fingerprint == fingerprint);
        match known {
            Some(record) if record.revoked => Ok(Revocation::Already),
            Some(record) => {
                record.revoked = true;
                Ok(Revocation::Revoked)
            }
            None if !others_sign => Ok(Revocation::Unknown),
            None if full => Err(PeopleError::Full),
            None => {
                self.certificates.push(Record {
                    fingerprint: fingerprint.to_owned(),
                    person: String::new(),
                    role: String::new(),
                    not_before: 0,
                    not_after: 0,
                    revoked: true,
                });
                Ok(Revocation::Revoked)
            }
        }
    }

    /// Writes the list; once this returns it survives a power cut.
    pub(crate) fn write(&self, path: &Path) -> Result<(), PeopleError> {
        let text = serde_json::to_vec(self).map_err(|source| PeopleError::Damaged {
            path: path.to_owned(),
            source,
        })?;
        keelson_durable::replace(path, &text, 0o600)?;
        Ok(())
    }

    /// All of them.
    pub(crate) fn certificates(&self) -> &[Record] {
        &self.certificates
    }

    /// Fingerprints that get nothing.
    pub(crate) fn revoked(&self) -> Vec<&str> {
        self.certificates
            .iter()
            .filter(|record| record.revoked)
            .map(|record| record.fingerprint.as_str())
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use keelson_pki::CertificateSummary;
    use time::Duration;

    use super::*;

    fn now() -> OffsetDateTime {
        OffsetDateTime::from_unix_timestamp(1_790_000_000).unwrap()
    }

    fn issued(fingerprint: &str, days: i64) -> IssuedCertificate {
        IssuedCertificate {
            pem: String::new(),
            summary: CertificateSummary {
                subject: String::new(),
                issuer: String::new(),
                not_before: now(),
                not_after: now() + Duration::days(days),
                fingerprint: fingerprint.to_owned(),
            },
        }
    }

    fn with(list: &[(&str, i64)]) -> People {
        let mut people = People::default();
        for (fingerprint, days) in list {
            let person = "ada".parse().unwrap();
            people
                .add(&person, "admin", &issued(fingerprint, *days), now())
                .unwrap();
        }
        people
    }

    #[test]
    fn revocation_survives_and_expiry_forgets_only_what_is_not_revoked() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("people.json");
        assert_eq!(People::read(&path).unwrap(), People::default());
        let mut people = with(&[("a", 1), ("b", 1), ("c", 300)]);
        assert_eq!(people.revoke("b", false).unwrap(), Revocation::Revoked);
        assert_eq!(people.revoke("b", false).unwrap(), Revocation::Already);
        people.write(&path).unwrap();
        let mut people = People::read(&path).unwrap();
        assert_eq!(people.revoked(), ["b"]);
        let later = now() + Duration::days(2);
        people
            .add(&"eve".parse().unwrap(), "reader", &issued("d", 9), later)
            .unwrap();
        let left: Vec<_> = people
            .certificates()
            .iter()
            .map(|r| r.fingerprint.as_str())
            .collect();
        assert_eq!(left, ["b", "c", "d"]);
    }

    #[test]
    fn what_this_node_did_not_sign_is_revoked_only_where_others_sign() {
        let mut people = with(&[("a", 1)]);
        assert_eq!(people.revoke("z", false).unwrap(), Revocation::Unknown);
        assert_eq!(people.revoked(), [""; 0]);
        assert_eq!(people.revoke("z", true).unwrap(), Revocation::Revoked);
        assert_eq!(people.revoked(), ["z"]);
    }

    #[test]
    fn a_damaged_list_is_reported_and_not_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("people.json");
        for damaged in ["", "{", "[]", "{\"certificates\":[{\"person\":\"x\"}]}"] {
            std::fs::write(&path, damaged).unwrap();
            assert!(
                matches!(People::read(&path), Err(PeopleError::Damaged { .. })),
                "{damaged}"
            );
            assert_eq!(std::fs::read_to_string(&path).unwrap(), damaged);
        }
    }
}
