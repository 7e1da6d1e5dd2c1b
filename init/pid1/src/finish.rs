//! The end: after the last service, before the machine stops.

use std::process::ExitCode;
use std::time::Duration;

use keelson_control::{Level, ShutdownKind};
use keelson_sys::boot_clock::since_boot;
use keelson_sys::process::next_change;

use crate::node::Node;
use crate::{cgroup, mounts, power};

/// Longest wait for killed processes before file systems are unmounted.
const KILL_WAIT: Duration = Duration::from_secs(5);

impl Node {
    /// After the last service: kill what is left, write everything out, end the machine.
    pub(crate) fn finish(mut self) -> ExitCode {
        let kind = self.ending.unwrap_or(ShutdownKind::Reboot);
        self.kill_everything();
        self.logs.stop_files();
        if self.namespace {
            return ExitCode::SUCCESS;
        }
        self.fed_at = Duration::ZERO;
        self.feed_watchdog();
        rustix::fs::sync();
        for (point, error) in mounts::unmount_all() {
            self.say(
                Level::Warn,
                &format!("cannot unmount {}: {error}", point.display()),
            );
        }
        rustix::fs::sync();
        self.fed_at = Duration::ZERO;
        self.feed_watchdog();
        self.say(Level::Info, "all data is written, goodbye");
        self.console.drain(Duration::from_millis(500));
        power::end(kind)
    }

    fn kill_everything(&mut self) {
        let Some(tree) = self.tree.clone() else {
            return;
        };
        let groups = tree.everything().unwrap_or_default();
        for group in &groups {
            if let Err(error) = cgroup::kill(group) {
                self.say(
                    Level::Warn,
                    &format!("cannot kill {}: {error}", group.display()),
                );
            }
        }
        let deadline = since_boot() + KILL_WAIT;
        while groups
            .iter()
            .any(|group| cgroup::populated(group).unwrap_or(false))
        {
            if since_boot() > deadline {
                self.say(Level::Warn, "some processes are stuck in the kernel");
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
            while let Ok(Some(_)) = next_change() {}
        }
    }
}
