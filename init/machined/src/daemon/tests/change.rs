//! Another configuration for a node that runs: in force at once, or on trial.

use std::collections::BTreeMap;
use std::time::Duration;

use keelson_config::{MachineId, NodeConfig};

use super::lab::{Lab, Runs, config, in_lab};
use super::pid1::{LEASE, NOWHERE};
use crate::configuration::programs;
use crate::daemon::handle::RequestError;
use crate::daemon::{Mode, Plan};

pub(super) const MINUTE: Duration = Duration::from_secs(60);

/// Two configurations that differ in everything that can be in force without a reboot.
pub(super) fn old() -> String {
    config(
        "hostname: node\nnetwork: {interfaces: [{name: eth0, addresses: [192.0.2.7/24]}]}\n\
         registries: [{host: docker.io, endpoint: \"http://192.0.2.1:5000\"}]\n\
         services: {etcd: {memoryMax: 1Gi}}\ncluster: {name: old}\n",
    )
}

pub(super) fn new() -> String {
    config(
        "hostname: node\nnetwork: {interfaces: [{name: eth0, addresses: [192.0.2.8/24]}]}\n\
         registries: [{host: ghcr.io, endpoint: \"http://192.0.2.1:5000\"}]\n\
         services: {netd: {memoryMax: 64Mi}}\ncluster: {name: new}\n",
    )
}

/// Whether all of a configuration is in force, and nothing of another one.
pub(super) fn in_force(lab: &Lab, yaml: &str) -> bool {
    let settled = ["network", "pki"];
    if !settled.iter().all(|name| lab.world.borrow().has(name)) {
        return false;
    }
    let id: MachineId = lab
        .text("run/keelson/etc/machine-id")
        .trim()
        .parse()
        .unwrap();
    let wanted = NodeConfig::parse(yaml, "x").unwrap().effective(&id);
    let published = lab.text("run/keelson/node-config.yaml");
    let published = NodeConfig::parse(published, "x").unwrap();
    let folder = lab.root.path().join("run/keelson/rendered/certs.d");
    let mut mirrors: Vec<_> = std::fs::read_dir(folder)
        .into_iter()
        .flatten()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    mirrors.sort();
    let hosts: Vec<_> = wanted
        .registries
        .iter()
        .map(|m| m.host.to_string())
        .collect();
    let world = lab.world.borrow();
    let commands: BTreeMap<_, _> = lab.programs.commands(&world.facts).into_iter().collect();
    published == wanted
        && mirrors == hosts
        && world.network_in_force() == Some(&wanted.network)
        && world.facts["cluster-name"] == wanted.cluster.name.as_str()
        && world.limits == programs::limits(&wanted)
        && (world.services.is_empty() || world.services == commands)
}

pub(super) async fn until_in_force(lab: &Lab, yaml: &str) {
    lab.until(&format!("in force: {yaml}"), |lab| in_force(lab, yaml))
        .await;
}

/// A node that runs with a configuration, its services started.
pub(super) async fn running(lab: &Lab, yaml: &str) -> Runs {
    let runs = lab.start_until("pki").await;
    until_in_force(lab, yaml).await;
    lab.start_services();
    runs
}

fn not_now<T: std::fmt::Debug>(result: Result<T, RequestError>) -> String {
    match result {
        Err(RequestError::NotNow(text)) => text,
        other => panic!("{other:?}"),
    }
}

#[test]
fn it_is_shown_as_given_or_with_every_default() {
    let given = config("# mine\nhostname: node\n");
    in_lab(Some(&given), async |lab| {
        let runs = running(lab, &given).await;
        assert_eq!(runs.handle.configuration(false).await.unwrap().yaml, given);
        let full = runs.handle.configuration(true).await.unwrap().yaml;
        assert!(full.contains("podCIDR: 10.244.0.0/16"), "{full}");
        // The image's own limits, in the definition of kube-scheduler.
        assert!(full.contains("cpuWeight: 50"), "{full}");
        assert!(NodeConfig::parse(&full, "x").is_ok(), "{full}");
    });
}

#[test]
fn looking_changes_nothing() {
    in_lab(Some(&old()), async |lab| {
        let runs = running(lab, &old()).await;
        let dry = runs.handle.apply(new(), Mode::DryRun, None).await.unwrap();
        assert_eq!(dry.trial_until, None);
        assert_eq!(runs.handle.diff(new()).await.unwrap(), dry.plan);
        assert_eq!(
            dry.plan.restarts,
            ["kube-apiserver", "kube-controller-manager", "kubelet"]
        );
        assert!(!dry.plan.reboot);
        let same = runs.handle.diff(old()).await.unwrap();
        assert_eq!(same, Plan::default());
        assert_eq!(runs.handle.validate(new()).await.unwrap(), None);
        let problem = runs.handle.validate(config("hostnam: x\n")).await.unwrap();
        assert!(problem.unwrap().contains("keelson.yaml:3:1"));
        assert_eq!(lab.text("system/state/config/keelson.yaml"), old());
        assert!(in_force(lab, &old()));
        assert_eq!(lab.world.borrow().restarts, [""; 0]);
    });
}

