//! Memory that is not there: a service at its own limit, and a machine that has none left.

use std::fs;
use std::time::Duration;

use anyhow::{Context, ensure};
use keelson_tests::{Keelsonctl, Kubectl, Lines, Node, eventually, saved, usual_config};

/// It needs 20 MiB and nobody waits for it.
const SERVICE: &str = "kube-proxy";

const MIB: u64 = 1 << 20;

/// Exit code of `health` when a check has not passed.
const UNHEALTHY: i32 = 5;

const SOON: Duration = Duration::from_secs(60);

/// Five starts that fail, with pauses of 8 s together.
const CRASH_LOOP: Duration = Duration::from_secs(180);

/// The longest pause between two starts is 30 s; then an emulated machine takes its time.
const HEALED: Duration = Duration::from_secs(120);

/// Writing all memory that pods may have.
const TAKEN: Duration = Duration::from_secs(180);

/// What is left when memory is made short: PID 1 acts below a twentieth (99 of 1988 MiB), kubelet
/// below 50 MiB by a stricter count.
const LEFT_MIB: &str = "90";

/// What the weakest pod holds then.
const HELD_MIB: &str = "64";

#[test]
fn limits_are_seen_hold_and_heal() {
    saved::with_operated_node("limits", |node, _, keelsonctl| {
        let before = keelsonctl.services()?;
        apply(
            node,
            keelsonctl,
            "{memoryHigh: 200Mi, memoryMax: 256Mi, cpuWeight: 50}",
        )?;
        limits_become(keelsonctl, [200 * MIB, 256 * MIB, 50])?;
        let described = keelsonctl.json(&["describe", "service", SERVICE])?;
        ensure!(
            described["memoryMaxBytes"] == 256 * MIB
                && described["memoryHighBytes"] == 200 * MIB
                && described["cpuWeight"] == 50,
            "{described}"
        );
        ensure!(
            keelsonctl.services()? == before,
            "a limit with room restarted something"
        );

        let mut events = Lines::of(keelsonctl.spawn(&["events", "--watch", "--kind", "service"])?)?;
        apply(node, keelsonctl, "{memoryMax: 8Mi}")?;
        events.wait_for(&[SERVICE, "signal 9"])?;
        eventually("a crash loop", CRASH_LOOP, || {
            let standing = keelsonctl.services()?.remove(SERVICE);
            let state = standing.context("no such service")?.state;
            ensure!(state == "crash-loop", "it is {state}");
            Ok(())
        })?;
        let described = keelsonctl.json(&["describe", "service", SERVICE])?;
        let exits = described["exits"].as_array().context("no ends")?;
        let last = exits.last().context("it has not ended")?;
        let reason = last["reason"].as_str().unwrap_or_default();
        ensure!(reason.contains("oom_kill"), "it ended because of {last}");
        let words = keelsonctl.output(&["health"], SOON)?;
        let told = String::from_utf8_lossy(&words.stdout);
        ensure!(words.status.code() == Some(UNHEALTHY), "{told}");
        ensure!(told.contains(SERVICE), "{told}");

        apply(node, keelsonctl, "{}")?;
        eventually("the service without its limit", HEALED, || {
            let standing = keelsonctl.services()?.remove(SERVICE);
            let state = standing.context("no such service")?.state;
            ensure!(state == "ready", "it is {state}");
            Ok(())
        })?;
        // The kernel's own weight when nobody gives another.
        limits_become(keelsonctl, [0, 0, 100])?;
        eventually("a healthy node", HEALED, || keelsonctl.run(&["health"]))?;
        for (name, now) in keelsonctl.services()? {
            let was = before.get(&name);
            let same = name == SERVICE || was == Some(&now);
            ensure!(same, "{name} was {was:?}, now {now:?}");
        }
        Ok(())
    });
}

