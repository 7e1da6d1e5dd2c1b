//! The saved machine: a Ready node with the suites' pods, booted once per image and kept in the
//! cache. A test that does not test booting starts from it in seconds.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use keelson_control::BootReport;
use keelson_qemu::{DiskFormat, Start, create_overlay, fingerprint};
use serde_json::json;
use sha2::{Digest, Sha256};

use crate::node::READY;
use crate::{Boot, Environment, Keelsonctl, Kubectl, Node, report, workload};

/// A sandbox and a container cost 15 s under emulation, and there are a handful of pods.
const PODS: Duration = Duration::from_secs(300);

/// The boot that made a saved machine.
#[derive(Debug)]
pub struct Saved {
    folder: PathBuf,
    /// The node's own report of that boot.
    pub report: BootReport,
}

/// Runs a test on a machine that starts from the saved one.
pub fn with_node(name: &str, test: impl FnOnce(&mut Node, &Kubectl) -> anyhow::Result<()>) {
    with_operated_node(name, |node, cluster, _| test(node, cluster));
}

/// The same with the node API.
pub fn with_operated_node(
    name: &str,
    test: impl FnOnce(&mut Node, &Kubectl, &Keelsonctl) -> anyhow::Result<()>,
) {
    with_operated_boot(name, &Boot::default(), test);
}

/// The same on another machine than the usual one: its configuration, its disk's size and its clock
/// are the saved one's all the same.
pub fn with_operated_boot(
    name: &str,
    boot: &Boot,
    test: impl FnOnce(&mut Node, &Kubectl, &Keelsonctl) -> anyhow::Result<()>,
) {
    let (mut node, cluster, operator) = match start(name, boot) {
        Ok(started) => started,
        Err(error) => panic!("{error:#}"),
    };
    let result = test(&mut node, &cluster, &operator);
    node.pass(result);
}

/// Starts a machine from the saved one, which is made when there is none for this image.
fn start(name: &str, boot: &Boot) -> anyhow::Result<(Node, Kubectl, Keelsonctl)> {
    let (saved, environment) = ensure()?;
    let mut node = Node::empty(environment, name)?;
    let tools = &node.environment().tools;
    for (from, to) in [
        ("disk.qcow2", node.folder().disk()),
        ("variables.qcow2", node.folder().variables()),
    ] {
        create_overlay(
            tools,
            &saved.folder.join(from),
            DiskFormat::Qcow2,
            &to,
            None,
        )?;
    }
    node.launch(boot, Start::Restore)?
        .restore(&saved.folder.join("memory"))?;
    let kubeconfig = fs::read_to_string(saved.folder.join("kubeconfig"))?;
    let cluster = node.cluster_of(&kubeconfig)?;
    let context = serde_json::from_slice(&fs::read(saved.folder.join("context.json"))?)?;
    let operator = node.keelsonctl_of(&context)?;
    crate::eventually("an answer of the restored API server", READY, || {
        Ok(cluster.run(&["get", "--raw", "/readyz"])?)
    })?;
    Ok((node, cluster, operator))
}

/// Finds the saved machine for this image, or makes it.
pub fn ensure() -> anyhow::Result<(Saved, Environment)> {
    let environment = Environment::prepare()?;
    let (_, image) = environment.base()?;
    let archive = environment.cache.join("workload.tar");
    workload::write_archive(&archive)?;
    let mut key = Sha256::new();
    // Raised when this module makes another machine from the same inputs.
    key.update("2");
    key.update(&image);
    key.update(fingerprint(&archive)?);
    let key: String = key
        .finalize()
        .iter()
        .take(8)
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let name = format!("ready-{key}");
    let folder = environment.cache.join(&name);
    let environment = if folder.is_dir() {
        environment
    } else {
        environment.remove_others("ready-", &name)?;
        make(environment, &folder)?
    };
    let report = serde_json::from_slice(&fs::read(folder.join("boot-report.json"))?)
        .context("the saved machine's boot report is damaged")?;
    Ok((Saved { folder, report }, environment))
}

/// Boots, starts the suites' pods, saves.
fn make(environment: Environment, folder: &Path) -> anyhow::Result<Environment> {
    let boot = Boot::default();
    let mut node = Node::create(environment, "saved", &boot)?;
    node.start(&boot)?;
    let made = fill(&mut node, folder);
    made.map_err(|error| node.explain(error))?;
    Ok(node.into_environment())
}

/// The folder appears whole or not at all.
fn fill(node: &mut Node, folder: &Path) -> anyhow::Result<()> {
    let vm = node.vm()?;
    vm.wait_for_condition("node-ready", READY)?;
    let wall = vm.launched().elapsed();
    let cluster = node.ready()?;
    let vm = node.vm()?;
    let (boot_report, kubeconfig, context) = vm.wait("the boot report", READY, |seen| {
        Some((
            seen.boot_report()?.clone(),
            seen.kubeconfig()?.to_owned(),
            seen.context()?.clone(),
        ))
    })?;
    cluster.apply("workload.yaml")?;
    let timeout = format!("--timeout={}s", PODS.as_secs());
    cluster.run_within(&["rollout", "status", "deployment/web", &timeout], PODS)?;
    cluster.wait(&["--for=condition=Ready", "pod", "--all"], PODS)?;
    cluster.wait(
        &[
            "--for=condition=Ready",
            "pod",
            "--all",
            "--namespace",
            "kube-system",
        ],
        PODS,
    )?;
    let figures = json!({
        "firmware_to_ready_s": wall.as_secs_f64(),
        "kernel_to_ready_s": seconds(boot_report.ready_ms),
        "phases": boot_report
            .phases
            .iter()
            .map(|phase| json!({ "name": phase.name, "at_s": seconds(phase.at_ms) }))
            .collect::<Vec<_>>(),
    });
    report::record(&node.environment().out, "boot", figures)?;

    let temporary = folder.with_extension("partial");
    // What an interrupted run left.
    let _ = fs::remove_dir_all(&temporary);
    fs::create_dir_all(&temporary)?;
    node.take_vm()?.save(&temporary.join("memory"))?;
    fs::write(temporary.join("kubeconfig"), kubeconfig)?;
    fs::write(
        temporary.join("context.json"),
        serde_json::to_vec(&context)?,
    )?;
    fs::write(
        temporary.join("boot-report.json"),
        serde_json::to_vec(&boot_report)?,
    )?;
    for (from, to) in [
        (node.folder().disk(), "disk.qcow2"),
        (node.folder().variables(), "variables.qcow2"),
    ] {
        fs::copy(&from, temporary.join(to))
            .with_context(|| format!("cannot keep {}", from.display()))?;
    }
    fs::rename(&temporary, folder)?;
    Ok(())
}

fn seconds(milliseconds: u64) -> f64 {
    Duration::from_millis(milliseconds).as_secs_f64()
}
