//! Delays before restarts.

use std::time::Duration;

use keelson_service::RestartConfig;

/// Second delay of a series; it doubles from there.
const STEP: Duration = Duration::from_millis(500);

/// Failures in a row after which a service is shown as crash-looping. The fifth delay is 4 to 8
/// seconds: by then it is no hiccup.
pub(crate) const CRASH_LOOP_FAILURES: u32 = 5;

/// Delay after `failures` earlier failures in a row. `jitter` is any number; it shortens the
/// delay by up to a half, so that services that died together do not come back together.
pub(crate) fn delay(config: &RestartConfig, failures: u32, jitter: u32) -> Duration {
    let cap = Duration::from_secs(config.max_delay_seconds.into());
    let initial = Duration::from_millis(config.initial_delay_ms.into());
    let Some(doublings) = failures.checked_sub(1) else {
        return initial.min(cap);
    };
    let full = 2_u32
        .checked_pow(doublings)
        .and_then(|factor| STEP.max(initial).checked_mul(factor))
        .map_or(cap, |delay| delay.min(cap));
    full - full.mul_f64(f64::from(jitter) / f64::from(u32::MAX) / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(initial_delay_ms: u32, max_delay_seconds: u32) -> RestartConfig {
        RestartConfig {
            initial_delay_ms,
            max_delay_seconds,
            ..RestartConfig::default()
        }
    }

    #[test]
    fn first_at_once_then_doubling_up_to_the_cap() {
        let config = config(0, 10);
        let delays: Vec<u128> = (0..8).map(|n| delay(&config, n, 0).as_millis()).collect();
        assert_eq!(delays, [0, 500, 1000, 2000, 4000, 8000, 10_000, 10_000]);
        assert_eq!(delay(&config, 3, u32::MAX).as_millis(), 1000);
    }

    proptest::proptest! {
        #[test]
        fn never_above_the_cap(initial: u32, cap in 1_u32.., failures: u32, jitter: u32) {
            let cap_time = Duration::from_secs(cap.into());
            proptest::prop_assert!(delay(&config(initial, cap), failures, jitter) <= cap_time);
        }
    }
}
