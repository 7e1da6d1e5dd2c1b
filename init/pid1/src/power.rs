//! The power button, and the very end.

use std::fs;
use std::process::ExitCode;

use keelson_control::ShutdownKind;
use keelson_sys::input::PowerButton;
use rustix::system::{RebootCommand, reboot};

/// All input devices that have a power key.
pub(crate) fn buttons() -> Vec<PowerButton> {
    let Ok(entries) = fs::read_dir("/dev/input") else {
        return Vec::new();
    };
    let mut paths: Vec<_> = entries
        .flatten()
        .filter(|entry| entry.file_name().as_encoded_bytes().starts_with(b"event"))
        .map(|entry| entry.path())
        .collect();
    paths.sort();
    paths
        .iter()
        .filter_map(|path| PowerButton::open(path).ok().flatten())
        .collect()
}

/// Makes Ctrl-Alt-Del a signal to PID 1 instead of an immediate reset.
pub(crate) fn take_ctrl_alt_del() -> std::io::Result<()> {
    Ok(reboot(RebootCommand::CadOff)?)
}

/// Ends the machine. Returns only when the kernel refuses.
pub(crate) fn end(kind: ShutdownKind) -> ExitCode {
    let command = match kind {
        ShutdownKind::Halt => RebootCommand::Halt,
        ShutdownKind::PowerOff => RebootCommand::PowerOff,
        ShutdownKind::Reboot => RebootCommand::Restart,
    };
    let _ = reboot(command);
    // A machine that cannot switch itself off: the kernel panics when PID 1 returns, and
    // `panic=10` restarts it.
    ExitCode::FAILURE
}
