//! The service definitions of the image: each is readable, can start, and names users that exist.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::{Path, PathBuf};

use keelson_service::{Accounts, Kind, Readiness, ServiceDefinition};

fn tree() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../rootfs/tree")
}

fn definitions() -> Vec<ServiceDefinition> {
    let folder = tree().join("usr/share/keelson/services");
    fs::read_dir(folder)
        .unwrap()
        .map(|entry| {
            let entry = entry.unwrap();
            let name = entry.file_name().into_string().unwrap();
            let text = fs::read_to_string(entry.path()).unwrap();
            keelson_service::parse(&name, &text)
                .unwrap_or_else(|error| panic!("{}", keelson_control::chain(&error)))
        })
        .collect()
}

#[test]
fn every_service_of_the_image_can_start() {
    let definitions = definitions();
    assert_eq!(
        keelson_supervisor::problems(&definitions),
        Vec::<String>::new()
    );
    let provided = |name: &str| {
        definitions
            .iter()
            .flat_map(|d| &d.provides)
            .any(|condition| condition.as_str() == name)
    };
    // What PID 1 itself acts upon.
    for condition in ["storage", "config", "node-ready"] {
        assert!(provided(condition), "nobody provides {condition}");
    }
    let storage = definitions
        .iter()
        .find(|d| d.name.as_str() == "storage")
        .unwrap();
    assert_eq!(storage.kind, Kind::Oneshot);
}

#[test]
fn every_user_exists_and_none_is_called_kubelet() {
    let accounts = Accounts::read(&tree()).unwrap();
    // kubelet would look for its id ranges with a program that is not there, and end.
    assert_eq!(accounts.user("kubelet"), None);
    for definition in definitions() {
        let name = &definition.name;
        let owner = match definition.readiness() {
            Readiness::Unix { owner, .. } => owner,
            _ => None,
        };
        let owners = definition
            .directories
            .iter()
            .filter_map(|directory| directory.owner.clone());
        for user in definition.user.iter().cloned().chain(owner).chain(owners) {
            assert!(
                accounts.user(&user).is_some(),
                "{name}: user {user} does not exist"
            );
        }
        let groups = definition
            .group
            .iter()
            .chain(&definition.supplementary_groups);
        for group in groups {
            assert!(
                accounts.group(group).is_some(),
                "{name}: group {group} does not exist"
            );
        }
    }
}

#[test]
fn control_plane_users_have_groups_of_their_own_and_no_capabilities() {
    let accounts = Accounts::read(&tree()).unwrap();
    let names = [
        "etcd",
        "kine",
        "kube-apiserver",
        "kube-controller-manager",
        "kube-scheduler",
    ];
    let mut seen = Vec::new();
    for name in names {
        let definition = definitions()
            .into_iter()
            .find(|d| d.name.as_str() == name)
            .unwrap();
        let user = accounts.user(definition.user.as_deref().unwrap()).unwrap();
        assert!(
            user.uid != 0 && !seen.contains(&(user.uid, user.gid)),
            "{name}"
        );
        seen.push((user.uid, user.gid));
        assert!(
            definition.capabilities.unwrap_or_default().is_empty(),
            "{name}"
        );
        assert!(definition.no_new_privileges, "{name}");
    }
}

/// Our own daemons report to PID 1 once they know how (`watchdogSeconds`).
const OURS: [&str; 4] = ["apid", "clusterd", "machined", "netd"];

#[test]
fn every_daemon_of_others_is_checked_while_it_runs() {
    for definition in definitions() {
        let checked = definition.liveness.is_some() || definition.watchdog_seconds.is_some();
        let ours = OURS.contains(&definition.name.as_str());
        assert!(
            checked || ours || definition.kind == Kind::Oneshot,
            "{}",
            definition.name
        );
    }
}

#[test]
fn nothing_may_take_all_process_numbers_and_our_own_programs_not_all_memory() {
    for definition in definitions() {
        let name = definition.name.as_str();
        let limits = &definition.resources;
        assert!(limits.pids_max.is_some(), "{name}");
        assert_eq!(limits.memory_max.is_some(), OURS.contains(&name), "{name}");
        // A limit that is too tight for the cluster's size would end it again and again.
        assert!(
            limits.memory_high.is_none() || OURS.contains(&name),
            "{name}"
        );
    }
}

/// kubelet is told to leave this much to the node (systemReserved), and pods are held to the rest.
#[test]
fn what_services_keep_from_reclaim_fits_what_pods_leave() {
    let template = tree().join("usr/share/keelson/templates/kubelet.yaml");
    let template = fs::read_to_string(template).unwrap();
    assert!(template.contains("systemReserved:\n  memory: 512Mi\n"));
    let kept: u64 = definitions()
        .iter()
        // One of two datastores.
        .filter(|definition| definition.name.as_str() != "kine")
        .filter_map(|definition| definition.resources.memory_low)
        .sum();
    assert!(kept <= 512 << 20, "{} MiB", kept >> 20);
}
