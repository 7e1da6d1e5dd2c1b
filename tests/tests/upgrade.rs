//! Another version through the node API, and back: the cluster and its data stay.
//!
//! `make test-vm` makes the bundle of the other version, the same parts under the number 0.2.0, and
//! names it in `KEELSON_NEXT`.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use keelson_tests::{Keelsonctl, Kubectl, entry, eventually, report, saved};
use serde_json::{Value, json};

/// Version of the bundle in `KEELSON_NEXT`.
const NEXT: &str = "0.2.0";

/// Sending, writing and reading back 400 MiB, a boot until Ready, and the minute of proof.
const UPGRADE: Duration = Duration::from_secs(900);

/// A node that has just proved itself, until kubectl sees it so.
const SEEN: Duration = Duration::from_secs(60);

#[test]
fn another_version_and_back() {
    saved::with_operated_node("upgrade", |node, cluster, keelsonctl| {
        let bundle = bundle()?;
        let before = version(keelsonctl)?;
        cluster.run(&["create", "configmap", "kept", "--from-literal=by=upgrade"])?;

        let begin = Instant::now();
        let image = bundle.to_string_lossy().into_owned();
        follow(keelsonctl, &["upgrade", "--image", &image, "--watch"])?;
        let forth = begin.elapsed();
        ensure!(version(keelsonctl)? == NEXT, "{}", version(keelsonctl)?);
        ensure!(state(keelsonctl, "b")? == ("good".to_owned(), true, true));
        ensure!(state(keelsonctl, "a")?.0 == "good");
        kept(cluster, NEXT)?;

        let begin = Instant::now();
        follow(keelsonctl, &["rollback", "--watch"])?;
        let back = begin.elapsed();
        ensure!(version(keelsonctl)? == before, "{}", version(keelsonctl)?);
        ensure!(state(keelsonctl, "a")? == ("good".to_owned(), true, true));
        kept(cluster, &before)?;

        let figures = json!({
            "bundle_bytes": std::fs::metadata(&bundle)?.len(),
            "upgrade_until_good_seconds": forth.as_secs(),
            "rollback_until_good_seconds": back.as_secs(),
        });
        println!("{figures}");
        report::record(&node.environment().out, "upgrade", figures)
    });
}

fn bundle() -> anyhow::Result<PathBuf> {
    std::env::var_os("KEELSON_NEXT")
        .map(PathBuf::from)
        .context("KEELSON_NEXT is not set: run `make test-vm`, or `keelson-build bundle --version 0.2.0` and name its file")
}

/// Runs one that ends when the version is good, and shows what it said.
fn follow(keelsonctl: &Keelsonctl, arguments: &[&str]) -> anyhow::Result<()> {
    let output = keelsonctl.output(arguments, UPGRADE)?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    println!("{said}{}", String::from_utf8_lossy(&output.stdout));
    ensure!(
        output.status.success(),
        "{arguments:?}: {}\n{said}",
        output.status
    );
    Ok(())
}

fn version(keelsonctl: &Keelsonctl) -> anyhow::Result<String> {
    let status = keelsonctl.json(&["status"])?;
    let version = status["version"].as_str().context("no version")?;
    Ok(version.to_owned())
}

/// What a slot is, whether it runs and whether it is the default.
fn state(keelsonctl: &Keelsonctl, slot: &str) -> anyhow::Result<(String, bool, bool)> {
    let slots = keelsonctl.json(&["get", "slots"])?;
    let slot: &Value = entry(&slots["slots"], "name", slot)?;
    let is = |key: &str| slot[key].as_bool().unwrap_or_default();
    let state = slot["state"].as_str().context("no state")?;
    Ok((state.to_owned(), is("running"), is("default")))
}

/// The cluster is the one it was, on a node that says which version it runs.
fn kept(cluster: &Kubectl, version: &str) -> anyhow::Result<()> {
    eventually("the node and what was in the cluster", SEEN, || {
        let node = cluster.run(&[
            "get",
            "nodes",
            "-o",
            "jsonpath={.items[*].status.nodeInfo.osImage}",
        ])?;
        ensure!(node.contains(version), "the node runs {node:?}");
        let by = cluster.run(&["get", "configmap", "kept", "-o", "jsonpath={.data.by}"])?;
        ensure!(by == "upgrade", "{by:?}");
        let pods = cluster.run(&[
            "get",
            "pods",
            "client",
            "inside",
            "-o",
            "jsonpath={.items[*].status.phase}",
        ])?;
        ensure!(pods == "Running Running", "{pods:?}");
        Ok(())
    })
}
