//! Certificates for people: from a request only the key is taken, all else is the node's word.

use std::fmt;
use std::str::FromStr;

use rcgen::{
    CertificateParams, DistinguishedName, DnType, IsCa, KeyUsagePurpose, SerialNumber,
    SubjectPublicKeyInfo,
};
use time::{Duration, OffsetDateTime};
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::pem::Pem;
use x509_parser::prelude::FromDer;

use crate::authority::AuthorityPair;
use crate::issue::{IssueError, LIFETIME, extended_usages, validity};
use crate::plan::Usage;
use crate::summary::{CertificateSummary, summary};

/// A request with an RSA key of 16,384 bits fits.
const MAX_REQUEST_BYTES: usize = 16 * 1024;

/// A serial number must be unique for each certificate of an authority (RFC 5280 section
/// 4.1.2.2); of this many random bytes no two are alike.
const SERIAL_BYTES: usize = 16;

/// Name of a person: 1 to 64 letters, digits, spaces and `.-_@`.
///
/// ASCII, because the name goes into certificates, HTTP headers and the audit log, where nothing
/// in it may look like the end of a field.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PersonName(String);

/// A text that is no name.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no name for a person: use 1 to 64 letters, digits, spaces and .-_@, with no space \
     at either end"
)]
pub struct PersonError(String);

impl PersonName {
    /// Upper bound of a common name (RFC 5280 appendix A.1, ub-common-name).
    const MAX: usize = 64;

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for PersonName {
    type Err = PersonError;

    fn from_str(text: &str) -> Result<Self, PersonError> {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || b" .-_@".contains(&b);
        if (1..=Self::MAX).contains(&text.len()) && text.bytes().all(allowed) && text.trim() == text
        {
            Ok(Self(text.to_owned()))
        } else {
            Err(PersonError(text.chars().take(Self::MAX).collect()))
        }
    }
}

impl fmt::Display for PersonName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A request for a certificate (PKCS #10).
#[derive(Debug)]
pub struct PersonRequest {
    key: SubjectPublicKeyInfo,
    common_name: Option<String>,
}

/// A request cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PersonRequestError {
    /// It is no PEM with a request inside.
    #[error("this is no certificate request in PEM form (PKCS #10)")]
    Malformed,
    /// Its key is of a kind the node cannot sign for.
    #[error(
        "the key in the certificate request is of a kind this node does not know; use ECDSA P-256"
    )]
    Key(#[source] rcgen::Error),
    /// Its sender does not have the key.
    #[error("the certificate request is not signed with its own key")]
    Signature,
}

/// A certificate and what it says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IssuedCertificate {
    /// PEM.
    pub pem: String,
    /// What it says.
    pub summary: CertificateSummary,
}

impl PersonRequest {
    /// Reads a request and checks that its sender has the key.
    ///
    /// # Errors
    /// When it is malformed, forged, or for a key of an unknown kind.
    pub fn parse(pem: &str) -> Result<Self, PersonRequestError> {
        if pem.len() > MAX_REQUEST_BYTES {
            return Err(PersonRequestError::Malformed);
        }
        let der = Pem::iter_from_buffer(pem.as_bytes())
            .map_while(Result::ok)
            .find(|block| {
                matches!(
                    &*block.label,
                    "CERTIFICATE REQUEST" | "NEW CERTIFICATE REQUEST"
                )
            })
            .ok_or(PersonRequestError::Malformed)?
            .contents;
        let (rest, request) =
            X509CertificationRequest::from_der(&der).map_err(|_| PersonRequestError::Malformed)?;
        if !rest.is_empty() {
            return Err(PersonRequestError::Malformed);
        }
        request
            .verify_signature()
            .map_err(|_| PersonRequestError::Signature)?;
        let content = &request.certification_request_info;
        let names: Vec<_> = content.subject.iter_common_name().collect();
        let common_name = match &names[..] {
            [name] => name.as_str().ok().map(str::to_owned),
            _ => None,
        };
        Ok(Self {
            key: SubjectPublicKeyInfo::from_der(content.subject_pki.raw)
                .map_err(PersonRequestError::Key)?,
            common_name,
        })
    }

    /// The name the request asks for, if it has exactly one.
    #[must_use]
    pub fn common_name(&self) -> Option<&str> {
        self.common_name.as_deref()
    }

    /// Signs for a person; `organization` is the role. Without a lifetime, a year; never longer
    /// than the authority lives.
    ///
    /// # Errors
    /// When the certificate cannot be made.
    pub fn issue(
        &self,
        person: &PersonName,
        organization: &str,
        lifetime: Option<Duration>,
        authority: &AuthorityPair,
        now: OffsetDateTime,
    ) -> Result<IssuedCertificate, IssueError> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params
            .distinguished_name
            .push(DnType::OrganizationName, organization);
        params
            .distinguished_name
            .push(DnType::CommonName, person.as_str());
        let mut serial = [0; SERIAL_BYTES];
        getrandom::fill(&mut serial).map_err(IssueError::Random)?;
        // The first bit is the sign.
        if let Some(first) = serial.first_mut() {
            *first = (*first & 0x7f) | 0x40;
        }
        params.serial_number = Some(SerialNumber::from_slice(&serial));
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = extended_usages(Usage::Client);
        params.use_authority_key_identifier_extension = true;
        (params.not_before, params.not_after) =
            validity(authority, lifetime.unwrap_or(LIFETIME), now);
        let pem = params
            .signed_by(&self.key, &authority.issuer)
            .map_err(IssueError::Sign)?
            .pem();
        Ok(IssuedCertificate {
            summary: summary(pem.as_bytes())?,
            pem,
        })
    }
}

