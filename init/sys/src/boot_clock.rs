//! Time since the kernel started, and the wall clock.

use std::io;
use std::ops::Range;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, Timespec, clock_gettime, clock_settime};

/// What a wall clock can say, counted from 1970. Earlier than this project is a clock chip without
/// battery. Thirty years later is one too: UEFI firmware takes the chip's two-digit 1970 for 2070
/// (EDK II, `PcdMinimalValidYear`).
pub const PLAUSIBLE: Range<Duration> =
    Duration::from_secs(1_767_225_600)..Duration::from_secs(2_713_910_400); // 2026 to 2056

/// Time since the kernel started, suspended time included.
pub fn since_boot() -> Duration {
    let now = clock_gettime(ClockId::Boottime);
    // The kernel never reports a negative boot time or a nanosecond part out of range.
    Duration::new(
        u64::try_from(now.tv_sec).unwrap_or(0),
        u32::try_from(now.tv_nsec).unwrap_or(0),
    )
}

/// Sets the wall clock.
pub fn set_wall_clock(time: SystemTime) -> io::Result<()> {
    let since_epoch = time.duration_since(UNIX_EPOCH).map_err(io::Error::other)?;
    let tv_sec = i64::try_from(since_epoch.as_secs()).map_err(io::Error::other)?;
    clock_settime(ClockId::Realtime, Timespec { tv_sec, tv_nsec: 0 })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_goes_on_and_this_is_no_year_of_a_dead_battery() {
        assert!(since_boot() > Duration::ZERO);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        assert!(PLAUSIBLE.contains(&now));
    }
}
