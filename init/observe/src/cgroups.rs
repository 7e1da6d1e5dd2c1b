//! Control groups, from /sys/fs/cgroup.

use std::path::{Component, Path, PathBuf};

use keelson_api::v1alpha1::{Cgroup, CgroupUsage};

use crate::pressure::stall;
use crate::root::{ReadError, Root, attribute, value};
use crate::text::printable;

/// Where the tree is.
const TREE: &str = "/sys/fs/cgroup";

/// Deepest group that is shown: a pod's container is five below the root, and what runs in it may
/// make more.
const MAX_DEPTH: usize = 16;

/// Most groups in an answer: with 300 bytes each they stay below the longest message.
const MAX_GROUPS: usize = 4096;

/// All groups with their limits and what they use, each before those below it. One that goes
/// away while it is read is left out or shown as empty.
///
/// # Errors
/// The tree cannot be listed.
pub fn cgroups(root: &Root) -> Result<Vec<Cgroup>, ReadError> {
    let tree = root.path(TREE);
    let mut found = Vec::new();
    // Those still to be read, the next one last.
    let mut waiting = vec![(tree.clone(), 0)];
    while let Some((folder, depth)) = waiting.pop() {
        match subfolders(&folder) {
            Ok(below) if depth < MAX_DEPTH => {
                waiting.extend(below.into_iter().rev().map(|path| (path, depth + 1)));
            }
            Ok(_) => {}
            Err(source) if folder == tree => {
                return Err(ReadError {
                    path: folder,
                    source,
                });
            }
            Err(_) => continue,
        }
        found.push(group(&tree, &folder));
        if found.len() == MAX_GROUPS {
            break;
        }
    }
    Ok(found)
}

/// What a group uses, by its path below /sys/fs/cgroup; `None` when there is no such group.
#[must_use]
pub fn cgroup_usage(root: &Root, path: &str) -> Option<CgroupUsage> {
    let path = Path::new(path.trim_start_matches('/'));
    if path
        .components()
        .any(|component| !matches!(component, Component::Normal(_)))
    {
        return None;
    }
    let folder = root.path(TREE).join(path);
    folder.join("cgroup.procs").exists().then(|| usage(&folder))
}

fn group(tree: &Path, folder: &Path) -> Cgroup {
    let below = folder.strip_prefix(tree).unwrap_or(folder);
    Cgroup {
        path: printable(format!("/{}", below.display()).as_bytes()),
        usage: Some(usage(folder)),
        // Here "max" is the most there is; for the others it is no limit.
        memory_low_bytes: match attribute(folder, "memory.low").as_deref() {
            Some("max") => u64::MAX,
            text => text.and_then(|text| text.parse().ok()).unwrap_or(0),
        },
        memory_high_bytes: value(folder, "memory.high").unwrap_or(0),
        memory_max_bytes: value(folder, "memory.max").unwrap_or(0),
        cpu_weight: value(folder, "cpu.weight").unwrap_or(0),
        pids_max: value(folder, "pids.max").unwrap_or(0),
    }
}

fn usage(folder: &Path) -> CgroupUsage {
    let events = attribute(folder, "memory.events").unwrap_or_default();
    let cpu = attribute(folder, "cpu.stat").unwrap_or_default();
    CgroupUsage {
        memory_bytes: value(folder, "memory.current").unwrap_or(0),
        memory_peak_bytes: value(folder, "memory.peak").unwrap_or(0),
        memory_high_events: counter(&events, "high"),
        memory_max_events: counter(&events, "max"),
        oom_kills: counter(&events, "oom_kill"),
        cpu_us: counter(&cpu, "usage_usec"),
        processes: value(folder, "pids.current").unwrap_or(0),
        memory_pressure: stall(folder, "memory.pressure").some.percent,
        cpu_pressure: stall(folder, "cpu.pressure").some.percent,
        io_pressure: stall(folder, "io.pressure").some.percent,
    }
}

/// A line `name number`.
fn counter(text: &str, name: &str) -> u64 {
    text.lines()
        .filter_map(|line| line.split_once(' '))
        .find(|(key, _)| *key == name)
        .and_then(|(_, number)| number.trim().parse().ok())
        .unwrap_or(0)
}

