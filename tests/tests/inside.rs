//! The node seen from inside: who runs as whom, who reads which key, what is writable, how much
//! memory it takes.

use std::collections::BTreeSet;

use anyhow::Context;
use keelson_tests::{Kubectl, report, saved};
use keelson_workload::{Process, Report};
use serde_json::json;

/// User and group of every service that does not run as root, and its capabilities.
const USERS: [(&str, u32, u64); 9] = [
    (
        "netd",
        901,
        NET_ADMIN | NET_RAW | NET_BIND_SERVICE | SYS_TIME,
    ),
    ("clusterd", 904, 0),
    ("etcd", 911, 0),
    ("kine", 912, 0),
    ("kube-apiserver", 913, 0),
    ("kube-controller-manager", 914, 0),
    ("kube-scheduler", 915, 0),
    ("kube-proxy", 916, NET_ADMIN),
    ("apid", 903, 0),
];

// Numbers from linux/capability.h.
const NET_BIND_SERVICE: u64 = 1 << 10;
const NET_ADMIN: u64 = 1 << 12;
const NET_RAW: u64 = 1 << 13;
const SYS_TIME: u64 = 1 << 25;

/// Services that are root: one writes STATE and disks, the others make containers.
const ROOT: [&str; 4] = ["containerd", "kubelet", "machined", "shims"];

/// Our own programs, by service.
const OURS: [&str; 4] = ["apid", "clusterd", "machined", "netd"];

#[test]
fn privileges_keys_root_and_shells() {
    saved::with_node("inside", |_, cluster| {
        let report = inspect(cluster)?;
        only_root_services_are_root(&report);
        services_have_their_users_and_capabilities(&report);
        keys_are_read_by_their_owners_alone(&report);
        let root = report
            .mounts
            .iter()
            .find(|mount| mount.place == "/")
            .context("no root")?;
        assert_eq!(root.kind, "erofs");
        assert!(root.options.iter().any(|option| option == "ro"), "{root:?}");
        let error = report
            .root_write_error
            .as_deref()
            .unwrap_or("it was written");
        assert!(error.contains("read-only"), "{error}");
        assert!(
            report.shells.is_empty(),
            "shells in the root: {:?}",
            report.shells
        );
        Ok(())
    });
}

#[test]
fn memory() {
    saved::with_node("memory", |node, cluster| {
        let report = inspect(cluster)?;
        let processes: Vec<_> = services(&report)
            .map(|(service, process)| {
                json!({
                    "service": service,
                    "name": process.name,
                    "pid": process.pid,
                    "rss_kib": process.rss_kib,
                    "pss_kib": process.pss_kib,
                })
            })
            .collect();
        let pid1 = report
            .processes
            .iter()
            .find(|process| process.pid == 1)
            .context("no PID 1")?;
        let ours: u64 = services(&report)
            .filter(|(service, process)| process.pid == 1 || OURS.contains(service))
            .map(|(_, process)| process.pss_kib)
            .sum();
        let used = report.memory.used_kib();
        report::record(
            &node.environment().out,
            "memory",
            json!({
                "processes": processes,
                "own_processes_pss_kib": ours,
                "pid1_pss_kib": pid1.pss_kib,
                "used_kib": used,
                "available_kib": report.memory.available_kib,
                "total_kib": report.memory.total_kib,
            }),
        )?;
        println!(
            "our own processes {ours} KiB, PID 1 {} KiB, used {used} KiB",
            pid1.pss_kib
        );
        assert!(
            pid1.pss_kib > 0 && pid1.pss_kib <= 3 << 10,
            "PID 1: {} KiB",
            pid1.pss_kib
        );
        assert!(ours <= 16 << 10, "our own processes: {ours} KiB");
        Ok(())
    });
}

fn inspect(cluster: &Kubectl) -> anyhow::Result<Report> {
    let users: Vec<String> = USERS
        .iter()
        .map(|(name, id, _)| format!("{name}:{id}:{id}"))
        .collect();
    let mut arguments = vec!["inspect"];
    arguments.extend(users.iter().map(String::as_str));
    let text = cluster.exec("inside", &arguments)?;
    serde_json::from_str(&text).context("the report cannot be read")
}

/// Processes of the node itself, with the service they belong to.
fn services(report: &Report) -> impl Iterator<Item = (&str, &Process)> {
    report
        .processes
        .iter()
        .filter(|process| !process.kernel && !process.cgroup.contains("kubepods"))
        .map(|process| {
            (
                process.cgroup.rsplit('/').next().unwrap_or_default(),
                process,
            )
        })
}

fn only_root_services_are_root(report: &Report) {
    for (service, process) in services(report) {
        if process.uid == 0 || process.gid == 0 {
            assert!(
                process.pid == 1 || ROOT.contains(&service),
                "{} (process {}, {service}) runs as {}:{}",
                process.name,
                process.pid,
                process.uid,
                process.gid
            );
        }
    }
}

fn services_have_their_users_and_capabilities(report: &Report) {
    let mut seen = BTreeSet::new();
    for (name, id, capabilities) in USERS {
        for (_, process) in services(report).filter(|(service, _)| *service == name) {
            seen.insert(name);
            assert_eq!((process.uid, process.gid), (id, id), "{name}");
            assert_eq!(
                process.effective_capabilities, capabilities,
                "{name}, effective"
            );
            assert_eq!(
                process.bounding_capabilities, capabilities,
                "{name}, bounding"
            );
            assert!(process.no_new_privileges, "{name} may gain privileges");
        }
    }
    for name in [
        "apid",
        "netd",
        "clusterd",
        "etcd",
        "kube-apiserver",
        "kube-scheduler",
        "kube-proxy",
    ] {
        assert!(seen.contains(name), "{name} does not run");
    }
}

fn keys_are_read_by_their_owners_alone(report: &Report) {
    assert!(
        report
            .secrets
            .iter()
            .any(|path| path.starts_with("/host/system/state/pki/")),
        "no keys on STATE: {:?}",
        report.secrets
    );
    for reader in &report.readers {
        let own = format!("/host/run/keelson/secrets/{}/", reader.user);
        for path in &reader.files {
            assert!(path.starts_with(&own), "{} can read {path}", reader.user);
        }
        let there = report
            .secrets
            .iter()
            .filter(|path| path.starts_with(&own))
            .count();
        assert_eq!(
            reader.files.len(),
            there,
            "{} cannot read all of its own",
            reader.user
        );
    }
    let scheduler = report
        .readers
        .iter()
        .find(|reader| reader.user == "kube-scheduler");
    assert!(
        scheduler.is_some_and(|reader| !reader.files.is_empty()),
        "the test tried nothing"
    );
}
