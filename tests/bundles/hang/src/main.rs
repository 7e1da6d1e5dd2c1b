//! Stands in front of the node binary in the initramfs of a test: it leaves a process behind that
//! stops PID 1 for good as soon as that has armed the watchdog, and becomes the node binary.
//!
//! Nothing of the node knows that it is tested, and only the watchdog gets the machine back.

use std::fs;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::thread;
use std::time::Duration;

use rustix::mount::{MountFlags, mount};

/// Where the initramfs has this program and the real one.
const THIS: &str = "/init";
const NODE: &str = "/node";

/// The argument of the process that is left behind; no argument of a kernel looks like it.
const WATCH: &str = "--watch-pid-1";

/// The file systems of control groups go here: PID 1 has not mounted any yet.
const CGROUPS: &str = "/frozen";

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    let error = if arguments.iter().any(|argument| argument == WATCH) {
        match watch() {
            Ok(()) => return ExitCode::SUCCESS,
            Err(error) => error,
        }
    } else {
        match Command::new(THIS).arg(WATCH).spawn() {
            Ok(_) => Command::new(NODE).arg0(THIS).args(arguments).exec(),
            Err(error) => error,
        }
    };
    eprintln!("keelson-hang: {error}");
    ExitCode::FAILURE
}

/// There is no event for what another process opens. PID 1 needs some milliseconds from the
/// watchdog to the next root file system, so it is looked at all the time.
fn watch() -> io::Result<()> {
    while !holds_watchdog() {
        thread::yield_now();
    }
    fs::create_dir(CGROUPS)?;
    mount("cgroup2", CGROUPS, "cgroup2", MountFlags::empty(), None)?;
    let group = Path::new(CGROUPS).join("hang");
    fs::create_dir(&group)?;
    fs::write(group.join("cgroup.procs"), "1")?;
    fs::write(group.join("cgroup.freeze"), "1")?;
    println!("keelson-hang: PID 1 has armed the watchdog and is stopped");
    loop {
        thread::sleep(Duration::from_secs(3600));
    }
}

fn holds_watchdog() -> bool {
    let Ok(files) = fs::read_dir("/proc/1/fd") else {
        return false;
    };
    files.flatten().any(|file| {
        fs::read_link(file.path())
            .is_ok_and(|target| target.starts_with("/dev") && is_watchdog(&target))
    })
}

fn is_watchdog(target: &Path) -> bool {
    target
        .file_name()
        .is_some_and(|name| name.to_string_lossy().starts_with("watchdog"))
}
