//! Who a certificate says its holder is.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use keelson_api::access::Role;
use sha2::{Digest, Sha256};
use x509_parser::x509::{AttributeTypeAndValue, X509Name};

/// The holder of a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Person {
    pub(crate) name: String,
    pub(crate) role: Role,
    pub(crate) fingerprint: Fingerprint,
    /// First and last second in which the certificate holds, since 1970.
    pub(crate) from: i64,
    pub(crate) until: i64,
}

/// A certificate stands for nobody.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum IdentityError {
    #[error("the certificate cannot be read")]
    Unreadable,
    #[error("its subject has {0} common names instead of one")]
    Names(usize),
    #[error("its common name is not a name: 1 to {LONGEST_NAME} characters, none of them control")]
    NoName,
    #[error("its subject has {0} organizations instead of one")]
    Organizations(usize),
    #[error("its organization {0:?} is not a role")]
    NoRole(String),
}

/// The longest common name that X.509 knows (RFC 5280, ub-common-name).
const LONGEST_NAME: usize = 64;

impl Person {
    /// Reads a certificate (DER). Whether it is to be trusted is not asked here.
    pub(crate) fn read(certificate: &[u8]) -> Result<Self, IdentityError> {
        let (rest, parsed) = x509_parser::parse_x509_certificate(certificate)
            .map_err(|_| IdentityError::Unreadable)?;
        if !rest.is_empty() {
            return Err(IdentityError::Unreadable);
        }
        let subject = parsed.subject();
        let validity = parsed.validity();
        Ok(Self {
            name: name(subject)?,
            role: role(subject)?,
            fingerprint: Fingerprint::of(certificate),
            from: validity.not_before.timestamp(),
            until: validity.not_after.timestamp(),
        })
    }
}

fn name(subject: &X509Name<'_>) -> Result<String, IdentityError> {
    let names: Vec<_> = subject.iter_common_name().collect();
    let [name] = names.as_slice() else {
        return Err(IdentityError::Names(names.len()));
    };
    text(name)
        .filter(|name| (1..=LONGEST_NAME).contains(&name.chars().count()))
        .filter(|name| !name.chars().any(char::is_control))
        .ok_or(IdentityError::NoName)
}

fn role(subject: &X509Name<'_>) -> Result<Role, IdentityError> {
    let organizations: Vec<_> = subject.iter_organization().collect();
    let [organization] = organizations.as_slice() else {
        return Err(IdentityError::Organizations(organizations.len()));
    };
    let word = text(organization).unwrap_or_default();
    Role::from_organization(&word).ok_or(IdentityError::NoRole(word))
}

fn text(attribute: &AttributeTypeAndValue<'_>) -> Option<String> {
    attribute.as_str().ok().map(str::to_owned)
}

/// SHA-256 over a certificate (DER).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Fingerprint([u8; 32]);

/// Certificates that get nothing any more.
pub(crate) type Revoked = BTreeSet<Fingerprint>;

impl Fingerprint {
    pub(crate) fn of(certificate: &[u8]) -> Self {
        Self(Sha256::digest(certificate).into())
    }
}

/// A text that is no fingerprint.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is not a SHA-256 in hexadecimal")]
pub(crate) struct NoFingerprint(String);

impl FromStr for Fingerprint {
    type Err = NoFingerprint;

    fn from_str(text: &str) -> Result<Self, NoFingerprint> {
        let digits: Option<Vec<u8>> = text
            .chars()
            .map(|digit| {
                digit
                    .to_digit(16)
                    .and_then(|value| u8::try_from(value).ok())
            })
            .collect();
        let bytes = digits.filter(|digits| digits.len() == 64).map(|digits| {
            let mut bytes = [0; 32];
            for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
                *byte = pair.iter().fold(0, |byte, digit| byte << 4 | digit);
            }
            bytes
        });
        bytes
            .map(Self)
            .ok_or_else(|| NoFingerprint(text.to_owned()))
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};

    use super::*;

    fn certificate(subject: &[(DnType, &str)]) -> Vec<u8> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        for (kind, value) in subject {
            params.distinguished_name.push(kind.clone(), *value);
        }
        let key = KeyPair::generate().unwrap();
        params.self_signed(&key).unwrap().der().to_vec()
    }

    #[test]
    fn a_name_and_a_role_make_a_person() {
        let der = certificate(&[
            (DnType::CommonName, "Ada Lovelace"),
            (DnType::OrganizationName, "keelson:operator"),
        ]);
        let person = Person::read(&der).unwrap();
        assert_eq!(person.name, "Ada Lovelace");
        assert_eq!(person.role, Role::Operator);
        assert_eq!(
            person.fingerprint.to_string().parse().ok(),
            Some(person.fingerprint)
        );
        assert!(person.from < person.until);
    }

    #[test]
    fn everything_else_is_nobody() {
        let role = (DnType::OrganizationName, "keelson:admin");
        let name = (DnType::CommonName, "ada");
        let long = "a".repeat(65);
        let read = |subject: &[(DnType, &str)]| Person::read(&certificate(subject)).unwrap_err();
        assert_eq!(read(std::slice::from_ref(&role)), IdentityError::Names(0));
        assert_eq!(
            read(std::slice::from_ref(&name)),
            IdentityError::Organizations(0)
        );
        for bad in ["", "ada\nrole: admin", long.as_str()] {
            let subject = [(DnType::CommonName, bad), role.clone()];
            assert_eq!(read(&subject), IdentityError::NoName, "{bad:?}");
        }
        for bad in [
            "admin",
            "keelson:root",
            "keelson:maintenance",
            "system:masters",
        ] {
            let subject = [name.clone(), (DnType::OrganizationName, bad)];
            assert_eq!(read(&subject), IdentityError::NoRole(bad.to_owned()));
        }
        assert_eq!(Person::read(b"junk"), Err(IdentityError::Unreadable));
    }

    #[test]
    fn fingerprints_are_64_hexadecimal_digits() {
        let upper = "AB".repeat(32);
        let parsed: Fingerprint = upper.parse().unwrap();
        assert_eq!(parsed.to_string(), upper.to_lowercase());
        for bad in [
            "",
            "ab",
            &"ab".repeat(33),
            &"zz".repeat(32),
            &"é".repeat(32),
        ] {
            assert!(bad.parse::<Fingerprint>().is_err(), "{bad}");
        }
    }
}
