//! Makes one certificate.

use std::net::IpAddr;

use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, SanType,
};
use time::{Duration, OffsetDateTime};

use crate::authority::AuthorityPair;
use crate::pem;
use crate::plan::{Identity, Usage};

/// Certificates start this long before they are made: peers' clocks may be behind.
pub(crate) const CLOCK_SKEW: Duration = Duration::hours(1);

/// How long a leaf lives.
pub(crate) const LIFETIME: Duration = Duration::days(365);

/// A certificate or key could not be made or read.
#[derive(Debug, thiserror::Error)]
pub enum IssueError {
    /// The certificate is not one a signer can use.
    #[error("the certificate cannot be used to sign")]
    Certificate(#[source] rcgen::Error),
    /// No key could be generated.
    #[error("cannot generate a key")]
    Generate(#[source] rcgen::Error),
    /// The key block is damaged.
    #[error("the private key cannot be read")]
    Key(#[source] rcgen::Error),
    /// Certificate and key do not belong together.
    #[error("certificate and key do not belong together")]
    KeyMismatch,
    /// A PEM block is missing.
    #[error("no {0} block found")]
    MissingBlock(&'static str),
    /// A name is not one a certificate can hold.
    #[error("{name:?} cannot be a name in a certificate")]
    Name {
        /// The name.
        name: String,
        /// Why.
        #[source]
        source: rcgen::Error,
    },
    /// The certificate block is damaged.
    #[error("the certificate cannot be read")]
    NotACertificate,
    /// The certificate may not sign others.
    #[error("the certificate is not an authority's: it may not sign others")]
    NotAnAuthority,
    /// The file is not text.
    #[error("the file is not text")]
    NotText,
    /// The kernel gave no random bytes.
    #[error("the kernel gives no random bytes: {0}")]
    Random(getrandom::Error),
    /// The certificate could not be signed.
    #[error("cannot sign the certificate")]
    Sign(#[source] rcgen::Error),
}

/// Makes a key and a certificate for `identity`, both in one PEM text.
pub(crate) fn issue(
    identity: &Identity,
    authority: &AuthorityPair,
    now: OffsetDateTime,
) -> Result<String, IssueError> {
    issue_for(identity, authority, LIFETIME, now)
}

/// The same for another time.
pub(crate) fn issue_for(
    identity: &Identity,
    authority: &AuthorityPair,
    lifetime: Duration,
    now: OffsetDateTime,
) -> Result<String, IssueError> {
    let key = KeyPair::generate().map_err(IssueError::Generate)?;
    let certificate = params(identity, authority, lifetime, now)?
        .signed_by(&key, &authority.issuer)
        .map_err(IssueError::Sign)?;
    Ok(pem::join(&certificate.pem(), &key.serialize_pem()))
}

fn params(
    identity: &Identity,
    authority: &AuthorityPair,
    lifetime: Duration,
    now: OffsetDateTime,
) -> Result<CertificateParams, IssueError> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    for organization in &identity.organizations {
        params
            .distinguished_name
            .push(DnType::OrganizationName, organization.as_str());
    }
    params
        .distinguished_name
        .push(DnType::CommonName, identity.common_name.clone());
    params.subject_alt_names = subject_alt_names(identity)?;
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = extended_usages(identity.usage);
    params.use_authority_key_identifier_extension = true;
    (params.not_before, params.not_after) = validity(authority, lifetime, now);
    Ok(params)
}

/// Backdated, but never outside the authority's own life, whatever the clock says.
pub(crate) fn validity(
    authority: &AuthorityPair,
    lifetime: Duration,
    now: OffsetDateTime,
) -> (OffsetDateTime, OffsetDateTime) {
    let not_before = (now - CLOCK_SKEW).max(authority.not_before);
    let not_after = (now.max(not_before) + lifetime).min(authority.not_after);
    (not_before, not_after)
}

fn subject_alt_names(identity: &Identity) -> Result<Vec<SanType>, IssueError> {
    let names = identity.dns_names.iter().map(|name| {
        name.as_str()
            .try_into()
            .map(SanType::DnsName)
            .map_err(|source| IssueError::Name {
                name: name.clone(),
                source,
            })
    });
    let addresses = identity
        .addresses
        .iter()
        .map(|address: &IpAddr| Ok(SanType::IpAddress(*address)));
    names.chain(addresses).collect()
}

/// The extended key usages of a certificate.
pub(crate) fn extended_usages(usage: Usage) -> Vec<ExtendedKeyUsagePurpose> {
    match usage {
        Usage::Client => vec![ExtendedKeyUsagePurpose::ClientAuth],
        Usage::Server => vec![ExtendedKeyUsagePurpose::ServerAuth],
        Usage::ClientAndServer => vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ],
    }
}
