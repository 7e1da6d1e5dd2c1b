//! One file holding a certificate and its key.
//!
//! Go's TLS loaders look only for the block they want, so the same file serves as certificate
//! file and as key file, and one rename replaces both.

use rcgen::{KeyPair, PublicKeyData};
use time::OffsetDateTime;
use x509_parser::pem::Pem;

use crate::issue::IssueError;

/// The two blocks of a file.
pub(crate) struct Pair {
    pub(crate) certificate_pem: String,
    pub(crate) certificate_der: Vec<u8>,
    pub(crate) key_pem: String,
}

impl Pair {
    pub(crate) fn parse(content: &[u8]) -> Result<Self, IssueError> {
        let text = std::str::from_utf8(content).map_err(|_| IssueError::NotText)?;
        let certificate_der = Pem::iter_from_buffer(content)
            .map_while(Result::ok)
            .find(|block| block.label == "CERTIFICATE")
            .ok_or(IssueError::MissingBlock("CERTIFICATE"))?
            .contents;
        Ok(Self {
            certificate_pem: block(text, "CERTIFICATE")?,
            certificate_der,
            // kubelet writes the older form when it renews its own pair.
            key_pem: block(text, "PRIVATE KEY").or_else(|_| block(text, "EC PRIVATE KEY"))?,
        })
    }
}

/// The content of a file for this certificate and key.
pub(crate) fn join(certificate_pem: &str, key_pem: &str) -> String {
    format!("{}\n{}\n", certificate_pem.trim_end(), key_pem.trim_end())
}

/// Proves that certificate and key belong together and reads how long they are valid.
pub(crate) fn check_key_and_read_validity(
    pair: &Pair,
    key: &KeyPair,
) -> Result<(OffsetDateTime, OffsetDateTime), IssueError> {
    let (_, certificate) = x509_parser::parse_x509_certificate(&pair.certificate_der)
        .map_err(|_| IssueError::NotACertificate)?;
    if certificate.public_key().subject_public_key.data.as_ref() != key.der_bytes() {
        return Err(IssueError::KeyMismatch);
    }
    let validity = certificate.validity();
    Ok((
        validity.not_before.to_datetime(),
        validity.not_after.to_datetime(),
    ))
}

/// The text of the first block with this label, as written.
fn block(text: &str, label: &'static str) -> Result<String, IssueError> {
    let begin = format!("-----BEGIN {label}-----");
    let end = format!("-----END {label}-----");
    let missing = || IssueError::MissingBlock(label);
    let (_, rest) = text.split_once(&begin).ok_or_else(missing)?;
    let (body, _) = rest.split_once(&end).ok_or_else(missing)?;
    Ok(format!("{begin}{body}{end}\n"))
}
