//! The initramfs part of the boot: finds the disk it was started from, opens the verified root,
//! hands over to the same program there.
//!
//! Order: kernel file systems, watchdog, command line, disk, dm-verity, erofs, boot facts, switch.
//! It trusts the command line and the boot loader's variables, nothing on a disk. Whatever fails
//! is said in one line, and the machine restarts so that a try of the slot is used up.

mod boot_facts;
mod command_line;
mod console;
mod disk;
mod efi;
mod find;
mod root;
mod switch;

use std::convert::Infallible;
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::thread;
use std::time::Duration;

use keelson_control::{Phase, chain};
use keelson_sys::boot_clock::since_boot;
use keelson_sys::watchdog::{Feed, Watchdog};
use rustix::system::{RebootCommand, reboot};
use thiserror::Error;

use crate::boot_facts::BootFactsError;
use crate::command_line::{CommandLine, CommandLineError};
use crate::console::say;
use crate::efi::EfiError;
use crate::find::FindError;
use crate::root::RootError;
use crate::switch::SwitchError;

/// Tells the node binary that it runs from the initramfs.
pub const MARKER: &str = "/etc/keelson-initramfs";

/// Time to read the message on a screen before the machine restarts.
const RESTART_DELAY: Duration = Duration::from_secs(10);

/// Countdown of the watchdog. Stage 1 takes seconds; stage 2 sets its own.
const WATCHDOG_TIMEOUT: Duration = Duration::from_secs(60);

const WATCHDOG: &str = "/dev/watchdog";

/// The program stage 2 is.
const NEXT: &str = "/usr/bin/keelson";

/// Runs stage 1. Returns only if the machine can neither go on nor restart.
pub fn run() -> ExitCode {
    // Held here, so that a boot that fails leaves it open: its countdown is the last resort.
    let mut watchdog = None;
    let Err(error) = boot(&mut watchdog);
    say(&format!("stage 1: {}", chain(&error)));
    say("stage 1: restarting in 10 s");
    thread::sleep(RESTART_DELAY);
    rustix::fs::sync();
    let _ = reboot(RebootCommand::Restart);
    // The kernel panics when PID 1 returns, and `panic=10` restarts the machine.
    ExitCode::FAILURE
}

/// Why the boot cannot go on.
#[derive(Debug, Error)]
enum BootError {
    #[error("cannot use the kernel command line")]
    CommandLine(#[source] CommandLineError),
    #[error("cannot read what the boot loader left")]
    Efi(#[source] EfiError),
    #[error("cannot start {NEXT}")]
    Execute(#[source] std::io::Error),
    #[error("cannot write the boot facts")]
    Facts(#[source] BootFactsError),
    #[error("cannot find the disk this machine was started from")]
    Find(#[source] FindError),
    #[error("cannot open the root file system")]
    Root(#[source] RootError),
    #[error("cannot switch to the root file system")]
    Switch(#[source] SwitchError),
}

fn boot(watchdog: &mut Option<Watchdog>) -> Result<Infallible, BootError> {
    let kernel_done = since_boot();
    let early = switch::mount_kernel_file_systems();
    *watchdog = open_watchdog();
    early.map_err(BootError::Switch)?;
    let text = fs::read_to_string("/proc/cmdline")
        .map_err(|source| BootError::CommandLine(CommandLineError::Read(source)))?;
    let command_line = CommandLine::parse(&text).map_err(BootError::CommandLine)?;
    let origin = efi::origin(&command_line).map_err(BootError::Efi)?;
    let disk = find::find(&origin).map_err(BootError::Find)?;
    let root = root::open(&disk, origin.slot, &command_line).map_err(BootError::Root)?;
    root::mount(&root, Path::new(switch::NEW_ROOT)).map_err(BootError::Root)?;
    let phases = vec![
        Phase {
            name: "kernel".to_owned(),
            at_ms: millis(kernel_done),
        },
        Phase {
            name: "stage1".to_owned(),
            at_ms: millis(since_boot()),
        },
    ];
    boot_facts::write(&disk, origin, phases).map_err(BootError::Facts)?;
    switch::switch_root().map_err(BootError::Switch)?;
    Err(BootError::Execute(execute(watchdog.take())))
}

fn open_watchdog() -> Option<Watchdog> {
    match Watchdog::open(Path::new(WATCHDOG)) {
        Ok(mut watchdog) => {
            // One that cannot change its countdown keeps its own, usually a minute.
            let _ = watchdog.set_timeout(WATCHDOG_TIMEOUT);
            let _ = watchdog.feed();
            Some(watchdog)
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        Err(error) => {
            say(&format!("stage 1: cannot open {WATCHDOG}: {error}"));
            None
        }
    }
}

/// Becomes stage 2; returns only the reason why not.
fn execute(watchdog: Option<Watchdog>) -> std::io::Error {
    let mut next = Command::new(NEXT);
    next.arg0("init").env_clear();
    if let Some(watchdog) = watchdog {
        match watchdog.leave_open() {
            Ok(number) => {
                next.arg(format!("--watchdog-fd={number}"));
            }
            Err(error) => return error,
        }
    }
    next.exec()
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
