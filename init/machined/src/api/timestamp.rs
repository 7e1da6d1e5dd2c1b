//! Times as the API shows them: RFC 3339 in UTC with milliseconds.

use std::time::Duration;

use keelson_sys::boot_clock::since_boot;
use time::OffsetDateTime;
use time::format_description::BorrowedFormatItem;
use time::macros::format_description;
use tonic::Status;

const FORMAT: &[BorrowedFormatItem<'_>] =
    format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:3]Z");

/// Now.
pub(crate) fn now() -> String {
    text(OffsetDateTime::now_utc())
}

/// A moment so many milliseconds after the kernel started.
pub(crate) fn at_uptime(ms: u64) -> String {
    let ago = since_boot().saturating_sub(Duration::from_millis(ms));
    text(OffsetDateTime::now_utc() - ago)
}

/// Any moment.
pub(crate) fn text(moment: OffsetDateTime) -> String {
    // Fails only for years that do not fit four digits.
    moment
        .to_offset(time::UtcOffset::UTC)
        .format(FORMAT)
        .unwrap_or_default()
}

/// Reads a time of any offset and gives it back in the form above, which sorts as text.
fn normalized(given: &str) -> Result<String, time::error::Parse> {
    OffsetDateTime::parse(given, &time::format_description::well_known::Rfc3339).map(text)
}

/// The `since` of a request; empty stays empty.
pub(crate) fn since(given: &str) -> Result<String, Status> {
    if given.is_empty() {
        return Ok(String::new());
    }
    normalized(given).map_err(|error| {
        Status::invalid_argument(format!(
            "since: {given:?} is no time in RFC 3339 form ({error})"
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_become_utc() {
        assert_eq!(
            normalized("2026-11-21T10:00:00.5+02:00").unwrap(),
            "2026-11-21T08:00:00.500Z"
        );
        assert!(normalized("yesterday").is_err());
    }
}