#[test]
fn another_configuration_is_in_force_at_once_and_restarts_only_what_it_must() {
    in_lab(Some(&old()), async |lab| {
        let runs = running(lab, &old()).await;
        runs.handle.apply(new(), Mode::Keep, None).await.unwrap();
        assert_eq!(lab.text("system/state/config/keelson.yaml"), new());
        until_in_force(lab, &new()).await;
        let restarts = lab.world.borrow().restarts.clone();
        assert_eq!(
            restarts,
            [
                "netd",
                "kube-apiserver",
                "kube-controller-manager",
                "kubelet"
            ]
        );
        assert!(
            lab.text("run/keelson/etc/hosts")
                .contains("192.0.2.8 node\n")
        );
        // Nothing but the mirrors: no process starts again.
        let mirrored = new().replace("ghcr.io", "quay.io");
        runs.handle
            .apply(mirrored.clone(), Mode::Keep, None)
            .await
            .unwrap();
        until_in_force(lab, &mirrored).await;
        assert_eq!(lab.world.borrow().restarts, restarts);
    });
}

#[test]
fn a_change_is_refused_when_another_one_came_first() {
    in_lab(Some(&old()), async |lab| {
        let runs = running(lab, &old()).await;
        let handle = &runs.handle;
        let read = handle.configuration(false).await.unwrap().revision;
        assert_eq!(read, handle.configuration(true).await.unwrap().revision);
        let expected = || Some(read.clone());
        handle.apply(new(), Mode::DryRun, expected()).await.unwrap();
        handle
            .apply(new(), Mode::Try(MINUTE), expected())
            .await
            .unwrap();
        until_in_force(lab, &new()).await;
        // The one on trial is another one as well, and it is said before the trial is.
        for mode in [Mode::DryRun, Mode::Keep, Mode::Try(MINUTE)] {
            let text = not_now(handle.apply(old(), mode, expected()).await);
            let present = handle.configuration(false).await.unwrap().revision;
            assert!(
                text.contains("was changed since you read it") && text.contains(&present),
                "{text}"
            );
        }
        handle.revert().await.unwrap();
        handle.apply(new(), Mode::Keep, expected()).await.unwrap();
        assert_eq!(lab.text("system/state/config/keelson.yaml"), new());
    });
}

#[test]
fn a_host_name_waits_for_the_reboot_and_all_else_does_not() {
    in_lab(Some(&old()), async |lab| {
        let runs = running(lab, &old()).await;
        let renamed = new().replace("hostname: node", "hostname: other");
        let applied = runs
            .handle
            .apply(renamed.clone(), Mode::Keep, None)
            .await
            .unwrap();
        assert!(applied.plan.reboot);
        until_in_force(lab, &new()).await;
        assert_eq!(lab.text("run/keelson/etc/hostname"), "node\n");
        // The next change is compared with what was given, but it still takes the reboot.
        let again = runs.handle.diff(renamed.clone()).await.unwrap();
        assert!(again.changes.is_empty() && again.reboot);
        runs.kill().await;
        lab.world.borrow_mut().clear("pki");
        let runs = lab.start_until("pki").await;
        assert_eq!(lab.text("run/keelson/etc/hostname"), "node\n");
        runs.kill().await;
        lab.reboot();
        lab.start();
        until_in_force(lab, &renamed).await;
        assert_eq!(lab.text("run/keelson/etc/hostname"), "other\n");
    });
}

