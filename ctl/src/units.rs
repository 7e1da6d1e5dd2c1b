//! Sizes, durations and times as people write and read them.

use std::time::Duration;

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// A size with a unit: `0 B`, `1.5 KiB`, `12.0 MiB`.
pub(crate) fn size(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut unit_bytes: u64 = 1024;
    let mut units = UNITS.iter();
    let mut unit = units.next();
    while bytes / unit_bytes >= 1024 {
        unit_bytes *= 1024;
        unit = units.next();
    }
    // Tenths, rounded down, so that nothing is shown fuller than it is.
    let whole = bytes / unit_bytes;
    let tenths = u128::from(bytes % unit_bytes) * 10 / u128::from(unit_bytes);
    format!("{whole}.{tenths} {}", unit.unwrap_or(&""))
}

/// A size, or a word when there is none.
pub(crate) fn limit(bytes: u64) -> String {
    if bytes == 0 {
        "none".to_owned()
    } else {
        size(bytes)
    }
}

/// A duration in its two largest units: `950ms`, `42s`, `3m12s`, `2h5m`, `3d4h`.
pub(crate) fn span(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let (large, small) = match seconds {
        0 if duration.is_zero() => return "0s".to_owned(),
        0 => return format!("{}ms", duration.as_millis()),
        1..60 => return format!("{seconds}s"),
        60..3600 => ((seconds / 60, 'm'), (seconds % 60, 's')),
        3600..86400 => ((seconds / 3600, 'h'), (seconds % 3600 / 60, 'm')),
        _ => ((seconds / 86400, 'd'), (seconds % 86400 / 3600, 'h')),
    };
    match small {
        (0, _) => format!("{}{}", large.0, large.1),
        small => format!("{}{}{}{}", large.0, large.1, small.0, small.1),
    }
}

/// How long ago a time of the node is; the time itself when it cannot be read.
pub(crate) fn age(time: &str, now: OffsetDateTime) -> String {
    match parse_time(time) {
        // The node's clock may be ahead of ours.
        Some(then) => span(Duration::try_from(now - then).unwrap_or_default()),
        None => time.to_owned(),
    }
}

/// How long until a time of the node.
pub(crate) fn until(time: &str, now: OffsetDateTime) -> String {
    match parse_time(time) {
        Some(then) if then > now => span(Duration::try_from(then - now).unwrap_or_default()),
        Some(_) => "over".to_owned(),
        None => time.to_owned(),
    }
}

/// A time of the API (RFC 3339).
pub(crate) fn parse_time(text: &str) -> Option<OffsetDateTime> {
    OffsetDateTime::parse(text, &Rfc3339).ok()
}

/// In the form of the API; empty for years that RFC 3339 does not have.
pub(crate) fn rfc3339(time: OffsetDateTime) -> String {
    time.format(&Rfc3339).unwrap_or_default()
}

/// Reads a duration: `30s`, `2m`, `1h30m`, `7d`, `500ms`.
pub(crate) fn parse_span(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is no duration; write 30s, 2m, 1h30m or 7d");
    let mut rest = text;
    let mut total = Duration::ZERO;
    if rest.is_empty() {
        return Err(wrong());
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
        let (number, after) = rest.split_at(digits);
        let letters = after
            .find(|c: char| c.is_ascii_digit())
            .unwrap_or(after.len());
        let (unit, next) = after.split_at(letters);
        let unit_ms: u64 = match unit {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return Err(wrong()),
        };
        let number: u64 = number.parse().map_err(|_| wrong())?;
        let part = number.checked_mul(unit_ms).ok_or_else(wrong)?;
        total = total
            .checked_add(Duration::from_millis(part))
            .ok_or_else(wrong)?;
        rest = next;
    }
    Ok(total)
}

/// Reads a duration that is not nothing.
pub(crate) fn parse_wait(text: &str) -> Result<Duration, String> {
    match parse_span(text)? {
        Duration::ZERO => Err("a duration of nothing makes no sense here".to_owned()),
        wait => Ok(wait),
    }
}

/// Milliseconds as the API wants them; years beyond 64 bits do not occur.
pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Since when: so long ago, or a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Since {
    Ago(Duration),
    At(OffsetDateTime),
}

impl Since {
    /// `10m` or RFC 3339.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        if let Some(time) = parse_time(text) {
            return Ok(Self::At(time));
        }
        parse_span(text).map(Self::Ago).map_err(|_| {
            format!("{text:?} is neither a duration (10m) nor a time (2026-01-31T12:00:00Z)")
        })
    }

    /// In the form of the API.
    pub(crate) fn time(self, now: OffsetDateTime) -> String {
        rfc3339(match self {
            Self::Ago(duration) => now
                .checked_sub(duration.try_into().unwrap_or(time::Duration::MAX))
                .unwrap_or(OffsetDateTime::UNIX_EPOCH),
            Self::At(time) => time,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_one_decimal_and_never_round_up() {
        for (bytes, wanted) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1536, "1.5 KiB"),
            (1024 * 1024 - 1, "1023.9 KiB"),
            (12 * 1024 * 1024, "12.0 MiB"),
            (u64::MAX, "15.9 EiB"),
        ] {
            assert_eq!(size(bytes), wanted);
        }
    }

    #[test]
    fn spans_have_two_units() {
        for (ms, wanted) in [
            (0, "0s"),
            (950, "950ms"),
            (42_000, "42s"),
            (192_000, "3m12s"),
            (120_000, "2m"),
            (7_500_000, "2h5m"),
            (273_600_000, "3d4h"),
        ] {
            assert_eq!(span(Duration::from_millis(ms)), wanted);
        }
    }

    #[test]
    fn spans_are_read_with_every_unit() {
        for (text, ms) in [
            ("500ms", 500),
            ("30s", 30_000),
            ("1h30m", 5_400_000),
            ("7d", 604_800_000),
        ] {
            assert_eq!(parse_span(text), Ok(Duration::from_millis(ms)), "{text}");
        }
        for text in ["", "5", "m", "5 m", "-5m", "5y", "99999999999999999999s"] {
            assert!(parse_span(text).is_err(), "{text}");
        }
        assert!(parse_wait("0s").is_err());
    }

    #[test]
    fn since_is_a_span_or_a_time() {
        let now = parse_time("2026-01-31T12:00:00Z").unwrap();
        let time = |text: &str| Since::parse(text).map(|since| since.time(now));
        assert_eq!(time("10m").unwrap(), "2026-01-31T11:50:00Z");
        assert_eq!(
            time("2026-01-30T00:00:00Z").unwrap(),
            "2026-01-30T00:00:00Z"
        );
        assert_eq!(time("99999999d").unwrap(), "1970-01-01T00:00:00Z");
        assert!(time("yesterday").is_err());
    }

    #[test]
    fn ages_survive_a_clock_that_is_ahead() {
        let now = parse_time("2026-01-31T12:00:00Z").unwrap();
        assert_eq!(age("2026-01-31T11:56:48.123Z", now), "3m11s");
        assert_eq!(age("2026-01-31T12:00:09Z", now), "0s");
        assert_eq!(age("", now), "");
        assert_eq!(until("2026-01-31T12:03:12Z", now), "3m12s");
        assert_eq!(until("2026-01-31T11:00:00Z", now), "over");
    }
}
