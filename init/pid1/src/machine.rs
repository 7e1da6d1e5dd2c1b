//! Sets the machine up before the first service, in an order that matters.

use std::path::Path;
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use keelson_control::{Level, ShutdownKind, chain};
use keelson_sys::watchdog::{Feed, Watchdog};

use crate::arguments::Arguments;
use crate::cgroup::Tree;
use crate::console::Console;
use crate::{clock, mounts, power, sysctl};

const SYSCTL_FILE: &str = "/usr/share/keelson/sysctl.conf";

/// Countdown of the watchdog. PID 1 feeds it every third of this; a loaded emulated machine can
/// leave it without the processor for tens of seconds.
const WATCHDOG_TIMEOUT: Duration = Duration::from_secs(60);

/// Name until machined has read the configuration.
const DEFAULT_HOSTNAME: &[u8] = b"keelson";

/// Does all of it; what fails is said, and the boot goes on as far as it can.
pub(crate) fn set_up(arguments: &Arguments, console: &mut Console) -> Option<Watchdog> {
    if arguments.namespace {
        return None;
    }
    let watchdog = take_watchdog(arguments, console);
    if let Some(text) = clock::correct_by_file(Path::new(clock::BUILD_FILE)) {
        console.line(Level::Warn, &text);
    }
    for error in mounts::mount_all() {
        console.line(Level::Error, &chain(&error));
    }
    for error in sysctl::apply(Path::new(SYSCTL_FILE), Path::new("/proc/sys")) {
        console.line(Level::Error, &format!("{SYSCTL_FILE}: {}", chain(&error)));
    }
    if let Err(error) = Tree::new(&arguments.cgroup_root).set_up() {
        console.line(
            Level::Error,
            &format!("cannot set up the cgroup tree: {error}"),
        );
    }
    if let Err(error) = rustix::system::sethostname(DEFAULT_HOSTNAME) {
        console.line(Level::Error, &format!("cannot set the host name: {error}"));
    }
    if let Err(error) = power::take_ctrl_alt_del() {
        console.line(
            Level::Error,
            &format!("cannot take over Ctrl-Alt-Del: {error}"),
        );
    }
    watchdog
}

/// Ends a boot that cannot go on: restarts the machine after people had time to read why.
pub(crate) fn give_up(arguments: &Arguments) -> ExitCode {
    if arguments.namespace {
        return ExitCode::FAILURE;
    }
    thread::sleep(Duration::from_secs(10));
    power::end(ShutdownKind::Reboot)
}

fn take_watchdog(arguments: &Arguments, console: &mut Console) -> Option<Watchdog> {
    // A machine without one is normal: stage 1 has said so.
    let mut watchdog = match Watchdog::inherit(arguments.watchdog?) {
        Ok(watchdog) => watchdog,
        Err(error) => {
            console.line(
                Level::Error,
                &format!("cannot take over the watchdog: {error}"),
            );
            return None;
        }
    };
    if let Err(error) = watchdog.set_timeout(WATCHDOG_TIMEOUT) {
        console.line(
            Level::Warn,
            &format!("the watchdog keeps its own timeout: {error}"),
        );
    }
    if let Err(error) = watchdog.feed() {
        console.line(Level::Error, &format!("cannot feed the watchdog: {error}"));
    }
    Some(watchdog)
}