#[cfg(test)]
mod tests {
    use rcgen::KeyPair;
    use rustls_pki_types::pem::PemObject;
    use rustls_pki_types::{CertificateDer, UnixTime};
    use webpki::{EndEntityCert, KeyUsage, anchor_from_trusted_cert};

    use super::*;
    use crate::authority::Authority;

    fn now() -> OffsetDateTime {
        OffsetDateTime::from_unix_timestamp(1_790_000_000).unwrap()
    }

    fn authority() -> AuthorityPair {
        AuthorityPair::generate(Authority::Api, now()).unwrap()
    }

    /// A request that asks for far more than it gets.
    fn greedy_request() -> String {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["node-1".to_owned()]).unwrap();
        params.distinguished_name = DistinguishedName::new();
        params
            .distinguished_name
            .push(DnType::OrganizationName, "keelson:admin");
        params.distinguished_name.push(DnType::CommonName, "eve");
        params.extended_key_usages = extended_usages(Usage::ClientAndServer);
        params.serialize_request(&key).unwrap().pem().unwrap()
    }

    #[test]
    fn only_the_key_is_taken_from_a_request() {
        let authority = authority();
        let request = PersonRequest::parse(&greedy_request()).unwrap();
        assert_eq!(request.common_name(), Some("eve"));
        let person = "Ada Lovelace".parse().unwrap();
        let issued = request
            .issue(&person, "keelson:reader", None, &authority, now())
            .unwrap();
        assert_eq!(issued.summary.subject, "O=keelson:reader, CN=Ada Lovelace");
        assert_eq!(issued.summary.not_after, now() + LIFETIME);
        let der = CertificateDer::from_pem_slice(issued.pem.as_bytes()).unwrap();
        let (_, certificate) = x509_parser::parse_x509_certificate(&der).unwrap();
        assert!(certificate.subject_alternative_name().unwrap().is_none());
        assert!(!certificate.is_ca());

        let root = CertificateDer::from_pem_slice(authority.certificate_pem().as_bytes()).unwrap();
        let anchor = anchor_from_trusted_cert(&root).unwrap();
        let leaf = EndEntityCert::try_from(&der).unwrap();
        let seconds = u64::try_from(now().unix_timestamp()).unwrap();
        let verify = |usage| {
            leaf.verify_for_usage(
                webpki::ALL_VERIFICATION_ALGS,
                std::slice::from_ref(&anchor),
                &[],
                UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds)),
                usage,
                None,
                None,
            )
            .is_ok()
        };
        assert!(verify(KeyUsage::client_auth()));
        assert!(!verify(KeyUsage::server_auth()));
    }

    #[test]
    fn lifetimes_end_with_the_authority_and_serials_differ() {
        let authority = authority();
        let request = PersonRequest::parse(&greedy_request()).unwrap();
        let person = "ada".parse().unwrap();
        let issue = |lifetime| {
            request
                .issue(&person, "keelson:admin", Some(lifetime), &authority, now())
                .unwrap()
        };
        let long = issue(Duration::days(100_000));
        assert_eq!(long.summary.not_after, authority.not_after);
        let (one, two) = (issue(Duration::hours(1)), issue(Duration::hours(1)));
        assert_eq!(one.summary.not_after, now() + Duration::hours(1));
        assert_ne!(one.summary.fingerprint, two.summary.fingerprint);
    }

    #[test]
    fn forged_and_foreign_requests_are_refused() {
        for text in [
            "",
            "x",
            "-----BEGIN CERTIFICATE REQUEST-----\nMIIB\n-----END CERTIFICATE REQUEST-----\n",
        ] {
            assert!(matches!(
                PersonRequest::parse(text),
                Err(PersonRequestError::Malformed)
            ));
        }
        // The key of one request inside another's signature.
        let mut pem = Pem::iter_from_buffer(greedy_request().as_bytes())
            .next()
            .unwrap()
            .unwrap();
        let name = pem
            .contents
            .windows(3)
            .position(|three| three == b"eve")
            .unwrap();
        pem.contents[name] = b'E';
        let forged = format!(
            "-----BEGIN CERTIFICATE REQUEST-----\n{}\n-----END CERTIFICATE REQUEST-----\n",
            base64::Engine::encode(&base64::engine::general_purpose::STANDARD, &pem.contents)
        );
        assert!(matches!(
            PersonRequest::parse(&forged),
            Err(PersonRequestError::Signature)
        ));
    }

    #[test]
    fn names() {
        for good in [
            "a",
            "ada",
            "Ada Lovelace",
            "ada@example.org",
            "a.b-c_d",
            &"x".repeat(64),
        ] {
            assert_eq!(good.parse::<PersonName>().unwrap().as_str(), good);
        }
        for bad in [
            "",
            " ada",
            "ada ",
            "a,O=keelson:admin",
            "a+b",
            "a=b",
            "a\nb",
            "a\"b",
            "system:masters",
            "é",
            "a/b",
            &"x".repeat(65),
        ] {
            assert!(bad.parse::<PersonName>().is_err(), "{bad:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_request_is_judged_without_panic(text: String, bytes: Vec<u8>) {
            let _ = PersonRequest::parse(&text);
            let body = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, &bytes);
            let _ = PersonRequest::parse(&format!(
                "-----BEGIN CERTIFICATE REQUEST-----\n{body}\n-----END CERTIFICATE REQUEST-----\n"
            ));
        }
    }
}
