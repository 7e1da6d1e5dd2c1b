//! The list of certificates that people see.

use std::path::Path;

use keelson_api::access::Role;
use keelson_api::v1alpha1::Certificate;
use keelson_config::CertificatePem;
use keelson_pki::{ApiPki, Custody, Established, summary};
use time::OffsetDateTime;

use super::people::{People, Record};
use crate::api::timestamp;

const AUTHORITY: &str = "authority";
const NODE: &str = "node";
const PERSON: &str = "person";

/// Who renews a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Renewal {
    /// The node, at two thirds of its life.
    Node,
    /// Somebody else, or nobody.
    Other,
}

/// The node API's authority and certificates.
pub(crate) fn of_api(pki: &ApiPki, others: &[CertificatePem]) -> Vec<Certificate> {
    let own = pki.authority.certificate_pem();
    let mut list = vec![
        entry("api-ca", AUTHORITY, own, Renewal::Other),
        entry("apid/serving", NODE, pki.serving_pair(), Renewal::Node),
    ];
    list.extend(
        pki.host_pair()
            .map(|pair| entry("api/host", PERSON, pair, Renewal::Node)),
    );
    list.extend(others.iter().enumerate().map(|(i, pem)| {
        let name = format!("api.clientAuthorities[{i}]");
        entry(&name, AUTHORITY, pem.as_str(), Renewal::Other)
    }));
    list.into_iter().flatten().collect()
}

/// The cluster's authorities and certificates.
pub(crate) fn of_cluster(pki: &Established) -> Vec<Certificate> {
    let authorities = pki.authorities.iter().map(|(authority, pair)| {
        entry(
            authority.name(),
            AUTHORITY,
            pair.certificate_pem(),
            Renewal::Other,
        )
    });
    let identities = pki.identities().map(|(identity, pair)| {
        let (name, kind) = match identity.custody {
            Custody::User(user) => (format!("{user}/{}", identity.name), NODE),
            Custody::Operator => (format!("cluster/{}", identity.name), PERSON),
            Custody::Kubelet => (format!("kubelet/{}", identity.name), NODE),
        };
        entry(&name, kind, pair, Renewal::Node)
    });
    authorities.chain(identities).flatten().collect()
}

/// kubelet's own, as they are now: it renews them by request.
pub(crate) fn of_kubelet(store: &Path) -> Vec<Certificate> {
    ["kubelet-client", "kubelet-server"]
        .into_iter()
        .filter_map(|name| {
            let pem = std::fs::read_to_string(store.join(format!("{name}-current.pem"))).ok()?;
            let name = format!("kubelet/{}", name.trim_start_matches("kubelet-"));
            entry(&name, NODE, &pem, Renewal::Other)
        })
        .collect()
}

/// What people were given.
pub(crate) fn of_people(people: &People, authority: &str) -> Vec<Certificate> {
    let time = |seconds| {
        OffsetDateTime::from_unix_timestamp(seconds).map_or_else(|_| String::new(), timestamp::text)
    };
    let entry = |record: &Record| {
        let foreign = record.person.is_empty();
        Certificate {
            name: if foreign {
                "api/(another authority's)".to_owned()
            } else {
                format!("api/{}", record.person)
            },
            kind: PERSON.to_owned(),
            subject: match record.role.parse::<Role>() {
                Ok(role) if !foreign => format!("O={}, CN={}", role.organization(), record.person),
                _ => String::new(),
            },
            issuer: if foreign {
                String::new()
            } else {
                authority.to_owned()
            },
            not_before: if foreign {
                String::new()
            } else {
                time(record.not_before)
            },
            not_after: if foreign {
                String::new()
            } else {
                time(record.not_after)
            },
            renewed_at: String::new(),
            fingerprint: record.fingerprint.clone(),
            revoked: record.revoked,
        }
    };
    people.certificates().iter().map(entry).collect()
}

/// A certificate that cannot be read is in nobody's use: it is made anew at the next look.
fn entry(name: &str, kind: &str, pem: &str, renewal: Renewal) -> Option<Certificate> {
    let summary = summary(pem.as_bytes()).ok()?;
    Some(Certificate {
        name: name.to_owned(),
        kind: kind.to_owned(),
        renewed_at: match renewal {
            Renewal::Node => timestamp::text(summary.renewal()),
            Renewal::Other => String::new(),
        },
        subject: summary.subject,
        issuer: summary.issuer,
        not_before: timestamp::text(summary.not_before),
        not_after: timestamp::text(summary.not_after),
        fingerprint: summary.fingerprint,
        revoked: false,
    })
}
