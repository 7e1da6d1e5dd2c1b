//! Runs PID 1 in a process namespace of its own, with small programs as services.
//!
//! Without root it uses a user namespace; with root and cgroup v2 it also uses real cgroups.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use keelson_control::{Client, ServiceState, ServiceStatus, ShutdownKind, Status};

/// Everything here takes well under a second on an idle machine.
const DEADLINE: Duration = Duration::from_secs(30);

const SERVICES: [(&str, &str); 6] = [
    (
        "disk",
        "kind: oneshot\ncommand: [/bin/sh, -c, 'echo early words; exit 0']\nprovides: [storage]",
    ),
    (
        "server",
        "command: [/bin/sh, -c, 'echo E1121 serving; exec sleep 1000']\n\
         needs: {conditions: [storage]}\n\
         ready: {exec: {command: [/bin/sh, -c, 'test -e /run/flag'], intervalMs: 50}}",
    ),
    (
        "client",
        "command: [/bin/sleep, '1000']\nneeds: {services: [server]}",
    ),
    (
        "crasher",
        "command: [/bin/sh, -c, 'echo dying of ${cause}; exit 3']\n\
         needs: {conditions: [storage]}\nrestart: {maxDelaySeconds: 1}",
    ),
    (
        "missing",
        "command: [/nonexistent/program]\nneeds: {conditions: [storage]}",
    ),
    (
        "stubborn",
        // It ignores the signal, leaves an orphan that does the same, and one that ends soon.
        "command: [/bin/sh, -c, 'trap \"\" TERM; (sleep 1000 &); (sleep 0.1 &); while :; do sleep 1; done']\n\
         stop: {timeoutSeconds: 1}",
    ),
];

/// PID 1 under test.
struct Pid1 {
    process: Child,
    folder: tempfile::TempDir,
    cgroup: Option<PathBuf>,
}

impl Pid1 {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::create_dir(path("run")).unwrap();
        fs::create_dir(path("services")).unwrap();
        for (name, text) in SERVICES {
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

    fn connect(&self) -> Client {
        let socket = self.folder.path().join("run/keelson/control.sock");
        wait("the control socket", || Client::connect_to(&socket).ok())
    }

    fn log(&self, service: &str) -> String {
        let path = self
            .folder
            .path()
            .join("logs")
            .join(format!("{service}.log"));
        fs::read_to_string(path).unwrap_or_default()
    }

    /// Number of PID 1 outside its namespace.
    fn outer_pid(&self) -> u32 {
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

fn wait<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + DEADLINE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "waited too long for {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn service<'a>(status: &'a Status, name: &str) -> &'a ServiceStatus {
    status
        .services
        .iter()
        .find(|service| service.name == name)
        .unwrap()
}

fn wait_for_state(client: &mut Client, name: &str, state: ServiceState) -> ServiceStatus {
    wait(&format!("{name} to be {state:?}"), || {
        let status = client.status().unwrap();
        Some(service(&status, name).clone()).filter(|service| service.state == state)
    })
}

#[test]
fn services_are_started_watched_restarted_and_stopped() {
    let mut pid1 = Pid1::start();
    let mut client = pid1.connect();

    // A oneshot raises its condition; needs and readiness gate the rest.
    wait_for_state(&mut client, "disk", ServiceState::Exited);
    assert!(
        client
            .status()
            .unwrap()
            .conditions
            .contains(&"storage".to_owned())
    );
    wait_for_state(&mut client, "server", ServiceState::Starting);
    let waiting = wait_for_state(&mut client, "client", ServiceState::Waiting);
    assert_eq!(waiting.waiting_for, ["server"]);
    fs::write(pid1.folder.path().join("run/flag"), "").unwrap();
    wait_for_state(&mut client, "server", ServiceState::Ready);
    wait_for_state(&mut client, "client", ServiceState::Ready);

    // What cannot start says why; a fact that is missing is such a reason.
    let missing = wait_for_state(&mut client, "missing", ServiceState::CrashLoop);
    let reason = missing.last_exit.unwrap();
    assert!(
        reason.contains("/nonexistent/program: cannot execute the program"),
        "{reason}"
    );
    let crasher = wait_for_state(&mut client, "crasher", ServiceState::CrashLoop);
    let reason = crasher.last_exit.unwrap();
    assert!(reason.contains("unknown fact \"cause\""), "{reason}");
    client
        .set([("cause".to_owned(), "age".to_owned())].into(), &[])
        .unwrap();
    wait("the crasher's words", || {
        let status = client.status().unwrap();
        let crasher = service(&status, "crasher");
        let died = crasher.last_exit.as_deref() == Some("exit code 3");
        (died && crasher.last_lines.contains(&"dying of age".to_owned())).then_some(())
    });

    // A restart is another process.
    let before = wait_for_state(&mut client, "server", ServiceState::Ready).pid;
    client.restart("server").unwrap();
    wait("another process", || {
        let status = client.status().unwrap();
        let server = service(&status, "server");
        (server.state == ServiceState::Ready && server.pid != before).then_some(())
    });
    assert!(
        client
            .restart("nobody")
            .unwrap_err()
            .to_string()
            .contains("no service")
    );

    // Orphans are waited for.
    let outer = pid1.outer_pid();
    wait("all zombies to go", || {
        let children = fs::read_to_string(format!("/proc/{outer}/task/{outer}/children")).ok()?;
        let zombie = children.split_whitespace().any(|pid| {
            fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| stat.contains(") Z "))
        });
        (!zombie).then_some(())
    });

    // Logs: what came before the files existed is in them too.
    wait("the log files", || {
        let early = pid1.log("disk").contains(" I early words\n");
        let level = pid1.log("server").contains(" E E1121 serving\n");
        (early && level).then_some(())
    });

    // The end: in order, and the stubborn one is killed at its deadline.
    client.shutdown(ShutdownKind::PowerOff, "test").unwrap();
    let status = wait("the end", || pid1.process.try_wait().unwrap());
    assert!(status.success(), "{status}");
}

#[test]
fn a_subscriber_hears_what_holds_and_what_changes() {
    let pid1 = Pid1::start();
    let mut client = pid1.connect();
    wait_for_state(&mut client, "disk", ServiceState::Exited);
    let events = pid1.connect().subscribe().unwrap();
    events.set_timeout(Some(DEADLINE)).unwrap();
    client.set([].into(), &["node-ready"]).unwrap();
    let mut seen = Vec::new();
    for event in events {
        let event = serde_json::to_string(&event.unwrap()).unwrap();
        let last = event.contains("boot-report");
        seen.push(event);
        if last {
            break;
        }
    }
    let has = |part: &str| seen.iter().any(|event| event.contains(part));
    assert!(has("\"condition\":{\"name\":\"storage\",\"raised\":true}"));
    assert!(has("\"phase\":{\"name\":\"disk\""));
    assert!(has(
        "\"condition\":{\"name\":\"node-ready\",\"raised\":true}"
    ));
    let report = fs::read(pid1.folder.path().join("run/keelson/boot-report.json")).unwrap();
    let report: keelson_control::BootReport = serde_json::from_slice(&report).unwrap();
    assert!(report.phases.iter().any(|phase| phase.name == "storage"));
}
