//! What the guest's clock shows when the machine starts.

use std::time::{Duration, SystemTime};

use time::OffsetDateTime;

/// What the guest's clock shows at start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clock {
    /// So long ago, like a machine that has run since then.
    Ago(Duration),
    /// The first second of 1970, like a board without a battery.
    Epoch,
    /// The host's time, in UTC.
    Host,
}

impl Clock {
    /// The value of QEMU's `-rtc`.
    pub(crate) fn argument(self, now: SystemTime) -> String {
        let start = match self {
            Self::Ago(ago) => OffsetDateTime::from(now) - ago,
            Self::Epoch => OffsetDateTime::UNIX_EPOCH,
            Self::Host => return "base=utc".to_owned(),
        };
        format!(
            "base={:04}-{:02}-{:02}T{:02}:{:02}:{:02}",
            start.year(),
            u8::from(start.month()),
            start.day(),
            start.hour(),
            start.minute(),
            start.second()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_written_as_qemu_reads_it() {
        // date --utc --date=@1795268703
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_268_703);
        let argument = |clock: Clock| clock.argument(now);
        assert_eq!(argument(Clock::Host), "base=utc");
        assert_eq!(argument(Clock::Epoch), "base=1970-01-01T00:00:00");
        assert_eq!(
            argument(Clock::Ago(Duration::ZERO)),
            "base=2026-11-21T13:45:03"
        );
        let days = Duration::from_secs(250 * 24 * 3600 + 4);
        assert_eq!(argument(Clock::Ago(days)), "base=2026-03-16T13:44:59");
    }
}
