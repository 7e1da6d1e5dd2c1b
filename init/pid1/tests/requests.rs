//! What people ask of PID 1, and what it tells them of services that ended.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod namespace;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use keelson_control::{
    Client, Reply, Request, ResourceLimits, ServiceDetail, ServiceState, ShutdownKind,
};

use crate::namespace::{Pid1, service, wait, wait_for_state};

const SERVICES: [(&str, &str); 4] = [
    (
        "worker",
        "command: [/bin/sh, -c, 'echo work of ${shift}; exec sleep 1000']\n\
         needs: {services: [gate], conditions: [shift]}\n\
         resources: {memoryMax: 300000000, pidsMax: 50}",
    ),
    // The main process only, as containerd: what it started lives on.
    (
        "parent",
        "command: [/bin/sh, -c, '(sleep 1001 &); exec sleep 1000']\nstop: {killCgroup: false}",
    ),
    (
        "gate",
        "command: [/bin/sleep, '1000']\nprovides: [shift]\nprovidesFacts: [shift]",
    ),
    ("keeper", "command: [/bin/sleep, '1000']\nessential: true"),
];

/// Longest time from the end of a process to the next one. It takes milliseconds; waiting for
/// a process to hear SIGTERM would take 20 s.
const SOON: Duration = Duration::from_secs(5);

fn start() -> (Pid1, Client) {
    let pid1 = Pid1::start(&SERVICES);
    let mut client = pid1.connect();
    client
        .set(
            [("shift".to_owned(), "night".to_owned())].into(),
            &["shift"],
        )
        .unwrap();
    for name in ["worker", "parent", "gate", "keeper"] {
        wait_for_state(&mut client, name, ServiceState::Ready);
    }
    (pid1, client)
}

fn describe(client: &mut Client, name: &str) -> ServiceDetail {
    let request = Request::Describe {
        service: name.to_owned(),
    };
    match client.call(&request).unwrap() {
        Reply::Service(detail) => *detail,
        other => panic!("{other:?}"),
    }
}

fn order(client: &mut Client, request: &Request) -> Result<(), String> {
    match client.call(request).unwrap() {
        Reply::Ok => Ok(()),
        Reply::Error(reason) => Err(reason),
        other => panic!("{other:?}"),
    }
}

fn stop(client: &mut Client, name: &str) -> Result<(), String> {
    let service = name.to_owned();
    order(client, &Request::Stop { service })
}

#[test]
fn a_restart_takes_conditions_back_in_the_same_step() {
    let (_pid1, mut client) = start();
    let request = |service: &str| Request::Restart {
        service: service.to_owned(),
        clear: vec!["shift".to_owned()],
    };
    assert!(order(&mut client, &request("nobody")).is_err());
    assert_eq!(client.status().unwrap().conditions, ["shift"]);
    // In two steps the next run would begin between them.
    order(&mut client, &request("worker")).unwrap();
    let waiting = wait_for_state(&mut client, "worker", ServiceState::Waiting);
    assert_eq!(waiting.waiting_for, ["shift"]);
    client.set([].into(), &["shift"]).unwrap();
    let ready = wait_for_state(&mut client, "worker", ServiceState::Ready);
    assert_eq!(ready.restarts, 1);
}

fn start_again(client: &mut Client, name: &str) -> Result<(), String> {
    let service = name.to_owned();
    order(client, &Request::Start { service })
}

/// Number outside the namespace of a process inside it.
fn outer(pid1: &Pid1, inner: u32) -> u32 {
    let id = pid1.outer_pid();
    let children = fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap();
    let found = children.split_whitespace().find(|pid| {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let numbers = status.lines().find_map(|line| line.strip_prefix("NSpid:"));
        numbers.and_then(|numbers| numbers.split_whitespace().last())
            == Some(inner.to_string().as_str())
    });
    found.unwrap().parse().unwrap()
}

fn signal(pid: u32, name: &str) {
    let sent = Command::new("kill")
        .args(["-s", name, &pid.to_string()])
        .status()
        .unwrap();
    assert!(sent.success());
}

