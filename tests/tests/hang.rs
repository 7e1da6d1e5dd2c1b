//! PID 1 hangs: the machine resets itself and comes back.

use std::time::Duration;

use keelson_tests::{READY, saved};

/// PID 1 gives the watchdog 60 s.
const WATCHDOG: Duration = Duration::from_secs(90);

#[test]
fn the_watchdog_resets_a_machine_whose_pid_1_hangs() {
    saved::with_node("hang", |node, cluster| {
        cluster.exec("inside", &["freeze", "1"])?;
        let vm = node.vm()?;
        vm.wait("the watchdog", WATCHDOG, |seen| {
            seen.qmp_event("WATCHDOG").map(drop)
        })?;
        vm.wait("a reset", WATCHDOG, |seen| {
            seen.qmp_event("RESET").map(drop)
        })?;
        // It may come before the kernel's own output ends.
        vm.wait_for_serial("slot A", READY)?;
        vm.wait_for_condition("config", READY)?;
        Ok(())
    });
}
