//! The service definitions and templates of the image: parsed by the real parsers, expanded with
//! the facts a node has, and held against the image's users.

#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests: without the repository's files the test has to fail"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use keelson_service::{
    Accounts, Liveness, Readiness, ServiceDefinition, expand, fact_names, parse,
};

fn tree() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../rootfs/tree")
}

fn services() -> Vec<ServiceDefinition> {
    let mut services = Vec::new();
    for entry in std::fs::read_dir(tree().join("usr/share/keelson/services")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let text = std::fs::read_to_string(&path).unwrap();
        services.push(parse(&name, &text).unwrap_or_else(|error| panic!("{name}: {error:?}")));
    }
    services.sort_by(|a, b| a.name.as_str().cmp(b.name.as_str()));
    services
}

fn service(name: &str) -> ServiceDefinition {
    services()
        .into_iter()
        .find(|service| service.name.as_str() == name)
        .unwrap()
}

/// What machined sets with `config`, and netd with `network`.
const FACTS: [&str; 13] = [
    "api-service-ip",
    "cluster-dns",
    "cluster-domain",
    "cluster-name",
    "datastore",
    "datastore-ca",
    "datastore-endpoint",
    "datastore-pair",
    "machine-id",
    "node-ip",
    "node-name",
    "pod-cidr",
    "service-cidr",
];

fn facts() -> BTreeMap<String, String> {
    FACTS
        .map(|name| (name.to_owned(), format!("<{name}>")))
        .into()
}

#[test]
fn every_service_of_the_node_is_defined() {
    let names: Vec<_> = services().into_iter().map(|s| s.name.to_string()).collect();
    let expected = [
        "apid",
        "clusterd",
        "containerd",
        "etcd",
        "images",
        "kine",
        "kube-apiserver",
        "kube-controller-manager",
        "kube-proxy",
        "kube-scheduler",
        "kubelet",
        "machined",
        "netd",
        "storage",
    ];
    assert_eq!(names, expected);
}

#[test]
fn commands_refer_to_known_facts_only() {
    let facts = facts();
    for service in services() {
        let mut texts = service.command.clone();
        texts.extend(service.environment.values().cloned());
        if let Some(Readiness::Exec(exec)) = &service.ready {
            texts.extend(exec.command.clone());
        }
        if let Some(Liveness::Exec { command, .. }) = &service.liveness {
            texts.extend(command.clone());
        }
        for text in texts {
            expand(&text, &facts).unwrap_or_else(|error| panic!("{}: {error}", service.name));
        }
    }
}

#[test]
fn every_user_exists_and_only_those_that_must_are_root() {
    let accounts = Accounts::read(&tree()).unwrap();
    assert_eq!(accounts.user("kubelet"), None, "kubelet would not start");
    let mut roots = BTreeSet::new();
    let mut users = BTreeSet::new();
    for service in services() {
        match &service.user {
            None => {
                roots.insert(service.name.to_string());
            }
            Some(user) => {
                assert_ne!(accounts.user(user).unwrap().uid, 0);
                assert_ne!(accounts.group(service.group.as_ref().unwrap()).unwrap(), 0);
                assert!(service.no_new_privileges, "{}", service.name);
                assert!(users.insert(user.clone()), "two services run as {user}");
            }
        }
        for directory in &service.directories {
            if let Some(owner) = &directory.owner {
                assert!(accounts.user(owner).is_some(), "{owner}");
            }
        }
        if let Some(Readiness::Unix {
            owner: Some(owner), ..
        }) = &service.ready
        {
            assert!(accounts.user(owner).is_some(), "{owner}");
        }
    }
    let expected = ["containerd", "images", "kubelet", "machined", "storage"];
    assert_eq!(roots, expected.map(str::to_owned).into());
}

