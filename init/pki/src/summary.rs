//! What a certificate says, for people and for the lists of the node.

use std::fmt::Write as _;

use sha2::{Digest, Sha256};
use time::OffsetDateTime;
use x509_parser::certificate::X509Certificate;
use x509_parser::pem::Pem;

use crate::decision::renewal_time;
use crate::issue::IssueError;

/// What a certificate says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateSummary {
    /// Whom it names.
    pub subject: String,
    /// Who signed it.
    pub issuer: String,
    /// First moment of its life.
    pub not_before: OffsetDateTime,
    /// Last moment of its life.
    pub not_after: OffsetDateTime,
    /// SHA-256 over its DER form, hexadecimal.
    pub fingerprint: String,
}

impl CertificateSummary {
    /// When the node renews it, if it is one of those the node renews.
    #[must_use]
    pub fn renewal(&self) -> OffsetDateTime {
        renewal_time(self.not_before, self.not_after)
    }
}

/// Reads the first certificate of a PEM text.
///
/// # Errors
/// When there is none, or it cannot be read.
pub fn summary(pem: &[u8]) -> Result<CertificateSummary, IssueError> {
    read(pem, |_| Ok(()))
}

/// Reads the certificate of an authority that may sign people's certificates.
///
/// # Errors
/// When there is none, it cannot be read, or it is no authority's.
pub fn client_authority(pem: &[u8]) -> Result<CertificateSummary, IssueError> {
    read(pem, |certificate| {
        let usage = certificate
            .key_usage()
            .map_err(|_| IssueError::NotACertificate)?;
        let signs = usage.is_none_or(|usage| usage.value.key_cert_sign());
        if certificate.is_ca() && signs {
            Ok(())
        } else {
            Err(IssueError::NotAnAuthority)
        }
    })
}

/// SHA-256 over a certificate in its DER form, hexadecimal: what people compare.
#[must_use]
pub fn fingerprint(der: &[u8]) -> String {
    let mut text = String::with_capacity(64);
    for byte in Sha256::digest(der) {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

fn read(
    pem: &[u8],
    check: impl FnOnce(&X509Certificate<'_>) -> Result<(), IssueError>,
) -> Result<CertificateSummary, IssueError> {
    let der = Pem::iter_from_buffer(pem)
        .map_while(Result::ok)
        .find(|block| block.label == "CERTIFICATE")
        .ok_or(IssueError::MissingBlock("CERTIFICATE"))?
        .contents;
    let (rest, certificate) =
        x509_parser::parse_x509_certificate(&der).map_err(|_| IssueError::NotACertificate)?;
    if !rest.is_empty() {
        return Err(IssueError::NotACertificate);
    }
    check(&certificate)?;
    Ok(CertificateSummary {
        subject: certificate.subject().to_string(),
        issuer: certificate.issuer().to_string(),
        not_before: certificate.validity().not_before.to_datetime(),
        not_after: certificate.validity().not_after.to_datetime(),
        fingerprint: fingerprint(&der),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authority::{Authority, AuthorityPair};
    use crate::facts::{Datastore, test_facts};
    use crate::issue::issue;
    use crate::plan::plan;

    fn now() -> OffsetDateTime {
        OffsetDateTime::from_unix_timestamp(1_790_000_000).unwrap()
    }

    #[test]
    fn authorities_are_told_from_others() {
        let authority = AuthorityPair::generate(Authority::Cluster, now()).unwrap();
        let identity = plan(&test_facts(Datastore::Etcd)).identities.remove(0);
        let leaf = issue(&identity, &authority, now()).unwrap();
        let pem = authority.certificate_pem().as_bytes();
        assert_eq!(
            client_authority(pem).unwrap().subject,
            "CN=keelson cluster-ca"
        );
        assert!(matches!(
            client_authority(leaf.as_bytes()),
            Err(IssueError::NotAnAuthority)
        ));
        let seen = summary(leaf.as_bytes()).unwrap();
        assert_eq!(seen.issuer, "CN=keelson cluster-ca");
        assert_eq!(seen.fingerprint.len(), 64);
        assert!(summary(b"nothing").is_err());
    }

    #[test]
    fn fingerprints_are_sha256() {
        // From FIPS 180-2, appendix B.1.
        let expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(fingerprint(b"abc"), expected);
    }
}
