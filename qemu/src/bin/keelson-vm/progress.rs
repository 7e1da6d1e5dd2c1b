//! What a person sees while a machine boots.

use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use keelson_control::{BootReport, Phase};

/// Progress on standard output: a line per phase, and on a terminal a line that counts.
#[derive(Debug)]
pub(crate) struct Progress {
    terminal: bool,
}

impl Progress {
    pub(crate) fn new() -> Self {
        Self {
            terminal: io::stdout().is_terminal(),
        }
    }

    /// Whether [`Progress::tick`] shows anything.
    pub(crate) fn counts(&self) -> bool {
        self.terminal
    }

    pub(crate) fn line(&self, text: &str) {
        let clear = if self.terminal { "\r\x1b[K" } else { "" };
        println!("{clear}{text}");
    }

    pub(crate) fn phase(&self, elapsed: Duration, phase: &Phase) {
        self.line(&format!("  {}  {}", clock(elapsed), phase.name));
    }

    pub(crate) fn tick(&self, elapsed: Duration, last: &str) {
        if self.terminal {
            print!("\r\x1b[K  {}  after {last} …", clock(elapsed));
            // A line that is not shown is no loss.
            let _ = io::stdout().flush();
        }
    }
}

/// `01:05`.
pub(crate) fn clock(elapsed: Duration) -> String {
    let seconds = elapsed.as_secs();
    format!("{:02}:{:02}", seconds / 60, seconds % 60)
}

/// The report as a table, one phase per line.
pub(crate) fn report(report: &BootReport) -> String {
    let mut text = String::from("boot report, seconds since the kernel started:\n");
    for phase in &report.phases {
        text.push_str(&format!("  {:>7}  {}\n", seconds(phase.at_ms), phase.name));
    }
    text.push_str(&format!("  {:>7}  node Ready", seconds(report.ready_ms)));
    text
}

fn seconds(milliseconds: u64) -> String {
    format!("{}.{}", milliseconds / 1000, milliseconds % 1000 / 100)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_for_people() {
        assert_eq!(clock(Duration::from_millis(65_900)), "01:05");
        let phases = vec![Phase {
            name: "storage".to_owned(),
            at_ms: 2_345,
        }];
        let text = report(&BootReport {
            ready_ms: 61_050,
            phases,
        });
        assert!(text.contains("    2.3  storage\n"), "{text}");
        assert!(text.ends_with("   61.0  node Ready"), "{text}");
    }
}
