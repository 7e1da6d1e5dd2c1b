//! The cgroup tree: one leaf per service below `/keelson`, one for containerd's shims.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use keelson_service::Resources;
use keelson_sys::process::terminate;
use rustix::fs::{Mode, OFlags};

/// Where containerd's runtime puts its shims (its option ShimCgroup): they outlive a restart of
/// containerd, whose own cgroup may be killed.
const SHIMS: &str = "keelson/shims";

/// Controllers handed down where the kernel offers them; kubelet needs the first five.
const CONTROLLERS: [&str; 6] = ["cpuset", "cpu", "io", "memory", "pids", "hugetlb"];

/// The tree of this machine.
#[derive(Clone, Debug)]
pub(crate) struct Tree {
    root: PathBuf,
}

impl Tree {
    pub(crate) fn new(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
        }
    }

    /// Makes the inner groups and hands the controllers down.
    pub(crate) fn set_up(&self) -> io::Result<()> {
        let keelson = self.root.join("keelson");
        make(&keelson)?;
        delegate(&self.root)?;
        delegate(&keelson)?;
        make(&self.root.join(SHIMS))
    }

    /// Makes a service's leaf anew, sets its limits and opens it.
    ///
    /// Anew, because Linux 6.12 to at least 6.18 kills every process that is cloned into a cgroup
    /// that was ever killed (it compares the count of kills with that of the parent's cgroup). A
    /// leaf that still holds processes stays: containerd's, which is never killed, or one with a
    /// process stuck in the kernel, beside which a new one could not work anyway.
    pub(crate) fn make_leaf(&self, service: &str, resources: &Resources) -> io::Result<OwnedFd> {
        let leaf = self.leaf(service);
        match fs::remove_dir(&leaf) {
            Err(error)
                if !matches!(
                    error.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::ResourceBusy
                ) =>
            {
                return Err(error);
            }
            _ => {}
        }
        make(&leaf)?;
        set_limits(&leaf, resources);
        self.open_leaf(service)
    }

    /// Keeps so many bytes of all services together from reclaim: what a leaf keeps for itself
    /// counts only as far as its parent keeps as much. What leaves do not use of it goes to the
    /// others (memory_recursiveprot).
    pub(crate) fn protect(&self, bytes: u64) {
        // As with the limits of a leaf: without it the services run as well.
        let _ = write(&self.root.join("keelson/memory.low"), &bytes.to_string());
    }

    /// Opens the leaf of a service that runs.
    pub(crate) fn open_leaf(&self, service: &str) -> io::Result<OwnedFd> {
        let flags = OFlags::DIRECTORY | OFlags::PATH | OFlags::CLOEXEC;
        Ok(rustix::fs::open(self.leaf(service), flags, Mode::empty())?)
    }

    /// Cgroup of a service.
    pub(crate) fn leaf(&self, service: &str) -> PathBuf {
        self.root.join("keelson").join(service)
    }

    /// A cgroup named by its path below the root.
    pub(crate) fn below(&self, path: &str) -> PathBuf {
        self.root.join(path)
    }

    /// All groups below the root: everything but PID 1 and the kernel's own threads.
    pub(crate) fn everything(&self) -> io::Result<Vec<PathBuf>> {
        let mut groups = Vec::new();
        for entry in fs::read_dir(&self.root)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                groups.push(entry.path());
            }
        }
        Ok(groups)
    }
}

/// Writes limits into a cgroup that exists.
pub(crate) fn set_limits(group: &Path, resources: &Resources) {
    for (file, value) in settings(resources) {
        // A limit that cannot be set is no reason not to run: the kernel may lack the
        // controller, and a node without one limit is better than none.
        let _ = write(&group.join(file), &value);
    }
}

