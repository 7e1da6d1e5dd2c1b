//! PID 1 after stage 1: mounts, starts, reaps, restarts, feeds the watchdog, shuts down.
//!
//! One thread runs an event loop over epoll (`node`): signals, the control socket, the notify
//! socket, log pipes, probes, the power button. It waits for no child and parses nothing that
//! comes from a network. Decisions are made by `keelson-supervisor`; this crate carries them
//! out. A second thread only writes log files, so that a stalled disk stalls nothing else.
//!
//! Start order: panic hook, watchdog, clock floor, mounts, sysctls, cgroups, sockets, services.
//!
//! Files: reads `/usr/share/keelson/{services,sysctl.conf,build.json}`, `/etc/{passwd,group}` and
//! `/run/keelson/boot.json`; makes `/run/keelson/{control.sock,notify.sock,boot-report.json}` and
//! `/var/log/keelson/<service>.log`.

mod arguments;
mod authorize;
mod boot_report;
mod cgroup;
mod checks;
mod children;
mod clients;
mod clock;
mod connections;
mod console;
mod control;
mod definitions;
mod describe;
mod directories;
mod events;
mod execute;
mod finish;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod history;
mod limits;
mod log_file;
mod log_level;
mod logs;
mod machine;
mod memory_guard;
mod memory_pressure;
mod mounts;
mod node;
mod notify;
mod panic_hook;
mod power;
mod pressure;
mod probe;
mod process;
mod ring;
mod sysctl;
mod tell;
mod timestamp;

use std::process::ExitCode;

use keelson_control::{Level, chain};
use keelson_sys::boot_clock::since_boot;

use crate::arguments::Arguments;
use crate::console::Console;

/// Runs PID 1. Returns only in a namespace of a test, or when it was started by mistake.
pub fn run(arguments: impl Iterator<Item = String>) -> ExitCode {
    let arguments = match Arguments::parse(arguments) {
        Ok(arguments) => arguments,
        Err(problem) => {
            eprintln!("keelson: init: {problem}");
            return ExitCode::FAILURE;
        }
    };
    if std::process::id() != 1 {
        eprintln!("keelson: init: this program runs as PID 1 only, started by the kernel");
        return ExitCode::FAILURE;
    }
    let mut console = Console::open(arguments.namespace);
    if !arguments.namespace {
        panic_hook::install();
    }
    let started_at = since_boot();
    let watchdog = machine::set_up(&arguments, &mut console);
    match node::Node::new(&arguments, console, watchdog, started_at) {
        Ok(node) => node.run(),
        Err(error) => {
            // Without its sockets or definitions nothing can be supervised, and nobody could
            // say so later: as in stage 1, say it and start again.
            let mut console = Console::open(arguments.namespace);
            console.line(Level::Error, &format!("cannot start: {}", chain(&error)));
            machine::give_up(&arguments)
        }
    }
}
