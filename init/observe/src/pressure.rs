//! Pressure: how much of the time something had to wait (PSI).

use std::path::Path;
use std::time::Duration;

use crate::root::{Root, attribute};

/// What the machine as a whole waited for.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Pressure {
    /// Processor.
    pub cpu: Stall,
    /// Disks.
    pub io: Stall,
    /// Memory.
    pub memory: Stall,
}

/// Waiting for one resource; all zero where the kernel does not measure it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Stall {
    /// Some processes waited.
    pub some: Share,
    /// All that had something to do waited.
    pub full: Share,
}

/// How long.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Share {
    /// Of the last 10 s, in percent.
    pub percent: f64,
    /// Since the kernel started.
    pub total: Duration,
}

/// The machine as a whole.
#[must_use]
pub fn pressure(root: &Root) -> Pressure {
    let folder = root.path("/proc/pressure");
    Pressure {
        cpu: stall(&folder, "cpu"),
        io: stall(&folder, "io"),
        memory: stall(&folder, "memory"),
    }
}

/// A pressure file: of the machine or of a cgroup.
pub(crate) fn stall(folder: &Path, file: &str) -> Stall {
    parse(&attribute(folder, file).unwrap_or_default())
}

fn parse(text: &str) -> Stall {
    let mut stall = Stall::default();
    for line in text.lines() {
        let mut words = line.split_ascii_whitespace();
        let share = match words.next() {
            Some("some") => &mut stall.some,
            Some("full") => &mut stall.full,
            _ => continue,
        };
        for (name, value) in words.filter_map(|word| word.split_once('=')) {
            match name {
                "avg10" => share.percent = value.parse().unwrap_or(0.0),
                "total" => share.total = Duration::from_micros(value.parse().unwrap_or(0)),
                _ => {}
            }
        }
    }
    stall
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_lines_are_read() {
        let stall = parse(
            "some avg10=1.53 avg60=0.87 avg300=0.25 total=1223635\nfull avg10=0.50 avg60=0.00 avg300=0.00 total=824702\n",
        );
        assert_eq!(
            stall,
            Stall {
                some: Share {
                    percent: 1.53,
                    total: Duration::from_micros(1_223_635),
                },
                full: Share {
                    percent: 0.5,
                    total: Duration::from_micros(824_702),
                },
            }
        );
        assert_eq!(parse(""), Stall::default());
    }

    proptest::proptest! {
        #[test]
        fn never_panics(text: String) {
            let _ = parse(&text);
            let _ = parse(&format!("some avg10={text} total={text}"));
        }
    }
}
