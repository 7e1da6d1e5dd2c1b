//! `keelsonctl reset`: a node without its data keeps its identity, one without its state is another
//! node.

use std::fs;
use std::time::Duration;

use anyhow::{Context, ensure};
use keelson_tests::{Keelsonctl, Node, entry, eventually, saved, usual_config};

/// The node answers, and has refused.
const FAILED: i32 = 1;

/// Pods and services end, firmware, kernel, file systems are made.
const REBOOT: Duration = Duration::from_secs(180);

/// From the file systems to apid and to the datastore.
const BACK: Duration = Duration::from_secs(120);

/// A file on DATA, in the one folder of it that the node API shows.
const KEPT: &str = "kept-by-a-test.log";

#[test]
fn a_reset_erases_what_was_named_and_no_more() {
    saved::with_operated_node("reset", |node, cluster, keelsonctl| {
        cluster.exec(
            "inside",
            &["write", &format!("/host/var/log/{KEPT}"), "on DATA"],
        )?;
        ensure!(keelsonctl.run(&["ls", "/var/log"])?.contains(KEPT));
        let before = Identity::of(keelsonctl)?;
        refused_without_the_name(keelsonctl)?;

        let making = "making the file system of DATA";
        reset(node, keelsonctl, &before.name, "data", making)?;
        eventually("the node API", BACK, || {
            keelsonctl.run(&["status", "--timeout", "5s"])
        })?;
        ensure!(Identity::of(keelsonctl)? == before, "it is another node");
        ensure!(!keelsonctl.run(&["ls", "/var/log"])?.contains(KEPT));
        // It neither misses anything that was on DATA nor refuses to begin anew.
        eventually("a new datastore", BACK, || {
            let etcd = keelsonctl.services()?.remove("etcd");
            let state = etcd.context("no etcd")?.state;
            ensure!(state == "ready", "it is {state}");
            Ok(())
        })?;

        let old = node.folder().path().join("old-context");
        fs::copy(keelsonctl.config(), &old)?;
        reset(
            node,
            keelsonctl,
            &before.name,
            "state,data",
            "erasing STATE",
        )?;
        another_node(node, &keelsonctl.with_config(&old), &before)
    });
}

/// Returns when the next boot says that it does what it was asked for.
fn reset(
    node: &mut Node,
    keelsonctl: &Keelsonctl,
    name: &str,
    partitions: &str,
    said: &str,
) -> anyhow::Result<()> {
    node.vm()?.forget();
    let arguments = ["reset", "--partitions", partitions, "--name", name, "--yes"];
    keelsonctl.run(&arguments)?;
    node.vm()?.wait_for_serial(said, REBOOT)?;
    // What the old node told the runner is of no use.
    node.vm()?.forget();
    Ok(())
}

fn refused_without_the_name(keelsonctl: &Keelsonctl) -> anyhow::Result<()> {
    let arguments = ["reset", "--partitions", "state,data", "--yes", "--name"];
    let words = keelsonctl.fails(&[&arguments[..], &["another"]].concat(), FAILED)?;
    ensure!(words.contains("nothing was erased"), "{words}");
    let status = keelsonctl.json(&["status"])?;
    ensure!(status["stage"] == "running", "{status}");
    Ok(())
}

/// The firmware partition still has the configuration, so the node does not wait for one.
fn another_node(node: &mut Node, old: &Keelsonctl, before: &Identity) -> anyhow::Result<()> {
    let keelsonctl = node.keelsonctl()?;
    eventually("the node API", BACK, || {
        keelsonctl.run(&["status", "--timeout", "5s"])
    })?;
    let now = Identity::of(&keelsonctl)?;
    ensure!(now.machine_id != before.machine_id, "{now:?}");
    ensure!(now.name != before.name, "{now:?}");
    ensure!(now.authority != before.authority, "{now:?}");
    ensure!(now.config == usual_config(""), "{}", now.config);
    // Who could use the old one cannot use this.
    let output = old.output(&["status"], BACK)?;
    let words = String::from_utf8_lossy(&output.stderr);
    ensure!(!output.status.success(), "the old context works");
    ensure!(words.contains("or the node was reset"), "{words}");
    Ok(())
}

/// What STATE keeps.
#[derive(Debug, PartialEq, Eq)]
struct Identity {
    name: String,
    machine_id: String,
    /// Fingerprint of the node API's authority.
    authority: String,
    config: String,
}

impl Identity {
    fn of(keelsonctl: &Keelsonctl) -> anyhow::Result<Self> {
        let status = keelsonctl.json(&["status"])?;
        let certificates = keelsonctl.json(&["cert", "list"])?;
        let authority = entry(&certificates["certificates"], "name", "api-ca")?;
        let word = |value: &serde_json::Value| {
            let word = value.as_str().filter(|word| !word.is_empty());
            word.map(str::to_owned).context("a word is missing")
        };
        Ok(Self {
            name: word(&status["nodeName"])?,
            machine_id: word(&status["machineId"])?,
            authority: word(&authority["fingerprint"])?,
            config: keelsonctl.run(&["config", "show"])?,
        })
    }
}
