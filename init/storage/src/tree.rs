//! Folders and binds that others expect on STATE and DATA.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use rustix::fs::statvfs;
use rustix::mount::mount_bind;

use crate::size::Size;
use crate::system::is_mounted;
use crate::volume::Volume;

/// Folders of /var with their modes, parents first. Services get their own from PID 1.
const FOLDERS: &[(&str, u32)] = &[
    ("cache", 0o755),
    ("lib", 0o755),
    ("lib/cni", 0o755),
    ("lib/cni/bin", 0o755),
    ("lib/cni/net.d", 0o755),
    ("lib/cni/networks", 0o755),
    ("lib/cni/results", 0o700),
    ("lib/containerd", 0o711),
    ("lib/kubelet", 0o750),
    ("log", 0o755),
    ("log/containers", 0o755),
    ("log/keelson", 0o755),
    ("log/pods", 0o755),
    ("tmp", 0o1777),
];

/// Links of /var.
const LINKS: &[(&str, &str)] = &[("run", "/run"), ("lock", "/run/lock")];

/// What is bound over what. Network plugins and configurations that a DaemonSet installs live on
/// DATA. Addresses handed to pods are forgotten at boot with the pods: /run holds them, so a power
/// cut leaks none.
const BINDS: &[(&str, &str)] = &[
    ("/var/lib/cni/bin", "/opt/cni/bin"),
    ("/var/lib/cni/net.d", "/etc/cni/net.d"),
    ("/run/cni-state/networks", "/var/lib/cni/networks"),
    ("/run/cni-state/results", "/var/lib/cni/results"),
];

/// Below this share of free space people are told.
const LOW_SPACE_PERCENT: u64 = 5;

/// Makes STATE readable by root only.
pub(crate) fn close_state() -> io::Result<()> {
    fs::set_permissions(Volume::State.target(), Permissions::from_mode(0o700))
}

/// Makes folders, links and binds. Nothing here may stop the boot: a full disk has all of them
/// from an earlier one. What did not work is returned for people.
pub(crate) fn furnish_data() -> Vec<String> {
    let mut problems = furnish(Volume::Data.target());
    for folder in ["/run/cni-state/networks", "/run/cni-state/results"] {
        if let Err(error) = fs::create_dir_all(folder) {
            problems.push(format!("cannot make {folder}: {error}"));
        }
    }
    for (source, target) in BINDS {
        if is_mounted(Path::new(target)) {
            continue;
        }
        if let Err(error) = mount_bind(*source, *target) {
            problems.push(format!("cannot bind {source} to {target}: {error}"));
        }
    }
    problems.extend(low_space(Volume::Data.target()));
    problems
}

/// Folders and links below a root.
fn furnish(root: &Path) -> Vec<String> {
    let mut problems = Vec::new();
    for (name, mode) in FOLDERS {
        let path = root.join(name);
        let made = match fs::create_dir(&path) {
            // The umask takes bits away from the mode given to mkdir.
            Ok(()) => fs::set_permissions(&path, Permissions::from_mode(*mode)),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            Err(error) => Err(error),
        };
        if let Err(error) = made {
            problems.push(format!("cannot make {}: {error}", path.display()));
        }
    }
    for (name, target) in LINKS {
        let path = root.join(name);
        match symlink(target, &path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                problems.push(format!("cannot make the link {}: {error}", path.display()));
            }
            _ => {}
        }
    }
    problems
}

fn low_space(root: &Path) -> Option<String> {
    let stat = statvfs(root).ok()?;
    let free = stat.f_bavail.saturating_mul(stat.f_frsize);
    let total = stat.f_blocks.saturating_mul(stat.f_frsize);
    if free < total / 100 * LOW_SPACE_PERCENT {
        return Some(format!(
            "DATA is almost full: {} of {} are free; remove pods, images or volumes, or use a \
             larger disk",
            Size(free),
            Size(total)
        ));
    }
    let inodes = stat.f_files;
    (inodes > 0 && stat.f_ffree < inodes / 100 * LOW_SPACE_PERCENT).then(|| {
        format!(
            "DATA can hold only {} more files of {inodes}; remove images or volumes",
            stat.f_ffree
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_are_made_once_and_kept() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(furnish(root.path()), Vec::<String>::new());
        fs::write(root.path().join("lib/kubelet/x"), "kept").unwrap();
        assert_eq!(furnish(root.path()), Vec::<String>::new());
        assert_eq!(
            fs::read(root.path().join("lib/kubelet/x")).unwrap(),
            b"kept"
        );
        let mode = fs::metadata(root.path().join("tmp"))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o7777, 0o1777);
        assert_eq!(
            fs::read_link(root.path().join("run")).unwrap(),
            Path::new("/run")
        );
    }

    #[test]
    fn what_cannot_be_made_is_named_and_the_rest_is_made() {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join("log"), "a file").unwrap();
        let problems = furnish(root.path());
        assert!(
            problems.iter().any(|p| p.contains("log/keelson")),
            "{problems:?}"
        );
        assert!(root.path().join("lib/containerd").is_dir());
    }
}