/// Sends a signal to a service's main process; returns the time until another one runs.
fn strike(pid1: &Pid1, client: &mut Client, name: &str, with: &str) -> Duration {
    let before = wait_for_state(client, name, ServiceState::Ready)
        .pid
        .unwrap();
    let process = outer(pid1, before);
    // Its shell has said and started what it was to, and is a sleep now.
    wait(&format!("{name}'s sleep"), || {
        let line = fs::read(format!("/proc/{process}/cmdline")).ok()?;
        line.ends_with(b"sleep\x001000\0").then_some(())
    });
    let begun = Instant::now();
    signal(process, with);
    loop {
        let status = client.status().unwrap();
        let now = service(&status, name);
        if now.state == ServiceState::Ready && now.pid != Some(before) {
            return begun.elapsed();
        }
        assert!(
            begun.elapsed() < SOON,
            "{name} is not back after {with}: {now:?}"
        );
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn killed_and_halted_services_are_back_at_once_and_the_reason_is_kept() {
    let (pid1, mut client) = start();
    for (name, with) in [
        ("worker", "KILL"),
        ("gate", "STOP"),
        ("parent", "KILL"),
        ("keeper", "STOP"),
    ] {
        let time = strike(&pid1, &mut client, name, with);
        eprintln!("SIG{with} of {name} until its next process: {time:?}");
        let detail = describe(&mut client, name);
        let end = detail.exits.last().unwrap();
        assert_eq!(end.how, "signal 9");
        let reason = (with == "STOP").then_some("stopped by SIGSTOP");
        assert_eq!(end.reason.as_deref(), reason);
        assert!(end.at_ms > end.ran_ms, "{end:?}");
        if name == "worker" {
            assert_eq!(end.last_lines, ["work of night"]);
        }
        assert_eq!(detail.status.restarts, 1);
    }
    // What a service without killCgroup left running is still there; the second run's own child may
    // still be on its way to be what it will be.
    let id = pid1.outer_pid();
    let left = || {
        let children = fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap();
        children
            .split_whitespace()
            .filter(|pid| {
                let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
                line.ends_with(b"sleep\x001001\0")
            })
            .count()
    };
    wait("the children of the first run and of the second", || {
        (left() == 2).then_some(())
    });
}

#[test]
fn a_stopped_service_is_down_until_it_is_started() {
    let (mut pid1, mut client) = start();
    stop(&mut client, "gate").unwrap();
    wait_for_state(&mut client, "gate", ServiceState::Stopped);
    wait_for_state(&mut client, "worker", ServiceState::Ready);
    // Only a new start misses it.
    client.restart("worker").unwrap();
    let waiting = wait_for_state(&mut client, "worker", ServiceState::Waiting);
    assert_eq!(waiting.waiting_for, ["gate"]);
    let end = describe(&mut client, "gate").exits.pop().unwrap();
    assert_eq!(end.reason.as_deref(), Some("stop requested"));
    assert_eq!(end.how, "signal 15");
    start_again(&mut client, "gate").unwrap();
    wait_for_state(&mut client, "worker", ServiceState::Ready);
    let reasons: Vec<_> = describe(&mut client, "worker")
        .exits
        .into_iter()
        .map(|end| end.reason.unwrap_or_default())
        .collect();
    assert_eq!(reasons, ["restart requested"]);

    let refused = stop(&mut client, "keeper").unwrap_err();
    assert!(refused.contains("restart it instead"), "{refused}");
    for result in [
        stop(&mut client, "nobody"),
        start_again(&mut client, "nobody"),
    ] {
        assert_eq!(result.unwrap_err(), "there is no service \"nobody\"");
    }

    // One that is down is no obstacle to the end.
    stop(&mut client, "worker").unwrap();
    wait_for_state(&mut client, "worker", ServiceState::Stopped);
    client.shutdown(ShutdownKind::PowerOff, "test").unwrap();
    let status = wait("the end", || pid1.process.try_wait().unwrap());
    assert!(status.success(), "{status}");
}

#[test]
fn a_description_has_it_all() {
    let (_pid1, mut client) = start();
    let detail = describe(&mut client, "worker");
    assert_eq!(detail.command[2], "echo work of night; exec sleep 1000");
    assert_eq!(
        (detail.user.as_str(), detail.group.as_str()),
        ("root", "root")
    );
    assert_eq!(detail.needs_services, ["gate"]);
    assert_eq!(detail.readiness, "its process exists");
    assert_eq!(detail.liveness, None);
    assert!(detail.restart_policy.starts_with("always"), "{detail:?}");
    assert_eq!(detail.limits.pids_max, Some(50));
    assert_eq!(detail.exits, []);
    wait("its words", || {
        let lines = describe(&mut client, "worker").status.last_lines;
        (lines == ["work of night"]).then_some(())
    });
}

#[test]
fn limits_are_changed_while_services_run_and_last() {
    let (pid1, mut client) = start();
    let limits = |service: &str, limits: ResourceLimits| Request::Limit {
        services: BTreeMap::from([(service.to_owned(), limits)]),
    };
    let wanted = ResourceLimits {
        memory_high: Some(100 << 20),
        pids_max: Some(40),
        ..ResourceLimits::default()
    };
    order(&mut client, &limits("worker", wanted.clone())).unwrap();
    let refused = order(&mut client, &limits("nobody", wanted)).unwrap_err();
    assert_eq!(refused, "limits for nobody: there are no such services");
    let light = ResourceLimits {
        cpu_weight: Some(0),
        ..ResourceLimits::default()
    };
    let refused = order(&mut client, &limits("worker", light)).unwrap_err();
    assert!(refused.contains("between 1 and 10000"), "{refused}");

    let shown = describe(&mut client, "worker").limits;
    assert_eq!(
        (shown.memory_high, shown.memory_max, shown.pids_max),
        (Some(100 << 20), Some(300_000_000), Some(40))
    );
    let Some(leaf) = pid1.cgroup.as_ref().map(|root| root.join("keelson/worker")) else {
        return;
    };
    if !leaf.join("pids.max").exists() {
        eprintln!("skipped: no controller for processes here");
        return;
    }
    wait_for_limit(&leaf, "40");
    client.restart("worker").unwrap();
    wait("its restart", || {
        (describe(&mut client, "worker").status.restarts == 1).then_some(())
    });
    wait_for_limit(&leaf, "40");
    // Naming nothing gives everything back to the definitions.
    let nothing = Request::Limit {
        services: BTreeMap::new(),
    };
    order(&mut client, &nothing).unwrap();
    wait_for_limit(&leaf, "50");
}

fn wait_for_limit(leaf: &Path, expected: &str) {
    wait(&format!("pids.max to be {expected}"), || {
        let limit = fs::read_to_string(leaf.join("pids.max")).ok()?;
        (limit.trim() == expected).then_some(())
    });
}

#[test]
fn a_death_for_want_of_memory_is_told() {
    // Only where the limit holds: what runs is a program that takes all the memory there is.
    let swap = fs::read_to_string("/proc/swaps").unwrap_or_default();
    let controllers = fs::read_to_string("/sys/fs/cgroup/cgroup.controllers").unwrap_or_default();
    if swap.lines().count() > 1 || !controllers.split_whitespace().any(|c| c == "memory") {
        eprintln!("skipped: no memory controller here, or swap");
        return;
    }
    let pid1 = Pid1::start(&[(
        "greedy",
        "command: [/usr/bin/tail, /dev/zero]\nneeds: {conditions: [limited]}\n\
         provides: [limited]\nrestart: {policy: never}\nresources: {memoryMax: 16777216}",
    )]);
    let Some(root) = &pid1.cgroup else {
        eprintln!("skipped: no cgroup for this test");
        return;
    };
    let delegated = fs::read_to_string(root.join("keelson/cgroup.subtree_control")).unwrap();
    if !delegated.split_whitespace().any(|c| c == "memory") {
        eprintln!("skipped: the memory controller is not handed down here");
        return;
    }
    let mut client = pid1.connect();
    client.set([].into(), &["limited"]).unwrap();
    wait_for_state(&mut client, "greedy", ServiceState::Exited);
    let end = describe(&mut client, "greedy").exits.pop().unwrap();
    assert_eq!(end.how, "signal 9");
    assert_eq!(end.reason.as_deref(), Some("memory ran out (oom_kill)"));
}
