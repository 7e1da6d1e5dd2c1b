//! Whether a certificate that exists is kept, and why not.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;

use time::OffsetDateTime;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;

use crate::authority::AuthorityPair;
use crate::pem::Pair;
use crate::plan::{Identity, Usage};

/// What to do with an identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It serves.
    Keep,
    /// A new one is to be made.
    Make(Why),
}

/// Why a certificate is made anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// There is none.
    Absent,
    /// Two thirds of its life are over.
    DueForRenewal,
    /// It has expired.
    Expired,
    /// The clock went back behind its first day.
    NotYetValid,
    /// Subject or usage are not the planned ones.
    OtherIdentity,
    /// Another authority signed it.
    OtherIssuer,
    /// The names or addresses it serves are not the planned ones.
    OtherNames,
    /// It cannot be read.
    Unreadable,
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Absent => "there was none",
            Self::DueForRenewal => "two thirds of its life were over",
            Self::Expired => "it had expired",
            Self::NotYetValid => "the clock has gone back and it was not valid yet",
            Self::OtherIdentity => "its subject or usage had changed",
            Self::OtherIssuer => "another authority had signed it",
            Self::OtherNames => "the names or addresses it serves had changed",
            Self::Unreadable => "it could not be read",
        })
    }
}

/// How strictly a certificate is judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// The node API's: at least the planned names, renewed at two thirds of its life. Addresses
    /// come one after the other while a network settles; with each boot's last certificate none
    /// of them is news.
    Api,
    /// Ours: exactly the planned names, renewed at two thirds of its life.
    Ours,
    /// kubelet's own: at least the planned names, replaced only once it cannot serve any more.
    Kubelets,
}

/// Judges the file of an identity.
#[must_use]
pub fn decide(
    content: Option<&[u8]>,
    identity: &Identity,
    authority: &AuthorityPair,
    rule: Rule,
    now: OffsetDateTime,
) -> Decision {
    let Some(content) = content else {
        return Decision::Make(Why::Absent);
    };
    let Ok(pair) = Pair::parse(content) else {
        return Decision::Make(Why::Unreadable);
    };
    let Ok((_, certificate)) = x509_parser::parse_x509_certificate(&pair.certificate_der) else {
        return Decision::Make(Why::Unreadable);
    };
    let why = if !key_serves(&pair, rule) {
        Some(Why::Unreadable)
    } else if !signed_by(&certificate, authority) {
        Some(Why::OtherIssuer)
    } else if !is_identity(&certificate, identity) {
        Some(Why::OtherIdentity)
    } else if !serves_names(&certificate, identity, rule) {
        Some(Why::OtherNames)
    } else {
        age(&certificate, authority, rule, now)
    };
    why.map_or(Decision::Keep, Decision::Make)
}

/// Our keys must match their certificate. kubelet checks its own, in a form of its own.
fn key_serves(pair: &Pair, rule: Rule) -> bool {
    match rule {
        Rule::Api | Rule::Ours => rcgen::KeyPair::from_pem(&pair.key_pem)
            .is_ok_and(|key| crate::pem::check_key_and_read_validity(pair, &key).is_ok()),
        Rule::Kubelets => true,
    }
}

fn signed_by(certificate: &X509Certificate<'_>, authority: &AuthorityPair) -> bool {
    let Ok((_, issuer)) = x509_parser::parse_x509_certificate(&authority.certificate_der) else {
        return false;
    };
    certificate.issuer() == issuer.subject()
        && certificate
            .verify_signature(Some(issuer.public_key()))
            .is_ok()
}

fn is_identity(certificate: &X509Certificate<'_>, identity: &Identity) -> bool {
    let subject = certificate.subject();
    let names: Vec<_> = subject
        .iter_common_name()
        .map(|name| name.as_str())
        .collect();
    let organizations: Vec<_> = subject
        .iter_organization()
        .map(|name| name.as_str().unwrap_or_default())
        .collect();
    let Ok(Some(usages)) = certificate.extended_key_usage() else {
        return false;
    };
    let client = usages.value.client_auth;
    let server = usages.value.server_auth;
    let usage = match identity.usage {
        Usage::Client => client && !server,
        Usage::Server => server && !client,
        Usage::ClientAndServer => client && server,
    };
    usage && names == [Ok(identity.common_name.as_str())] && organizations == identity.organizations
}

fn serves_names(certificate: &X509Certificate<'_>, identity: &Identity, rule: Rule) -> bool {
    let mut names = BTreeSet::new();
    let mut addresses = BTreeSet::new();
    if let Ok(Some(extension)) = certificate.subject_alternative_name() {
        for name in &extension.value.general_names {
            match name {
                GeneralName::DNSName(name) => {
                    names.insert((*name).to_owned());
                }
                GeneralName::IPAddress(octets) => {
                    addresses.extend(address(octets));
                }
                _ => {}
            }
        }
    }
    match rule {
        Rule::Ours => names == identity.dns_names && addresses == identity.addresses,
        Rule::Api | Rule::Kubelets => {
            names.is_superset(&identity.dns_names) && addresses.is_superset(&identity.addresses)
        }
    }
}

fn address(octets: &[u8]) -> Option<IpAddr> {
    if let Ok(octets) = <[u8; 4]>::try_from(octets) {
        return Some(octets.into());
    }
    <[u8; 16]>::try_from(octets).ok().map(IpAddr::from)
}

/// A certificate that is not valid yet is made anew only where the authority is valid: else the
/// clock is far behind, and one made by that clock would be no better.
fn age(
    certificate: &X509Certificate<'_>,
    authority: &AuthorityPair,
    rule: Rule,
    now: OffsetDateTime,
) -> Option<Why> {
    let not_before = certificate.validity().not_before.to_datetime();
    let not_after = certificate.validity().not_after.to_datetime();
    if now >= not_after {
        Some(Why::Expired)
    } else if now < not_before && now >= authority.not_before {
        Some(Why::NotYetValid)
    } else if rule != Rule::Kubelets && now >= renewal_time(not_before, not_after) {
        Some(Why::DueForRenewal)
    } else {
        None
    }
}

/// When two thirds of a life are over.
pub(crate) fn renewal_time(
    not_before: OffsetDateTime,
    not_after: OffsetDateTime,
) -> OffsetDateTime {
    not_before + (not_after - not_before) * 2 / 3
}

#[cfg(test)]
mod tests;
