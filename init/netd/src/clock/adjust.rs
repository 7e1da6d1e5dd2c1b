//! Moves the machine's clock: in one step when it is far off, gently when it is close.

use std::time::Duration;

use keelson_sys::boot_clock::PLAUSIBLE;
use rustix::time::{ClockId, Timespec, clock_settime};

use super::Clock;

/// Below, programs would rather see time run a little faster or slower than jump (ntpd steps
/// from 0.128 s on; the kernel slews half a second away within 17 minutes).
const STEP_FROM: f64 = 0.5;

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Correction {
    /// Set the clock forward or back by so many seconds.
    Step { seconds: f64 },
    /// Let it run faster or slower until it is right.
    Slew { microseconds: i64 },
}

/// What was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Adjusted {
    Slewing,
    Stepped,
}

/// The time of a server cannot be right.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the server's time is before 2026, after 2055 or cannot be told in seconds")]
pub(crate) struct ImpossibleTime;

/// The kernel refused.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClockError {
    #[error("cannot set the clock (CAP_SYS_TIME is needed)")]
    Set(#[source] rustix::io::Errno),
    #[error("cannot adjust the clock (CAP_SYS_TIME is needed)")]
    Slew(#[source] std::io::Error),
    #[error("the clock cannot hold that time")]
    Range,
}

/// Decides how a clock that says `now` (since 1970) is corrected by `offset` seconds.
pub(super) fn correction(now: Duration, offset: f64) -> Result<Correction, ImpossibleTime> {
    // i32 seconds are 68 years: enough for a clock in 1970, and far from where floats get coarse.
    if !offset.is_finite() || offset.abs() > f64::from(i32::MAX) {
        return Err(ImpossibleTime);
    }
    let then = now.as_secs_f64() + offset;
    if then < PLAUSIBLE.start.as_secs_f64() || then >= PLAUSIBLE.end.as_secs_f64() {
        return Err(ImpossibleTime);
    }
    if offset.abs() >= STEP_FROM {
        return Ok(Correction::Step { seconds: offset });
    }
    let microseconds =
        i64::try_from(Duration::from_secs_f64(offset.abs()).as_micros()).unwrap_or(0);
    Ok(Correction::Slew {
        microseconds: if offset < 0.0 {
            -microseconds
        } else {
            microseconds
        },
    })
}

/// The machine's real clock.
#[derive(Debug)]
pub(crate) struct SystemClock;

impl Clock for SystemClock {
    fn adjust(&self, correction: Correction) -> Result<Adjusted, ClockError> {
        let adjusted = match correction {
            Correction::Step { seconds } => {
                let now = rustix::time::clock_gettime(ClockId::Realtime);
                clock_settime(ClockId::Realtime, shifted(now, seconds)?)
                    .map_err(ClockError::Set)?;
                Adjusted::Stepped
            }
            Correction::Slew { microseconds } => {
                keelson_sys::clock_slew::slew_clock(microseconds).map_err(ClockError::Slew)?;
                Adjusted::Slewing
            }
        };
        keelson_sys::clock_slew::mark_synchronised().map_err(ClockError::Slew)?;
        Ok(adjusted)
    }

    fn chip(&self) -> Option<Duration> {
        let text = std::fs::read_to_string("/sys/class/rtc/rtc0/since_epoch").ok()?;
        // Before 1970 the number is negative: as wrong as 1970 itself.
        let seconds: i64 = text.trim().parse().ok()?;
        Some(Duration::from_secs(u64::try_from(seconds).unwrap_or(0)))
    }
}

fn shifted(now: Timespec, seconds: f64) -> Result<Timespec, ClockError> {
    let amount = Duration::try_from_secs_f64(seconds.abs()).map_err(|_| ClockError::Range)?;
    let whole = i64::try_from(amount.as_secs()).map_err(|_| ClockError::Range)?;
    let nanos = i64::from(amount.subsec_nanos());
    let (whole, nanos) = if seconds < 0.0 {
        (-whole, -nanos)
    } else {
        (whole, nanos)
    };
    let total = now.tv_nsec + nanos;
    let seconds = now
        .tv_sec
        .checked_add(whole)
        .and_then(|sum| sum.checked_add(total.div_euclid(1_000_000_000)))
        .ok_or(ClockError::Range)?;
    Ok(Timespec {
        tv_sec: seconds,
        tv_nsec: total.rem_euclid(1_000_000_000),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn far_is_stepped_and_near_is_slewed() {
        let now = Duration::from_secs(1_800_000_000);
        assert_eq!(
            correction(now, 0.25),
            Ok(Correction::Slew {
                microseconds: 250_000
            })
        );
        assert_eq!(
            correction(now, -0.25),
            Ok(Correction::Slew {
                microseconds: -250_000
            })
        );
        assert_eq!(
            correction(now, -7.5),
            Ok(Correction::Step { seconds: -7.5 })
        );
        // A clock in 1970 and a right server.
        let years = 1_800_000_000.0;
        assert_eq!(
            correction(Duration::ZERO, years),
            Ok(Correction::Step { seconds: years })
        );
    }

    #[test]
    fn impossible_times_are_refused() {
        let now = Duration::from_secs(1_800_000_000);
        for offset in [f64::NAN, f64::INFINITY, -1e9, 1e9, 1e300] {
            assert_eq!(correction(now, offset), Err(ImpossibleTime), "{offset}");
        }
    }

    proptest! {
        #[test]
        fn shifting_there_and_back(sec in 0i64..4_000_000_000, nsec in 0i64..1_000_000_000, millis in -2_000_000_000i32..2_000_000_000) {
            let start = Timespec { tv_sec: sec, tv_nsec: nsec };
            let offset = f64::from(millis) / 1000.0;
            let there = shifted(start, offset).unwrap();
            prop_assert!((0..1_000_000_000).contains(&there.tv_nsec));
            let back = shifted(there, -offset).unwrap();
            prop_assert_eq!((back.tv_sec, back.tv_nsec), (sec, nsec));
        }
    }
}
