//! Time since the kernel started, and the wall clock's floor.

use std::io;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, Timespec, clock_gettime, clock_settime};

/// Time since the kernel started, suspended time included.
pub fn since_boot() -> Duration {
    let now = clock_gettime(ClockId::Boottime);
    // The kernel never reports a negative boot time or a nanosecond part out of range.
    Duration::new(
        u64::try_from(now.tv_sec).unwrap_or(0),
        u32::try_from(now.tv_nsec).unwrap_or(0),
    )
}

/// Sets the wall clock to `floor` when it is earlier. Returns whether it was.
pub fn raise_wall_clock(floor: SystemTime) -> io::Result<bool> {
    if SystemTime::now() >= floor {
        return Ok(false);
    }
    let since_epoch = floor.duration_since(UNIX_EPOCH).map_err(io::Error::other)?;
    let tv_sec = i64::try_from(since_epoch.as_secs()).map_err(io::Error::other)?;
    clock_settime(ClockId::Realtime, Timespec { tv_sec, tv_nsec: 0 })?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_floor_in_the_past_changes_nothing() {
        assert!(!raise_wall_clock(UNIX_EPOCH).unwrap());
        assert!(since_boot() > Duration::ZERO);
    }
}