/// Puts limits of the service into the node's configuration.
fn apply(node: &Node, keelsonctl: &Keelsonctl, limits: &str) -> anyhow::Result<()> {
    let text = format!("{}services:\n  {SERVICE}: {limits}\n", usual_config(""));
    let path = node.folder().path().join("limits.yaml");
    fs::write(&path, text)?;
    keelsonctl.run(&["apply", "-f", &path.to_string_lossy()])?;
    Ok(())
}

/// `[high, max, weight]`, 0 for no limit.
fn limits_become(keelsonctl: &Keelsonctl, expected: [u64; 3]) -> anyhow::Result<()> {
    eventually("the limits in the kernel", SOON, || {
        let cgroup = keelsonctl.cgroup(SERVICE)?;
        let found = ["memoryHighBytes", "memoryMaxBytes", "cpuWeight"]
            .map(|key| cgroup[key].as_u64().unwrap_or(u64::MAX));
        ensure!(found == expected, "{found:?} instead of {expected:?}");
        Ok(())
    })
}

#[test]
fn memory_that_runs_out_ends_pods_and_no_service() {
    saved::with_operated_node("memory-short", |_, cluster, keelsonctl| {
        let services = keelsonctl.services()?;
        let mut events = Lines::of(keelsonctl.spawn(&["events", "--watch", "--kind", "health"])?)?;
        the_weakest_pod_ends(cluster, &mut events)?;
        a_pod_that_takes_all_ends(cluster)?;
        eventually("a healthy node", HEALED, || keelsonctl.run(&["health"]))?;
        ensure!(
            keelsonctl.services()? == services,
            "services were {services:?}, now {:?}",
            keelsonctl.services()?
        );
        for (service, _) in services.iter().filter(|(_, standing)| standing.pid != 0) {
            let cgroup = keelsonctl.cgroup(service)?;
            let killed = &cgroup["usage"]["oomKills"];
            ensure!(killed == 0, "{service} has lost {killed} processes");
        }
        events.still_running()
    });
}

/// Memory is short for the machine, and no pod is at a limit of its own: PID 1 ends a pod, and the
/// node API goes on meanwhile.
fn the_weakest_pod_ends(cluster: &Kubectl, events: &mut Lines) -> anyhow::Result<()> {
    let uid = cluster.run(&["get", "pod", "client", "-o", "jsonpath={.metadata.uid}"])?;
    let exec = |pod: &str, arguments: &[&str]| {
        let all = [&["exec", pod, "--", "/keelson-workload"], arguments].concat();
        Lines::of(cluster.spawn(&all)?)
    };
    let mut weakest = exec("client", &["hold", HELD_MIB, "600"])?;
    weakest.wait_for(&["holding"])?;
    let starving = exec("inside", &["starve", LEFT_MIB, "120"])?;
    let line = events.wait_for(&["memory was short"])?;
    println!("{line}");
    ensure!(
        line.contains("besteffort") && line.contains(&uid),
        "it was not {uid} that ended: {line}"
    );
    // It ends when it sees the room that was made; how its stream fares meanwhile does not matter.
    drop(starving);
    runs_again(cluster, 1)
}

/// Without a limit of its own it may have what all pods may have, and no more.
fn a_pod_that_takes_all_ends(cluster: &Kubectl) -> anyhow::Result<()> {
    let arguments = [
        "exec",
        "client",
        "--",
        "/keelson-workload",
        "hold",
        "8192",
        "1",
    ];
    let taken = cluster.run_within(&arguments, TAKEN);
    ensure!(taken.is_err(), "a pod took 8 GiB of a machine with 2");
    runs_again(cluster, 2)
}

/// The pod that was ended so many times works.
fn runs_again(cluster: &Kubectl, restarts: u64) -> anyhow::Result<()> {
    eventually("the pod that was ended", HEALED, || {
        let path = "jsonpath={.status.containerStatuses[0].restartCount}";
        let count = cluster.run(&["get", "pod", "client", "-o", path])?;
        ensure!(
            count == restarts.to_string(),
            "it was restarted {count} times"
        );
        Ok(cluster.exec("client", &["read", "/etc/hosts"])?)
    })?;
    Ok(())
}
