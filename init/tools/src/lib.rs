//! The small programs that kubelet executes by name: `mount`, `umount`, `blkid`, `losetup`,
//! `blockdev`.
//!
//! They understand what kubelet 1.37 passes (its k8s.io/mount-utils and pkg/volume) and what a
//! CSI driver on the host might add; names, exit codes and the texts that kubelet looks for are
//! those of util-linux. Anything else is refused with a reason, never guessed at.

#![forbid(unsafe_code)]

mod blkid;
mod blockdev;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod losetup;
mod mount;
mod options;
mod signature;
mod umount;

use std::ffi::OsString;
use std::process::ExitCode;

/// One of the programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tool {
    /// Says what is on a block device.
    Blkid,
    /// Asks or tells a block device.
    Blockdev,
    /// Makes block devices of files.
    Losetup,
    /// Mounts.
    Mount,
    /// Unmounts.
    Umount,
}

impl Tool {
    /// The program that is called `name`.
    pub fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "blkid" => Self::Blkid,
            "blockdev" => Self::Blockdev,
            "losetup" => Self::Losetup,
            "mount" => Self::Mount,
            "umount" => Self::Umount,
            _ => return None,
        })
    }
}

/// Runs a program with its arguments (without its name).
pub fn run(tool: Tool, args: impl Iterator<Item = OsString>) -> ExitCode {
    let args: Vec<OsString> = args.collect();
    match tool {
        Tool::Blkid => blkid::run(&args),
        Tool::Blockdev => blockdev::run(&args),
        Tool::Losetup => losetup::run(&args),
        Tool::Mount => mount::run(&args),
        Tool::Umount => umount::run(&args),
    }
}

/// Wrong arguments, for all programs.
const EXIT_USAGE: u8 = 1;

/// A command line of a test.
#[cfg(test)]
fn words(line: &str) -> Vec<OsString> {
    line.split_whitespace().map(OsString::from).collect()
}
