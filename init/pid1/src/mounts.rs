//! File systems that a node needs besides its disks, and the way back from all mounts.

use std::ffi::CString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags};
use thiserror::Error;

/// One mount of the table.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mount {
    kind: &'static str,
    target: &'static str,
    flags: MountFlags,
    data: &'static str,
    /// Whether the node works without it.
    optional: bool,
    /// Whether the folder is to be made first.
    make: bool,
}

const NOSUID_NODEV: MountFlags = MountFlags::NOSUID.union(MountFlags::NODEV);
const NOTHING: MountFlags = NOSUID_NODEV.union(MountFlags::NOEXEC);

/// In the order in which they are made. Stage 1 has made the first four and moved them here.
const TABLE: [Mount; 13] = [
    Mount {
        kind: "proc",
        target: "/proc",
        flags: NOTHING,
        data: "",
        optional: false,
        make: false,
    },
    Mount {
        kind: "sysfs",
        target: "/sys",
        flags: NOTHING,
        data: "",
        optional: false,
        make: false,
    },
    Mount {
        kind: "devtmpfs",
        target: "/dev",
        flags: MountFlags::NOSUID,
        data: "mode=0755",
        optional: false,
        make: false,
    },
    // With exec: runc runs from there.
    Mount {
        kind: "tmpfs",
        target: "/run",
        flags: NOSUID_NODEV,
        data: "mode=0755,size=25%",
        optional: false,
        make: false,
    },
    Mount {
        kind: "tmpfs",
        target: "/tmp",
        flags: NOSUID_NODEV,
        data: "mode=1777,size=64m",
        optional: false,
        make: false,
    },
    Mount {
        kind: "devpts",
        target: "/dev/pts",
        flags: MountFlags::NOSUID.union(MountFlags::NOEXEC),
        data: "ptmxmode=0666,mode=0620,gid=5",
        optional: false,
        make: true,
    },
    // Pods that share the host's IPC use both.
    Mount {
        kind: "tmpfs",
        target: "/dev/shm",
        flags: NOSUID_NODEV,
        data: "mode=1777",
        optional: false,
        make: true,
    },
    Mount {
        kind: "mqueue",
        target: "/dev/mqueue",
        flags: NOTHING,
        data: "",
        optional: false,
        make: true,
    },
    // nsdelegate keeps namespaces apart; memory_recursiveprot makes memory.low on a parent count.
    Mount {
        kind: "cgroup2",
        target: "/sys/fs/cgroup",
        flags: NOTHING,
        data: "nsdelegate,memory_recursiveprot",
        optional: false,
        make: false,
    },
    Mount {
        kind: "bpf",
        target: "/sys/fs/bpf",
        flags: NOTHING,
        data: "mode=0700",
        optional: true,
        make: false,
    },
    Mount {
        kind: "securityfs",
        target: "/sys/kernel/security",
        flags: NOTHING,
        data: "",
        optional: true,
        make: false,
    },
    Mount {
        kind: "efivarfs",
        target: "/sys/firmware/efi/efivars",
        flags: NOTHING.union(MountFlags::RDONLY),
        data: "",
        optional: true,
        make: false,
    },
    Mount {
        kind: "hugetlbfs",
        target: "/dev/hugepages",
        flags: NOSUID_NODEV,
        data: "mode=1770",
        optional: true,
        make: true,
    },
];

/// A mount that could not be made.
#[derive(Debug, Error)]
#[error("cannot mount {kind} on {target}")]
pub(crate) struct MountError {
    kind: &'static str,
    target: &'static str,
    source: io::Error,
}

/// Makes what is missing of the table, then lets all mounts be seen by mount namespaces made
/// later (pods with propagated volumes need that).
pub(crate) fn mount_all() -> Vec<MountError> {
    let mut errors: Vec<MountError> = TABLE.iter().filter_map(|mount| make(mount).err()).collect();
    let shared = MountPropagationFlags::SHARED | MountPropagationFlags::REC;
    if let Err(error) = rustix::mount::mount_change("/", shared) {
        errors.push(MountError {
            kind: "shared propagation",
            target: "/",
            source: error.into(),
        });
    }
    errors
}

