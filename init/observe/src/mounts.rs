//! Mounted file systems.

use keelson_api::v1alpha1::Mount;

use crate::mount_table::{Entry, parse, way};
use crate::root::{ReadError, Root};
use crate::text::{clipped, printable};

/// File systems that are asked for their size. They answer from memory; a network file system or
/// a FUSE daemon that is gone would block the call for ever.
const LOCAL: [&str; 12] = [
    "btrfs", "erofs", "exfat", "ext2", "ext3", "ext4", "f2fs", "iso9660", "overlay", "tmpfs",
    "vfat", "xfs",
];

/// File systems that keep nothing, but whose mounts lie between the root and others.
const PSEUDO: [&str; 12] = [
    "bpf",
    "cgroup2",
    "debugfs",
    "devpts",
    "devtmpfs",
    "efivarfs",
    "hugetlbfs",
    "mqueue",
    "proc",
    "securityfs",
    "sysfs",
    "tracefs",
];

/// Most mounts in an answer, and the longest options of one (overlay names all its layers):
/// together they stay below the longest message of the API.
const MAX_MOUNTS: usize = 4096;
const OPTIONS: usize = 512;

/// All mounts, in the kernel's order.
///
/// # Errors
/// /proc/self/mountinfo cannot be read.
pub fn mounts(root: &Root) -> Result<Vec<Mount>, ReadError> {
    let entries = parse(&root.bytes("/proc/self/mountinfo")?);
    Ok(entries
        .iter()
        .take(MAX_MOUNTS)
        .map(|entry| mount(root, &entries, entry))
        .collect())
}

/// Whether a file system keeps its files on a disk of this machine.
pub(crate) fn on_disk(file_system: &str) -> bool {
    LOCAL.contains(&file_system) && !["overlay", "tmpfs"].contains(&file_system)
}

fn mount(root: &Root, entries: &[Entry], entry: &Entry) -> Mount {
    let size = may_be_asked(entries, entry)
        .then(|| Size::of(root, entry))
        .flatten()
        .unwrap_or_default();
    Mount {
        target: printable(entry.target.as_os_str().as_encoded_bytes()),
        source: printable(&entry.source),
        file_system: printable(entry.file_system.as_bytes()),
        options: clipped(printable(options(entry).as_bytes()), OPTIONS),
        size_bytes: size.total,
        used_bytes: size.used,
        available_bytes: size.available,
    }
}

/// Whether the path leads to this very mount, and only through file systems that cannot block.
fn may_be_asked(entries: &[Entry], entry: &Entry) -> bool {
    let way = way(entries, entry);
    let known = |kind: &str| LOCAL.contains(&kind) || PSEUDO.contains(&kind);
    way.last().is_some_and(|end| end.id == entry.id)
        && LOCAL.contains(&entry.file_system.as_str())
        && way.iter().all(|passed| known(&passed.file_system))
}

/// Those of the mount, then those of the file system that are new.
fn options(entry: &Entry) -> String {
    let mut options = entry.options.clone();
    let own: Vec<&str> = entry.options.split(',').collect();
    for option in entry.super_options.split(',') {
        // Whether one can write is said by the mount.
        if !own.contains(&option) && !["", "ro", "rw"].contains(&option) {
            options.push(',');
            options.push_str(option);
        }
    }
    options
}

#[derive(Default)]
struct Size {
    total: u64,
    used: u64,
    available: u64,
}

impl Size {
    fn of(root: &Root, entry: &Entry) -> Option<Self> {
        let answer = rustix::fs::statvfs(root.path(&entry.target)).ok()?;
        let bytes = |blocks: u64| blocks.saturating_mul(answer.f_frsize);
        Some(Self {
            total: bytes(answer.f_blocks),
            used: bytes(answer.f_blocks.saturating_sub(answer.f_bfree)),
            available: bytes(answer.f_bavail),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn only_what_cannot_block_is_asked() {
        let dir = tempfile::tempdir().unwrap();
        let table = "\
1 1 0:2 / / rw - tmpfs tmpfs rw\n\
2 1 0:3 / /data rw,noatime - ext4 /dev/vda9 rw,noatime,discard\n\
3 1 0:4 / /share rw - nfs4 server:/ rw\n\
4 3 0:5 / /share/local rw - tmpfs tmpfs rw\n\
5 1 0:6 / /proc rw - proc proc rw\n\
6 1 0:7 / /fuse rw - fuse.sshfs x@y rw\n\
7 1 0:8 / /with\\040space rw - vfat /dev/vda1 rw\n\
8 1 0:9 / /covered rw - ext4 /dev/vdb rw\n\
9 8 0:10 / /covered rw - tmpfs tmpfs rw\n";
        fs::create_dir_all(dir.path().join("proc/self")).unwrap();
        fs::write(dir.path().join("proc/self/mountinfo"), table).unwrap();
        // All exist, so a size of 0 means that nobody asked.
        for target in ["data", "share/local", "fuse", "with space", "covered"] {
            fs::create_dir_all(dir.path().join(target)).unwrap();
        }
        let found = mounts(&Root::at(dir.path())).unwrap();
        let sized: Vec<_> = found
            .iter()
            .filter(|mount| mount.size_bytes > 0)
            .map(|mount| mount.target.as_str())
            .collect();
        assert_eq!(sized, ["/", "/data", "/with space", "/covered"]);
        assert_eq!(found.len(), 9);
        assert_eq!((found[7].size_bytes, found[8].size_bytes > 0), (0, true));
        assert_eq!(found[1].options, "rw,noatime,discard");
        assert_eq!(found[2].source, "server:/");
        assert!(found[1].used_bytes <= found[1].size_bytes);
    }

    #[test]
    fn options_of_many_layers_are_cut() {
        let long = "lowerdir=/a:".repeat(100);
        let line = format!("1 1 0:2 / / rw - overlay overlay rw,{long}\n");
        let entries = parse(line.as_bytes());
        let mount = mount(&Root::at("/nowhere"), &entries, &entries[0]);
        assert_eq!(mount.options.len(), OPTIONS + "…".len());
        assert_eq!(mount.size_bytes, 0);
    }

    #[test]
    fn this_machine_has_a_root() {
        let found = mounts(&Root::machine()).unwrap();
        assert!(found.iter().any(|mount| mount.target == "/"));
    }
}
