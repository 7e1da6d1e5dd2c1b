//! How much of the time tasks wait for processor, memory and disk: the kernel's pressure stall
//! information (PSI).

use std::fs;
use std::io;
use std::path::Path;
use std::time::Duration;

/// Where the kernel tells it for the whole machine.
pub(crate) const FOLDER: &str = "/proc/pressure";

/// Shares of the last ten seconds above which the machine does not get its work done, and a late
/// answer says little about who is late. Pods that compute all day reach the first one as well:
/// then what hangs is healed later, not never.
const CPU_SOME: f64 = 80.0;
const IO_FULL: f64 = 40.0;
const MEMORY_FULL: f64 = 20.0;

/// The kernel computes the averages every two seconds.
const SAMPLE_INTERVAL: Duration = Duration::from_secs(2);

/// Shares of the last ten seconds, in percent.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Pressure {
    /// Some task waited.
    pub(crate) some: f64,
    /// All tasks that were not idle waited.
    pub(crate) full: f64,
}

/// Whether the machine gets its work done, asked for as often as anybody likes.
#[derive(Debug, Default)]
pub(crate) struct Gauge {
    sampled_at: Option<Duration>,
    stalled: bool,
}

impl Gauge {
    /// Whether the machine does not get its work done. A kernel that does not say so is fine.
    pub(crate) fn stalled(&mut self, folder: &Path, now: Duration) -> bool {
        let fresh = self
            .sampled_at
            .is_some_and(|sampled| now < sampled + SAMPLE_INTERVAL);
        if !fresh {
            let of = |resource: &str| read(&folder.join(resource)).unwrap_or_default();
            self.sampled_at = Some(now);
            self.stalled = is_stalled(of("cpu"), of("io"), of("memory"));
        }
        self.stalled
    }
}

/// Reads one of the kernel's pressure files.
pub(crate) fn read(path: &Path) -> io::Result<Pressure> {
    let text = fs::read_to_string(path)?;
    parse(&text).ok_or_else(|| io::Error::other("not of the form the kernel documents"))
}

fn is_stalled(cpu: Pressure, disk: Pressure, memory: Pressure) -> bool {
    cpu.some >= CPU_SOME || disk.full >= IO_FULL || memory.full >= MEMORY_FULL
}

/// `some avg10=0.12 avg60=0.00 avg300=0.00 total=1234`, then the same for `full`.
fn parse(text: &str) -> Option<Pressure> {
    let share = |kind: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(kind))?;
        let word = line
            .split_whitespace()
            .find_map(|word| word.strip_prefix("avg10="))?;
        word.parse().ok()
    };
    Some(Pressure {
        some: share("some ")?,
        // Kernels before 5.13 have no such line for the processor.
        full: share("full ").unwrap_or(0.0),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const BUSY: &str = "some avg10=81.50 avg60=3.00 avg300=1.00 total=12345\n\
                        full avg10=12.25 avg60=1.00 avg300=0.50 total=678\n";

    #[test]
    fn both_lines_are_read() {
        let expected = Pressure {
            some: 81.5,
            full: 12.25,
        };
        assert_eq!(parse(BUSY), Some(expected));
        assert_eq!(parse("some avg10=1.00 avg60=2.00\n").unwrap().full, 0.0);
        assert_eq!(parse("some avg10=x"), None);
        assert_eq!(parse(""), None);
    }

    #[test]
    fn the_machine_is_asked_seldom_and_a_silent_one_is_well() {
        let dir = tempfile::tempdir().unwrap();
        let mut gauge = Gauge::default();
        let second = Duration::from_secs(1);
        assert!(!gauge.stalled(dir.path(), second));
        fs::write(dir.path().join("cpu"), BUSY).unwrap();
        assert!(!gauge.stalled(dir.path(), second * 2), "asked too soon");
        assert!(gauge.stalled(dir.path(), second * 3));
        fs::write(dir.path().join("cpu"), BUSY.replace("81.50", "79.00")).unwrap();
        assert!(!gauge.stalled(dir.path(), second * 6));
        // All tasks waiting for memory an eighth of the time is not yet the end.
        fs::write(dir.path().join("memory"), BUSY).unwrap();
        assert!(!gauge.stalled(dir.path(), second * 9));
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_handled(text: String) {
            let _ = parse(&text);
        }
    }
}