fn make(mount: &Mount) -> Result<(), MountError> {
    let Mount {
        kind,
        target,
        flags,
        data,
        optional,
        make,
    } = *mount;
    let error = |source: io::Error| MountError {
        kind,
        target,
        source,
    };
    if is_mounted(Path::new(target)) {
        return Ok(());
    }
    if make {
        match fs::create_dir(target) {
            Err(cause) if cause.kind() != io::ErrorKind::AlreadyExists => {
                return Err(error(cause));
            }
            _ => {}
        }
    }
    let data = CString::new(data).map_err(|_| error(io::ErrorKind::InvalidInput.into()))?;
    match rustix::mount::mount(kind, target, kind, flags, data.as_c_str()) {
        Ok(()) | Err(Errno::BUSY) => Ok(()),
        // Not in this kernel, or not on this machine.
        Err(Errno::NODEV | Errno::NOENT) if optional => Ok(()),
        Err(errno) => Err(error(errno.into())),
    }
}

/// Whether something is mounted exactly there. Without /proc nothing is known and nothing is.
fn is_mounted(target: &Path) -> bool {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    mount_points(&table).iter().any(|point| point == target)
}

/// Mount points in the order they were made.
fn mount_points(mountinfo: &str) -> Vec<PathBuf> {
    mountinfo
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        .map(|field| PathBuf::from(unescape(field)))
        .collect()
}

/// Undoes the kernel's octal escapes of space, tab, newline and backslash.
fn unescape(field: &str) -> String {
    let mut text = String::with_capacity(field.len());
    let mut rest = field;
    while let Some((before, after)) = rest.split_once('\\') {
        text.push_str(before);
        let code = after
            .get(..3)
            .and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match code {
            Some(code) => {
                text.push(code.into());
                rest = &after[3..];
            }
            None => {
                text.push('\\');
                rest = after;
            }
        }
    }
    text.push_str(rest);
    text
}

/// File systems of the kernel's own: they hold no data and programs need them until the end.
const KEPT: [&str; 4] = ["/proc", "/sys", "/dev", "/run"];

/// Unmounts everything that may hold data, last made first; what cannot be unmounted is made
/// read-only. Returns what could be neither.
pub(crate) fn unmount_all() -> Vec<(PathBuf, io::Error)> {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    unmount_order(&table)
        .into_iter()
        .filter_map(|point| detach(&point).err().map(|error| (point, error)))
        .collect()
}

fn unmount_order(mountinfo: &str) -> Vec<PathBuf> {
    let mut points = mount_points(mountinfo);
    points.reverse();
    points.retain(|point| {
        point != Path::new("/")
            && !KEPT.iter().any(|kept| point == Path::new(kept))
            && !["/proc", "/sys", "/dev"]
                .iter()
                .any(|kept| point.starts_with(kept))
    });
    points
}

fn detach(point: &Path) -> io::Result<()> {
    match rustix::mount::unmount(point, UnmountFlags::NOFOLLOW) {
        // Gone with a mount above it.
        Ok(()) | Err(Errno::INVAL | Errno::NOENT) => Ok(()),
        Err(_) => {
            let flags = MountFlags::RDONLY;
            Ok(rustix::mount::mount_remount(point, flags, c"")?)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTINFO: &str = "\
22 1 254:0 / / ro,relatime shared:1 - erofs /dev/dm-0 ro
23 22 0:20 / /proc rw - proc proc rw
24 22 0:21 / /run rw - tmpfs tmpfs rw
25 22 254:8 / /var rw - ext4 /dev/vda8 rw
26 25 0:30 / /var/lib/kubelet/pods/a\\040b/v rw - tmpfs tmpfs rw
27 24 0:31 / /run/containerd/x rw - overlay overlay rw
28 22 0:32 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw
";

    #[test]
    fn the_last_mount_goes_first_and_the_kernels_stay() {
        let order = unmount_order(MOUNTINFO);
        let order: Vec<&str> = order.iter().map(|path| path.to_str().unwrap()).collect();
        assert_eq!(
            order,
            ["/run/containerd/x", "/var/lib/kubelet/pods/a b/v", "/var"]
        );
    }

    #[test]
    fn escapes_are_undone() {
        assert_eq!(unescape("a\\040b\\134c\\"), "a b\\c\\");
    }

    proptest::proptest! {
        #[test]
        fn never_panics(text: String) {
            let _ = unmount_order(&text);
        }
    }
}
