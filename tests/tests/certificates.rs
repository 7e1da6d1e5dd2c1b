//! The clock jumps over the day on which certificates are due: they are made anew while everything
//! goes on.

use std::collections::BTreeMap;
use std::fs;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, ensure};
use keelson_qemu::Clock;
use keelson_tests::{Boot, Keelsonctl, Kubectl, Lines, Node, READY, Standing, eventually, report};
use serde_json::json;

const KUBERNETES_PORT: u16 = 6443;

/// Two thirds of a leaf's year are 243 days; kubelet renews its own pairs after 255 days at the
/// earliest. (No image lets its clock show less than 2026.)
const BEHIND: Duration = Duration::from_secs(250 * 24 * 3600);

/// An image to pull, a sandbox and a container under emulation.
const POD: Duration = Duration::from_secs(180);

/// machined is woken by the jump and makes some twenty pairs.
const RENEWED: Duration = Duration::from_secs(90);

/// The API server looks at its files once a minute.
const SERVED: Duration = Duration::from_secs(150);

/// The node looks dead to Kubernetes until it has reported by the new clock.
const READY_AGAIN: Duration = Duration::from_secs(180);

const CALL: Duration = Duration::from_secs(60);

/// Its client of the API server reads its pair when it starts.
const RESTARTED: &str = "clusterd";

#[test]
fn leaves_are_renewed_under_a_running_node_when_the_clock_jumps() {
    let boot = Boot {
        clock: Clock::Ago(BEHIND),
        ..Boot::default()
    };
    Node::with_booted("certificates", &boot, |node| {
        let cluster = node.ready()?;
        let keelsonctl = node.keelsonctl()?;
        eventually("a healthy node", READY, || keelsonctl.run(&["health"]))?;
        let mut events = Lines::of(keelsonctl.spawn(&["events", "--watch"])?)?;
        let before = certificates(&keelsonctl)?;
        let services = keelsonctl.services()?;

        jump(node, &cluster)?;
        let jumped = Instant::now();
        let renewed = eventually("certificates that are all new", RENEWED, || {
            let now = certificates(&keelsonctl)?;
            all_renewed(&before, &now)?;
            Ok(now)
        })?;
        let after = jumped.elapsed();
        println!("all certificates were new {after:?} after the jump");
        report::record(
            &node.environment().out,
            "certificates",
            json!({ "renewed_after_s": after.as_secs_f64() }),
        )?;

        for (port, name) in [
            (node.node_api_port()?, "apid/serving"),
            (kubernetes_port(node)?, "kube-apiserver/serving"),
        ] {
            eventually(&format!("the new {name} in use"), SERVED, || {
                shows(&keelsonctl, port, &renewed[name].fingerprint)?;
                ensure!(
                    shows(&keelsonctl, port, &before[name].fingerprint).is_err(),
                    "the test cannot tell them apart"
                );
                Ok(())
            })?;
        }
        keelsonctl.run(&["status"])?;
        keelsonctl.run(&["kubeconfig"])?;
        events
            .wait_for(&["read the kubeconfig"])
            .and_then(|_| events.still_running())
            .context("the stream that was open before the jump")?;
        eventually("the node, Ready", READY_AGAIN, || ready(&cluster))?;
        eventually("a healthy node", READY_AGAIN, || {
            keelsonctl.run(&["health"])
        })?;
        nothing_else_restarted(&services, &keelsonctl.services()?)
    });
}

/// From here on the node's clock is right.
fn jump(node: &Node, cluster: &Kubectl) -> anyhow::Result<()> {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?;
    let manifest =
        include_str!("../manifests/clock.yaml").replace("SECONDS", &now.as_secs().to_string());
    let path = node.folder().path().join("clock.yaml");
    fs::write(&path, manifest)?;
    cluster.run(&["apply", "--filename", &path.to_string_lossy()])?;
    eventually("the pod that sets the clock", POD, || {
        let phase = cluster.run(&["get", "pod", "clock", "-o", "jsonpath={.status.phase}"])?;
        ensure!(phase == "Succeeded", "it is {phase}");
        Ok(())
    })
}

/// What the node says of one of its certificates.
#[derive(Debug)]
struct Known {
    fingerprint: String,
    /// RFC 3339 in UTC: the order of the texts is that of the times.
    not_after: String,
    /// Whether the node itself renews it.
    renews: bool,
}

fn certificates(keelsonctl: &Keelsonctl) -> anyhow::Result<BTreeMap<String, Known>> {
    let answer = keelsonctl.json(&["cert", "list"])?;
    let list = answer["certificates"].as_array().context("no list")?;
    list.iter()
        .map(|certificate| {
            let word = |key: &str| {
                certificate[key]
                    .as_str()
                    .map(str::to_owned)
                    .context("no word")
            };
            let known = Known {
                fingerprint: word("fingerprint")?,
                not_after: word("notAfter")?,
                renews: !word("renewedAt")?.is_empty(),
            };
            anyhow::Ok((word("name")?, known))
        })
        .collect()
}

fn all_renewed(
    before: &BTreeMap<String, Known>,
    now: &BTreeMap<String, Known>,
) -> anyhow::Result<()> {
    let due: Vec<_> = before.iter().filter(|(_, known)| known.renews).collect();
    ensure!(
        due.len() > 10,
        "few certificates are the node's: {before:?}"
    );
    let old: Vec<_> = due
        .into_iter()
        .filter(|(name, known)| {
            now.get(*name).is_none_or(|now| {
                now.fingerprint == known.fingerprint || now.not_after <= known.not_after
            })
        })
        .map(|(name, _)| name)
        .collect();
    ensure!(old.is_empty(), "still as before: {old:?}");
    Ok(())
}

/// Whether who listens on a port shows the certificate with this fingerprint. keelsonctl compares
/// it before it says anything, and here it has nothing to say that anybody would listen to.
fn shows(keelsonctl: &Keelsonctl, port: u16, fingerprint: &str) -> anyhow::Result<()> {
    let address = format!("127.0.0.1:{port}");
    let arguments = ["version", "-n", &address, "--fingerprint", fingerprint];
    let output = keelsonctl.output(&arguments, CALL)?;
    let words = String::from_utf8_lossy(&output.stderr);
    ensure!(
        !words.contains("none of its certificates has the fingerprint"),
        "it is another one"
    );
    for trouble in ["no answer within", "nothing listens", "cannot be reached"] {
        ensure!(!words.contains(trouble), "{words}");
    }
    Ok(())
}

fn kubernetes_port(node: &mut Node) -> anyhow::Result<u16> {
    node.vm()?
        .forwarded_port(KUBERNETES_PORT)
        .context("no port is forwarded")
}

fn ready(cluster: &Kubectl) -> anyhow::Result<()> {
    let path = "jsonpath={.items[*].status.conditions[?(@.type=='Ready')].status}";
    let status = cluster.run(&["get", "nodes", "-o", path])?;
    ensure!(status == "True", "Ready is {status}");
    Ok(())
}

fn nothing_else_restarted(
    before: &BTreeMap<String, Standing>,
    now: &BTreeMap<String, Standing>,
) -> anyhow::Result<()> {
    for (name, now) in now {
        let was = before.get(name);
        let same = name == RESTARTED || was == Some(now);
        ensure!(same, "{name} was {was:?}, now {now:?}");
    }
    Ok(())
}
