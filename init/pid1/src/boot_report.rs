//! How long each part of the boot took.

use std::fs;
use std::io;
use std::path::Path;
use std::time::Duration;

use keelson_control::{BootReport, Phase};

/// Where the report is kept.
pub(crate) const PATH: &str = "/run/keelson/boot-report.json";

/// Condition after which the report is made.
pub(crate) const READY_CONDITION: &str = "node-ready";

/// Milliseconds for the wire.
pub(crate) fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// The lines for the console.
pub(crate) fn lines(report: &BootReport) -> Vec<String> {
    let mut lines = vec!["boot report".to_owned()];
    let mut phases: Vec<&Phase> = report.phases.iter().collect();
    phases.sort_by_key(|phase| phase.at_ms);
    lines.extend(phases.into_iter().map(phase_line));
    lines.push(format!(
        "node ready after {} s",
        seconds(report.ready_ms).trim_start()
    ));
    lines
}

/// A phase as it stands on the console.
pub(crate) fn phase_line(phase: &Phase) -> String {
    format!("  {} s  {}", seconds(phase.at_ms), phase.name)
}

/// Keeps the report as a file, whole or not at all.
pub(crate) fn write(report: &BootReport, path: &Path) -> io::Result<()> {
    let text = serde_json::to_vec_pretty(report)?;
    let temporary = path.with_extension("tmp");
    // On tmpfs: it need not survive a power cut, only never be seen half-written.
    fs::write(&temporary, text)?;
    fs::rename(&temporary, path)
}

fn seconds(ms: u64) -> String {
    format!("{:>5}.{}", ms / 1000, ms % 1000 / 100)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phases_come_in_order_and_the_last_line_is_the_marker() {
        let phase = |name: &str, at_ms| Phase {
            name: name.to_owned(),
            at_ms,
        };
        let report = BootReport {
            ready_ms: 58_249,
            phases: vec![phase("b", 2_000), phase("stage1", 950)],
        };
        assert_eq!(
            lines(&report),
            [
                "boot report",
                "      0.9 s  stage1",
                "      2.0 s  b",
                "node ready after 58.2 s"
            ]
        );
    }
}
