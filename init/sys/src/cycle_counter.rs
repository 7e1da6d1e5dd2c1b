//! How fast the processor's cycle counter runs: a guest that is told need not measure it, which
//! goes wrong on a busy host.

use std::time::Duration;

/// Long enough for an error below one in ten thousand, the clock being good to microseconds.
const MEASURED: Duration = Duration::from_millis(50);

/// Measures the counter of this machine in kHz; `None` where there is none that programs may read.
#[cfg(target_arch = "x86_64")]
pub fn khz() -> Option<u32> {
    let read = || {
        let before = std::time::Instant::now();
        // SAFETY: every 64-bit x86 processor has the instruction, and Linux lets programs use it.
        let cycles = unsafe { core::arch::x86_64::_rdtsc() };
        (before, cycles)
    };
    let (begin, first) = read();
    std::thread::sleep(MEASURED);
    let (end, second) = read();
    let nanos = end.duration_since(begin).as_nanos();
    let cycles = u128::from(second.checked_sub(first)?);
    u32::try_from(cycles.checked_mul(1_000_000)?.checked_div(nanos)?).ok()
}

/// Measures the counter of this machine in kHz; `None` where there is none that programs may read.
#[cfg(not(target_arch = "x86_64"))]
pub fn khz() -> Option<u32> {
    let _ = MEASURED;
    None
}

#[cfg(all(test, target_arch = "x86_64"))]
mod tests {
    use super::*;

    #[test]
    fn two_measurements_agree() {
        let (first, second) = (khz().unwrap(), khz().unwrap());
        // Slower than any 64-bit processor, faster than any yet.
        assert!((100_000..10_000_000).contains(&first), "{first} kHz");
        assert!(
            first.abs_diff(second) < first / 50,
            "{first} and {second} kHz"
        );
    }
}