#[test]
fn capabilities_are_the_ones_the_work_needs() {
    let with: BTreeMap<_, _> = services()
        .into_iter()
        .filter(|service| service.user.is_some())
        .filter_map(|service| {
            let names: Vec<_> = service
                .capabilities?
                .iter()
                .map(ToString::to_string)
                .collect();
            Some((service.name.to_string(), names.join(" ")))
        })
        .collect();
    let expected = [
        ("kube-proxy", "NET_ADMIN"),
        ("netd", "NET_ADMIN NET_RAW NET_BIND_SERVICE SYS_TIME"),
    ];
    let expected = expected.map(|(name, list)| (name.to_owned(), list.to_owned()));
    assert_eq!(with, expected.into());
}

#[test]
fn needs_name_services_and_conditions_that_exist() {
    let services = services();
    let names: BTreeSet<_> = services
        .iter()
        .map(|service| service.name.as_str())
        .collect();
    let conditions: BTreeSet<_> = services
        .iter()
        .flat_map(|service| service.provides.iter().map(|name| name.as_str()))
        .collect();
    for service in &services {
        for need in &service.needs.services {
            assert!(
                names.contains(need.as_str()),
                "{} needs {need}",
                service.name
            );
        }
        for need in &service.needs.conditions {
            assert!(
                conditions.contains(need.as_str()),
                "{} needs {need}",
                service.name
            );
        }
    }
}

#[test]
fn memory_runs_out_for_helpers_before_the_control_plane() {
    let control_plane = [
        "etcd",
        "kine",
        "kube-apiserver",
        "kube-controller-manager",
        "kube-scheduler",
        "storage",
    ];
    for service in services() {
        let expected = if control_plane.contains(&service.name.as_str()) {
            -999
        } else {
            -998
        };
        assert_eq!(service.oom_score_adj, expected, "{}", service.name);
    }
}

#[test]
fn containerd_leaves_its_shims_alone_and_they_have_room() {
    let containerd = service("containerd");
    assert!(!containerd.stop.kill_cgroup);
    // A limit of containerd's own group is none of theirs: they are in another.
    let config = template("containerd.toml");
    assert!(config.contains("ShimCgroup = \"/keelson/shims\""));
}

#[test]
fn secrets_are_named_only_by_their_reader() {
    for service in services() {
        let Some(user) = &service.user else { continue };
        for argument in &service.command {
            if let Some((_, rest)) = argument.split_once("/run/keelson/secrets/") {
                let (reader, _) = rest.split_once('/').unwrap();
                assert_eq!(reader, user, "{}: {argument}", service.name);
            }
        }
    }
}

#[test]
fn templates_refer_to_known_facts_only() {
    let own: BTreeMap<&str, &[&str]> = BTreeMap::from([
        (
            "admin.kubeconfig",
            &[
                "cluster-ca-base64",
                "admin-certificate-base64",
                "admin-key-base64",
            ][..],
        ),
        ("component.kubeconfig", &["component", "component-pair"][..]),
        ("encryption.yaml", &["encryption-key"][..]),
        ("hosts", &["own-address"][..]),
        ("registry-hosts.toml", &["mirror-endpoint"][..]),
        ("registry-hosts-skip-verify.toml", &["mirror-endpoint"][..]),
    ]);
    for entry in std::fs::read_dir(tree().join("usr/share/keelson/templates")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let text = template(&name);
        let own = own.get(name.as_str()).copied().unwrap_or_default();
        for fact in fact_names(&text).unwrap() {
            assert!(
                FACTS.contains(&fact) || own.contains(&fact),
                "{name}: {fact}"
            );
        }
    }
}

/// kubelet writes its own score every five minutes, containerd at its start.
#[test]
fn programs_that_set_their_own_score_set_the_same() {
    for (file, line) in [
        ("kubelet.yaml", "oomScoreAdj: -998"),
        ("kube-proxy.yaml", "oomScoreAdj: -998"),
        ("containerd.toml", "oom_score = -998"),
    ] {
        assert!(template(file).lines().any(|l| l == line), "{file}");
    }
}

fn template(name: &str) -> String {
    std::fs::read_to_string(tree().join("usr/share/keelson/templates").join(name)).unwrap()
}
