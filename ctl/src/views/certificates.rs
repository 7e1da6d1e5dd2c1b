//! Certificates with their expiry.

use keelson_api::v1alpha1::{Certificate, ListCertificatesResponse};
use time::{Duration, OffsetDateTime};

use crate::output::{Body, Detail, Show};
use crate::table::{Cell, Table, Tone};
use crate::units::{parse_time, until};

impl Show for ListCertificatesResponse {
    fn show(&self, detail: Detail) -> Body {
        let mut table = Table::new(["NAME", "KIND", "EXPIRES IN", "RENEWED IN", "SUBJECT"]);
        table.more(
            detail.wide,
            ["ISSUER", "NOT BEFORE", "NOT AFTER", "FINGERPRINT"],
        );
        for certificate in &self.certificates {
            let renewed = match certificate.renewed_at.as_str() {
                "" => Cell::default(),
                time => until(time, detail.now).into(),
            };
            table.row([
                certificate.name.as_str().into(),
                certificate.kind.as_str().into(),
                expiry(certificate, detail.now),
                renewed,
                certificate.subject.as_str().into(),
                certificate.issuer.as_str().into(),
                certificate.not_before.as_str().into(),
                certificate.not_after.as_str().into(),
                certificate.fingerprint.as_str().into(),
            ]);
        }
        Body::Table(table)
    }
}

/// What is over within this time is shown as a warning: somebody has to act for what the node
/// does not renew itself.
const SOON: Duration = Duration::days(30);

fn expiry(certificate: &Certificate, now: OffsetDateTime) -> Cell {
    if certificate.revoked {
        return Cell::toned("revoked", Tone::Bad);
    }
    let tone = match parse_time(&certificate.not_after) {
        Some(end) if end <= now => Tone::Bad,
        Some(end) if end - now < SOON && certificate.renewed_at.is_empty() => Tone::Warning,
        _ => Tone::Plain,
    };
    Cell::toned(until(&certificate.not_after, now), tone)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_needs_somebody_is_seen() {
        let now = parse_time("2026-01-31T00:00:00Z").unwrap();
        let cell = |not_after: &str, renewed_at: &str, revoked| {
            let certificate = Certificate {
                not_after: not_after.to_owned(),
                renewed_at: renewed_at.to_owned(),
                revoked,
                ..Default::default()
            };
            expiry(&certificate, now)
        };
        let soon = "2026-02-05T00:00:00Z";
        assert_eq!(cell(soon, "", false), Cell::toned("5d", Tone::Warning));
        assert_eq!(cell(soon, soon, false), Cell::toned("5d", Tone::Plain));
        assert_eq!(cell(soon, "", true), Cell::toned("revoked", Tone::Bad));
        let over = "2026-01-01T00:00:00Z";
        assert_eq!(cell(over, "", false), Cell::toned("over", Tone::Bad));
    }
}
