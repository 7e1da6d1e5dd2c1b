//! Leaves the initramfs: moves the kernel's file systems over, frees the memory, changes root.

use std::ffi::CStr;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use rustix::mount::MountFlags;
use thiserror::Error;

/// Where the root file system is mounted before it becomes the root.
pub(crate) const NEW_ROOT: &str = "/sysroot";

/// File systems of the kernel, with what stage 2 expects of them.
const MOVED: [(&str, &str, MountFlags, &CStr); 4] = [
    ("proc", "/proc", NOTHING, c""),
    ("sysfs", "/sys", NOTHING, c""),
    ("devtmpfs", "/dev", MountFlags::NOSUID, c"mode=0755"),
    // With exec: runc runs from there.
    (
        "tmpfs",
        "/run",
        MountFlags::NOSUID.union(MountFlags::NODEV),
        c"mode=0755,size=25%",
    ),
];

const NOTHING: MountFlags = MountFlags::NOSUID
    .union(MountFlags::NODEV)
    .union(MountFlags::NOEXEC);

/// Magic numbers of the file systems an initramfs can be, from `linux/magic.h`.
const RAMFS: i64 = 0x8584_58f6;
const TMPFS: i64 = 0x0102_1994;

/// Why the switch failed.
#[derive(Debug, Error)]
pub(crate) enum SwitchError {
    #[error("cannot change to the new root")]
    ChangeRoot(#[source] io::Error),
    #[error("cannot mount {kind} on {target}")]
    Mount {
        kind: &'static str,
        target: &'static str,
        source: io::Error,
    },
    #[error("cannot move {target} to the new root")]
    Move {
        target: &'static str,
        source: io::Error,
    },
    #[error("the root is not an initramfs: refusing to empty it")]
    NotInitramfs,
    #[error("cannot look at the root")]
    Root(#[source] io::Error),
}

/// Mounts what everything else needs.
pub(crate) fn mount_kernel_file_systems() -> Result<(), SwitchError> {
    for (kind, target, flags, data) in MOVED {
        let error = |source| SwitchError::Mount {
            kind,
            target,
            source,
        };
        match fs::create_dir(target) {
            Err(cause) if cause.kind() != io::ErrorKind::AlreadyExists => return Err(error(cause)),
            _ => {}
        }
        match rustix::mount::mount(kind, target, kind, flags, data) {
            // The kernel may have mounted devtmpfs itself.
            Ok(()) | Err(Errno::BUSY) => {}
            Err(cause) => return Err(error(cause.into())),
        }
    }
    Ok(())
}

/// Makes the new root the root of this process and frees the old one's memory.
pub(crate) fn switch_root() -> Result<(), SwitchError> {
    for (_, target, _, _) in MOVED {
        let to = format!("{NEW_ROOT}{target}");
        rustix::mount::mount_move(target, to.as_str()).map_err(|source| SwitchError::Move {
            target,
            source: source.into(),
        })?;
    }
    empty_initramfs()?;
    let change = || -> Result<(), Errno> {
        rustix::process::chdir(NEW_ROOT)?;
        rustix::mount::mount_move(".", "/")?;
        rustix::process::chroot(".")?;
        rustix::process::chdir("/")
    };
    change().map_err(|source| SwitchError::ChangeRoot(source.into()))
}

fn empty_initramfs() -> Result<(), SwitchError> {
    let magic = rustix::fs::statfs("/")
        .map_err(|source| SwitchError::Root(source.into()))?
        .f_type;
    #[allow(
        clippy::useless_conversion,
        reason = "the field is narrower on 32-bit machines"
    )]
    let magic = i64::from(magic);
    if ![RAMFS, TMPFS].contains(&magic) {
        return Err(SwitchError::NotInitramfs);
    }
    let device = fs::symlink_metadata("/").map_err(SwitchError::Root)?.dev();
    empty(Path::new("/"), device);
    Ok(())
}

/// Removes everything below a folder that is on the same file system. What cannot be removed only
/// keeps its memory.
fn empty(folder: &Path, device: u64) {
    let Ok(entries) = fs::read_dir(folder) else {
        return;
    };
    let paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    for path in paths {
        let Ok(metadata) = fs::symlink_metadata(&path) else {
            continue;
        };
        if metadata.dev() != device {
            continue;
        }
        if metadata.is_dir() {
            empty(&path, device);
            let _ = fs::remove_dir(&path);
        } else {
            let _ = fs::remove_file(&path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_same_file_system_is_emptied() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("a/b")).unwrap();
        fs::write(dir.path().join("a/b/file"), "x").unwrap();
        std::os::unix::fs::symlink("/etc", dir.path().join("link")).unwrap();
        let device = fs::metadata(dir.path()).unwrap().dev();
        empty(dir.path(), device + 1);
        assert!(dir.path().join("a/b/file").exists());
        empty(dir.path(), device);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
        assert!(Path::new("/etc").exists());
    }
}