#[test]
fn what_cannot_be_is_refused_with_a_reason() {
    in_lab(Some(&old()), async |lab| {
        let runs = running(lab, &old()).await;
        let handle = &runs.handle;
        let fixed = old().replace("name: old", "name: old, podCIDR: 10.245.0.0/16");
        let text = not_now(handle.apply(fixed.clone(), Mode::DryRun, None).await);
        assert!(
            text.contains("cluster.podCIDR (the cluster has 10.244.0.0/16)"),
            "{text}"
        );
        not_now(handle.apply(fixed.clone(), Mode::Keep, None).await);
        let problem = handle.validate(fixed.clone()).await.unwrap().unwrap();
        assert_eq!(problem, text);
        let diff = handle.diff(fixed).await.unwrap();
        assert_eq!(diff.changes[0].effect, "reset");

        let renamed = old().replace("hostname: node", "hostname: other");
        let text = not_now(handle.apply(renamed, Mode::Try(MINUTE), None).await);
        assert!(
            text.contains("hostname is in force only after a reboot"),
            "{text}"
        );
        for seconds in [1, 100_000] {
            let mode = Mode::Try(Duration::from_secs(seconds));
            let refused = handle.apply(new(), mode, None).await;
            assert!(
                matches!(refused, Err(RequestError::Invalid(_))),
                "{refused:?}"
            );
        }
        not_now(handle.confirm().await);
        not_now(handle.revert().await);
        assert!(in_force(lab, &old()));
        assert!(!lab.exists("run/keelson/machined/trial.json"));
        assert_eq!(lab.text("system/state/config/keelson.yaml"), old());
    });
}

#[test]
fn a_trial_that_nobody_confirms_ends_also_when_it_broke_the_network() {
    let broken = new().replace("192.0.2.8", NOWHERE);
    in_lab(Some(&old()), async |lab| {
        let runs = running(lab, &old()).await;
        let tried = runs
            .handle
            .apply(broken.clone(), Mode::Try(MINUTE), None)
            .await
            .unwrap();
        assert!(tried.trial_until.is_some());
        lab.until("netd went alone", |lab| {
            lab.world.borrow().facts["node-ip"] == "198.18.0.1"
        })
        .await;
        assert_eq!(runs.handle.configuration(false).await.unwrap().yaml, broken);
        let second = not_now(runs.handle.apply(new(), Mode::Keep, None).await);
        assert!(second.contains("on trial until"), "{second}");
        until_in_force(lab, &old()).await;
        let world = lab.world.borrow();
        // The cluster did not follow the node into the nowhere.
        let of_cluster: Vec<_> = world
            .restarts
            .iter()
            .filter(|name| name.starts_with("kube") && *name != "kube-controller-manager")
            .collect();
        assert_eq!(of_cluster, [""; 0]);
        assert_eq!(world.facts["node-ip"], LEASE);
        assert!(!lab.exists("run/keelson/machined/trial.json"));
        assert!(
            world
                .messages
                .iter()
                .any(|line| line.contains("not confirmed in time"))
        );
    });
}

#[test]
fn a_trial_is_kept_when_it_is_confirmed_and_ended_when_it_is_reverted() {
    in_lab(Some(&old()), async |lab| {
        let runs = running(lab, &old()).await;
        runs.handle
            .apply(new(), Mode::Try(MINUTE), None)
            .await
            .unwrap();
        until_in_force(lab, &new()).await;
        assert_eq!(lab.text("system/state/config/keelson.yaml"), old());
        runs.handle.revert().await.unwrap();
        until_in_force(lab, &old()).await;
        not_now(runs.handle.confirm().await);

        runs.handle
            .apply(new(), Mode::Try(MINUTE), None)
            .await
            .unwrap();
        until_in_force(lab, &new()).await;
        runs.handle.confirm().await.unwrap();
        assert_eq!(lab.text("system/state/config/keelson.yaml"), new());
        tokio::time::sleep(2 * MINUTE).await;
        assert!(in_force(lab, &new()));
    });
}

#[test]
fn a_killed_daemon_goes_on_counting_and_a_reboot_ends_the_trial() {
    in_lab(Some(&old()), async |lab| {
        let runs = running(lab, &old()).await;
        runs.handle
            .apply(new(), Mode::Try(MINUTE), None)
            .await
            .unwrap();
        until_in_force(lab, &new()).await;
        runs.kill().await;
        tokio::time::sleep(MINUTE / 2).await;
        let runs = lab.start();
        let start = tokio::time::Instant::now();
        assert_eq!(runs.handle.configuration(false).await.unwrap().yaml, new());
        assert!(in_force(lab, &new()));
        until_in_force(lab, &old()).await;
        assert!(start.elapsed() < MINUTE);

        // Killed, and back only when it is over.
        runs.handle
            .apply(new(), Mode::Try(MINUTE), None)
            .await
            .unwrap();
        until_in_force(lab, &new()).await;
        runs.kill().await;
        tokio::time::sleep(2 * MINUTE).await;
        let runs = lab.start();
        until_in_force(lab, &old()).await;

        runs.handle
            .apply(new(), Mode::Try(MINUTE), None)
            .await
            .unwrap();
        until_in_force(lab, &new()).await;
        runs.kill().await;
        lab.reboot();
        lab.start();
        until_in_force(lab, &old()).await;
    });
}
