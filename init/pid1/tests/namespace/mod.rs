//! PID 1 in a process namespace of its own, for tests.
//!
//! Without root it uses a user namespace; with root and cgroup v2 it also uses real cgroups.

// Each test program uses a part of it.
#![allow(dead_code, reason = "shared by several test programs")]

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use keelson_control::{Client, ServiceState, ServiceStatus, Status};

/// Everything here takes well under a second on an idle machine.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

/// PID 1 under test.
pub(crate) struct Pid1 {
    pub(crate) process: Child,
    pub(crate) folder: tempfile::TempDir,
    pub(crate) cgroup: Option<PathBuf>,
}

impl Pid1 {
    /// Starts it with services: name and the rest of the definition.
    pub(crate) fn start(services: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::create_dir(path("run")).unwrap();
        fs::create_dir(path("services")).unwrap();
        for (name, text) in services {
            // Low enough for a test that may not raise its own limits.
            let limits = "limits: {nofile: 256}";
            let text = format!("name: {name}\ndescription: test\n{limits}\n{text}\n");
            fs::write(path("services").join(format!("{name}.yaml")), text).unwrap();
        }
        let cgroup = test_cgroup(folder.path());
        let mut unshare = Command::new("unshare");
        unshare.args(["--pid", "--fork", "--mount", "--mount-proc", "--kill-child"]);
        if !is_root() {
            unshare.args(["--user", "--map-root-user"]);
        }
        let script = "mount --bind \"$0\" /run && exec \"$@\"";
        unshare.args(["sh", "-c", script]).arg(path("run"));
        unshare.args([env!("CARGO_BIN_EXE_keelson-pid1"), "--namespace"]);
        unshare.arg(format!("--services={}", path("services").display()));
        unshare.arg(format!("--logs={}", path("logs").display()));
        let root = cgroup.clone().unwrap_or_default();
        unshare.arg(format!("--cgroup-root={}", root.display()));
        // Its own group, so that a Ctrl-C in the terminal of the test run is not taken for one
        // on the console.
        let process = unshare
            .process_group(0)
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        Self {
            process,
            folder,
            cgroup,
        }
    }

    pub(crate) fn connect(&self) -> Client {
        let socket = self.folder.path().join("run/keelson/control.sock");
        wait("the control socket", || Client::connect_to(&socket).ok())
    }

    pub(crate) fn log(&self, service: &str) -> String {
        let path = self
            .folder
            .path()
            .join("logs")
            .join(format!("{service}.log"));
        fs::read_to_string(path).unwrap_or_default()
    }

    /// Number of PID 1 outside its namespace.
    pub(crate) fn outer_pid(&self) -> u32 {
        let id = self.process.id();
        let children = fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap();
        children.split_whitespace().next().unwrap().parse().unwrap()
    }
}

impl Drop for Pid1 {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        if let Some(cgroup) = &self.cgroup {
            let _ = fs::write(cgroup.join("cgroup.kill"), "1");
            for _ in 0..100 {
                remove_cgroup(cgroup);
                if !cgroup.exists() {
                    break;
                }
                std::thread::sleep(Duration::from_millis(20));
            }
        }
    }
}

fn remove_cgroup(group: &Path) {
    for entry in fs::read_dir(group).into_iter().flatten().flatten() {
        if entry.path().is_dir() {
            remove_cgroup(&entry.path());
        }
    }
    let _ = fs::remove_dir(group);
}

fn is_root() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    status.lines().any(|line| line.starts_with("Uid:\t0\t"))
}

/// A cgroup for this run, where the machine lets us have one; the folder's name is unique.
fn test_cgroup(folder: &Path) -> Option<PathBuf> {
    if !is_root() {
        return None;
    }
    let mounts = fs::read_to_string("/proc/mounts").unwrap();
    let root = mounts.lines().find_map(|line| {
        let fields: Vec<&str> = line.split(' ').collect();
        (fields[2] == "cgroup2").then(|| PathBuf::from(fields[1]))
    })?;
    let group = root.join(format!("keelson-test{}", folder.file_name()?.display()));
    fs::create_dir(&group).ok()?;
    group.join("cgroup.kill").exists().then_some(group)
}

pub(crate) fn wait<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + DEADLINE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "waited too long for {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

pub(crate) fn service<'a>(status: &'a Status, name: &str) -> &'a ServiceStatus {
    status
        .services
        .iter()
        .find(|service| service.name == name)
        .unwrap()
}

pub(crate) fn wait_for_state(
    client: &mut Client,
    name: &str,
    state: ServiceState,
) -> ServiceStatus {
    wait(&format!("{name} to be {state:?}"), || {
        let status = client.status().unwrap();
        Some(service(&status, name).clone()).filter(|service| service.state == state)
    })
}