/// Processes of a cgroup that the kernel killed because memory ran out, since it was made.
pub(crate) fn memory_kills(group: &Path) -> u64 {
    let events = fs::read_to_string(group.join("memory.events")).unwrap_or_default();
    let count = events
        .lines()
        .find_map(|line| line.strip_prefix("oom_kill "));
    count.and_then(|text| text.parse().ok()).unwrap_or(0)
}

/// Kills everything in a cgroup and below it. A cgroup that does not exist is empty.
pub(crate) fn kill(group: &Path) -> io::Result<()> {
    absent_is_fine(write(&group.join("cgroup.kill"), "1"))
}

/// Sends SIGTERM to everything in a cgroup and below it.
pub(crate) fn terminate_all(group: &Path) -> io::Result<()> {
    let processes = match fs::read_to_string(group.join("cgroup.procs")) {
        Ok(processes) => processes,
        result => return absent_is_fine(result.map(drop)),
    };
    for pid in processes.lines().filter_map(|line| line.parse().ok()) {
        terminate(pid)?;
    }
    for entry in fs::read_dir(group)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            terminate_all(&entry.path())?;
        }
    }
    Ok(())
}

/// Whether any process lives in a cgroup or below it.
pub(crate) fn populated(group: &Path) -> io::Result<bool> {
    match fs::read_to_string(group.join("cgroup.events")) {
        Ok(events) => Ok(events.lines().any(|line| line == "populated 1")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// The file whose change tells that a cgroup became empty.
pub(crate) fn events_file(group: &Path) -> io::Result<File> {
    File::open(group.join("cgroup.events"))
}

fn settings(resources: &Resources) -> Vec<(&'static str, String)> {
    let max = |value: Option<u64>| value.map_or_else(|| "max".to_owned(), |v| v.to_string());
    vec![
        ("memory.low", resources.memory_low.unwrap_or(0).to_string()),
        ("memory.high", max(resources.memory_high)),
        ("memory.max", max(resources.memory_max)),
        ("pids.max", max(resources.pids_max.map(u64::from))),
        (
            "cpu.weight",
            resources.cpu_weight.unwrap_or(100).to_string(),
        ),
    ]
}

/// Hands down every wanted controller that is there.
fn delegate(group: &Path) -> io::Result<()> {
    let offered = fs::read_to_string(group.join("cgroup.controllers"))?;
    for controller in CONTROLLERS
        .iter()
        .filter(|name| offered.split(' ').any(|o| o.trim() == **name))
    {
        write(
            &group.join("cgroup.subtree_control"),
            &format!("+{controller}"),
        )?;
    }
    Ok(())
}

fn make(group: &Path) -> io::Result<()> {
    match fs::create_dir(group) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

/// Writes to an existing control file; never makes one.
fn write(path: &Path, value: &str) -> io::Result<()> {
    File::options()
        .write(true)
        .open(path)?
        .write_all(value.as_bytes())
}

fn absent_is_fine(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_there_is_empty_and_dead() {
        let dir = tempfile::tempdir().unwrap();
        let gone = dir.path().join("kubepods");
        kill(&gone).unwrap();
        terminate_all(&gone).unwrap();
        assert!(!populated(&gone).unwrap());
        fs::create_dir(&gone).unwrap();
        fs::write(gone.join("cgroup.events"), "populated 1\nfrozen 0\n").unwrap();
        assert!(populated(&gone).unwrap());
    }

    #[test]
    fn memory_kills_are_counted() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(memory_kills(dir.path()), 0);
        let events = "low 0\nhigh 3\nmax 9\noom 2\noom_kill 2\noom_group_kill 0\n";
        fs::write(dir.path().join("memory.events"), events).unwrap();
        assert_eq!(memory_kills(dir.path()), 2);
    }

    #[test]
    fn absent_limits_are_lifted() {
        let settings = settings(&Resources {
            memory_high: Some(7),
            ..Resources::default()
        });
        assert!(settings.contains(&("memory.high", "7".to_owned())));
        assert!(settings.contains(&("memory.max", "max".to_owned())));
    }
}
