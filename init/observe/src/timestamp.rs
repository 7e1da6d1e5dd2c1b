//! Times of the API: RFC 3339 with milliseconds in UTC.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// `2026-11-21T03:30:00.123Z`; a time before 1970 or after 9999 is shown as the nearest of both.
pub(crate) fn rfc3339(time: SystemTime) -> String {
    let since_epoch = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let seconds = i64::try_from(since_epoch.as_secs()).unwrap_or(i64::MAX);
    let time = OffsetDateTime::from_unix_timestamp(seconds).unwrap_or(LAST);
    format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}Z",
        time.year(),
        u8::from(time.month()),
        time.day(),
        time.hour(),
        time.minute(),
        time.second(),
        since_epoch.subsec_millis(),
    )
}

/// Seconds since 1970 of a time in the API's form.
pub(crate) fn unix_seconds(text: &str) -> Option<i64> {
    Some(OffsetDateTime::parse(text, &Rfc3339).ok()?.unix_timestamp())
}

/// The time of the wall clock some time after the kernel started.
pub(crate) fn wall_time(since_start: Duration) -> SystemTime {
    // The clock of the kernel's log stands still while the machine sleeps, like this one.
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let uptime = Duration::new(
        u64::try_from(now.tv_sec).unwrap_or(0),
        u32::try_from(now.tv_nsec).unwrap_or(0),
    );
    let now = SystemTime::now();
    match uptime.checked_sub(since_start) {
        Some(ago) => now.checked_sub(ago).unwrap_or(UNIX_EPOCH),
        // Written between the two looks at the clock.
        None => now,
    }
}

/// 9999-12-31: the last day RFC 3339 can name.
const LAST: OffsetDateTime = time::Date::MAX.midnight().assume_utc();

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_moments() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400, "2000-02-29T00:00:00.000Z"),
            (4_107_542_400, "2100-03-01T00:00:00.000Z"),
        ] {
            let time = UNIX_EPOCH + Duration::from_secs(seconds);
            assert_eq!(rfc3339(time), text);
            assert_eq!(
                unix_seconds(text),
                Some(i64::try_from(seconds).unwrap()),
                "{text}"
            );
        }
        let end = UNIX_EPOCH + Duration::from_secs(1 << 40);
        assert_eq!(rfc3339(end), "9999-12-31T00:00:00.000Z");
        assert_eq!(unix_seconds("tomorrow"), None);
    }

    #[test]
    fn what_happens_later_is_later() {
        let early = wall_time(Duration::from_millis(1));
        let late = wall_time(Duration::from_millis(2));
        assert!(early < late);
        assert!(late <= SystemTime::now());
        assert!(wall_time(Duration::MAX) <= SystemTime::now());
    }
}