/// In order of their names.
fn subfolders(folder: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            found.push(entry.path());
        }
    }
    found.sort_unstable();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn plant(root: &Path, group: &str, files: &[(&str, &str)]) {
        let folder = root.join("sys/fs/cgroup").join(group);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("cgroup.procs"), "").unwrap();
        for (name, content) in files {
            fs::write(folder.join(name), content).unwrap();
        }
    }

    const ETCD: &[(&str, &str)] = &[
        ("memory.current", "45000000\n"),
        ("memory.peak", "60000000\n"),
        ("memory.low", "0\n"),
        ("memory.high", "max\n"),
        ("memory.max", "268435456\n"),
        (
            "memory.events",
            "low 0\nhigh 3\nmax 2\noom 1\noom_kill 1\noom_group_kill 0\n",
        ),
        ("cpu.stat", "usage_usec 1234567\nuser_usec 1000000\n"),
        ("cpu.weight", "100\n"),
        ("pids.current", "12\n"),
        ("pids.max", "max\n"),
        (
            "memory.pressure",
            "some avg10=2.50 avg60=0.00 avg300=0.00 total=0\n",
        ),
        (
            "cpu.pressure",
            "some avg10=0.25 avg60=0.00 avg300=0.00 total=0\n",
        ),
    ];

    #[test]
    fn the_tree_is_read_in_order() {
        let dir = tempfile::tempdir().unwrap();
        plant(dir.path(), "", &[]);
        plant(dir.path(), "keelson", &[("memory.low", "max\n")]);
        plant(dir.path(), "keelson/etcd", ETCD);
        plant(dir.path(), "kubepods", &[]);
        let found = cgroups(&Root::at(dir.path())).unwrap();
        let paths: Vec<_> = found.iter().map(|group| group.path.as_str()).collect();
        assert_eq!(paths, ["/", "/keelson", "/keelson/etcd", "/kubepods"]);
        assert_eq!(found[1].memory_low_bytes, u64::MAX);
        assert_eq!(
            found[2],
            Cgroup {
                path: "/keelson/etcd".to_owned(),
                usage: Some(CgroupUsage {
                    memory_bytes: 45_000_000,
                    memory_peak_bytes: 60_000_000,
                    memory_high_events: 3,
                    memory_max_events: 2,
                    oom_kills: 1,
                    cpu_us: 1_234_567,
                    processes: 12,
                    memory_pressure: 2.5,
                    cpu_pressure: 0.25,
                    io_pressure: 0.0,
                }),
                memory_low_bytes: 0,
                memory_high_bytes: 0,
                memory_max_bytes: 268_435_456,
                cpu_weight: 100,
                pids_max: 0,
            }
        );
    }

    #[test]
    fn one_group_is_read_by_its_path() {
        let dir = tempfile::tempdir().unwrap();
        plant(dir.path(), "keelson/etcd", ETCD);
        let root = Root::at(dir.path());
        for path in ["keelson/etcd", "/keelson/etcd"] {
            assert_eq!(cgroup_usage(&root, path).unwrap().memory_bytes, 45_000_000);
        }
        for path in [
            "keelson/kine",
            "../fs/cgroup/keelson/etcd",
            "keelson/../keelson/etcd",
        ] {
            assert_eq!(cgroup_usage(&root, path), None, "{path}");
        }
    }

    #[test]
    fn depth_and_count_are_bounded() {
        let dir = tempfile::tempdir().unwrap();
        plant(dir.path(), &"a/".repeat(40), &[]);
        assert_eq!(cgroups(&Root::at(dir.path())).unwrap().len(), MAX_DEPTH + 1);
        for number in 0..MAX_GROUPS {
            fs::create_dir(dir.path().join(format!("sys/fs/cgroup/{number}"))).unwrap();
        }
        assert_eq!(cgroups(&Root::at(dir.path())).unwrap().len(), MAX_GROUPS);
        let none = tempfile::tempdir().unwrap();
        assert!(cgroups(&Root::at(none.path())).is_err());
    }
}
