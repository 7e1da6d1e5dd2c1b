//! The report of a whole node.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use keelson_workload::{Memory, Mount, Report};

use crate::processes::{self, kib};
use crate::secrets;

/// Where the pod sees the node's root.
const HOST: &str = "/host";

/// Names under which shells and programs that contain one are installed.
const SHELLS: [&str; 14] = [
    "ash", "bash", "busybox", "csh", "dash", "fish", "ksh", "mksh", "nsh", "rbash", "sh", "tcsh",
    "toybox", "zsh",
];

pub(crate) fn report(users: &[&str]) -> io::Result<Report> {
    let host = Path::new(HOST);
    let folders = [host.join("run/keelson/secrets"), host.join("system/state")];
    let secrets = secrets::files(&[&folders[0], &folders[1]])?;
    let readers = users
        .iter()
        .map(|user| secrets::reader(user, &secrets))
        .collect::<io::Result<_>>()?;
    let mut shells = Vec::new();
    find_shells(host, fs::metadata(host)?.dev(), &mut shells)?;
    Ok(Report {
        processes: processes::all()?,
        mounts: mounts(&fs::read_to_string("/proc/1/mountinfo")?),
        memory: memory(&fs::read_to_string("/proc/meminfo")?),
        root_write_error: File::create(host.join("written-by-a-test"))
            .err()
            .map(|error| error.kind().to_string()),
        shells,
        secrets,
        readers,
    })
}

/// Looks through one file system, without the mounts on it.
fn find_shells(folder: &Path, device: u64, found: &mut Vec<String>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let path = entry.path();
        let metadata = fs::symlink_metadata(&path)?;
        if metadata.dev() != device {
            continue;
        }
        let name = entry.file_name();
        let named = name.to_str().is_some_and(|name| SHELLS.contains(&name));
        if metadata.is_dir() {
            find_shells(&path, device, found)?;
        } else if named || (metadata.mode() & 0o111 != 0 && is_script(&path)) {
            found.push(path.to_string_lossy().into_owned());
        }
    }
    Ok(())
}

fn is_script(path: &Path) -> bool {
    let mut start = [0; 2];
    File::open(path)
        .and_then(|mut file| file.read_exact(&mut start))
        .is_ok()
        && start == *b"#!"
}

/// Parses mountinfo: fixed fields, optional ones, a dash, then type, source and options.
fn mounts(text: &str) -> Vec<Mount> {
    text.lines()
        .filter_map(|line| {
            let (before, after) = line.split_once(" - ")?;
            let before: Vec<&str> = before.split(' ').collect();
            let mut after = after.split(' ');
            let (kind, source) = (after.next()?, after.next()?);
            let options = before.get(5)?.split(',').chain(after.next()?.split(','));
            Some(Mount {
                place: (*before.get(4)?).to_owned(),
                kind: kind.to_owned(),
                source: source.to_owned(),
                options: options.map(str::to_owned).collect(),
            })
        })
        .collect()
}

fn memory(text: &str) -> Memory {
    Memory {
        total_kib: kib(text, "MemTotal"),
        free_kib: kib(text, "MemFree"),
        available_kib: kib(text, "MemAvailable"),
        cache_kib: kib(text, "Buffers") + kib(text, "Cached") + kib(text, "SReclaimable"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_are_parsed() {
        let text = "25 1 254:0 / / ro,relatime shared:1 - erofs /dev/dm-0 ro,user_xattr\n\
                    31 25 8:11 / /var rw,nodev - ext4 /dev/vda11 rw\n";
        let mounts = mounts(text);
        assert_eq!(mounts.len(), 2);
        assert_eq!(
            (mounts[0].place.as_str(), mounts[0].kind.as_str()),
            ("/", "erofs")
        );
        assert_eq!(mounts[0].options[0], "ro");
        assert_eq!(mounts[1].source, "/dev/vda11");
    }

    #[test]
    fn memory_is_parsed() {
        let text = "MemTotal: 2000 kB\nMemFree: 500 kB\nMemAvailable: 900 kB\nBuffers: 10 kB\n\
                    Cached: 300 kB\nSReclaimable: 90 kB\n";
        assert_eq!(memory(text).used_kib(), 1100);
    }

    #[test]
    fn shells_are_found_by_name_and_by_content() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        for (name, content, mode) in [
            ("bash", "", 0o644),
            ("tool", "#!/bin/x", 0o755),
            ("data", "#!/bin/x", 0o644),
        ] {
            let path = folder.path().join(name);
            fs::write(&path, content).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        }
        let mut found = Vec::new();
        find_shells(
            folder.path(),
            fs::metadata(folder.path()).unwrap().dev(),
            &mut found,
        )
        .unwrap();
        found.sort();
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found[0].ends_with("bash") && found[1].ends_with("tool"));
    }
}
