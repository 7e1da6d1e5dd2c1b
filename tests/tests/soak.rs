//! A node in real use: it keeps its memory small, restarts nothing and drops no stream.
//!
//! `KEELSON_SOAK_SECONDS` is how long (the default fits `make test`).

use std::collections::BTreeMap;
use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use keelson_tests::{
    IMAGE, Keelsonctl, Kubectl, Lines, Node, eventually, number_in, report, saved, usual_config,
};
use serde_json::json;

/// Enough for a few rounds of everything.
const DEFAULT_SECONDS: u64 = 30;

/// PID 1 and our own daemons together.
const LIMIT_BYTES: u64 = 16 << 20;

/// Our own daemons, by service.
const OURS: [&str; 4] = ["apid", "clusterd", "machined", "netd"];

/// A sandbox and a container cost 15 s on a busy emulated machine.
const POD: Duration = Duration::from_secs(120);

const HEALTHY: Duration = Duration::from_secs(120);

/// Between two rounds, as people pause.
const PAUSE: Duration = Duration::from_secs(1);

/// A support archive is asked for in one of so many rounds.
const ROUNDS_PER_ARCHIVE: u64 = 5;

/// What people and their programs ask a node that is well.
const QUESTIONS: [&[&str]; 17] = [
    &["status"],
    &["health"],
    &["get", "services"],
    &["get", "processes"],
    &["get", "cgroups"],
    &["get", "memory"],
    &["get", "sockets"],
    &["get", "events", "-o", "yaml"],
    &["describe", "service", "kube-apiserver"],
    &["logs", "kubelet", "containerd", "--tail", "100"],
    &["logs", "netd", "--since", "10m"],
    &["dmesg", "--tail", "50"],
    &["events", "--tail", "100"],
    &["cat", "/etc/passwd"],
    &["cert", "list"],
    &["config", "show", "--defaults"],
    &["metrics"],
];

/// What PID 1 says when it ends something that hangs or has no memory.
const ALARMS: [&str; 4] = [
    "liveness checks in a row",
    "silent for",
    "memory was short",
    "crash-loop",
];

#[test]
fn a_node_in_use_stays_small_and_calm() {
    let seconds = number_in("KEELSON_SOAK_SECONDS").unwrap_or(DEFAULT_SECONDS);
    println!("KEELSON_SOAK_SECONDS={seconds}");
    saved::with_operated_node("soak", |node, cluster, keelsonctl| {
        eventually("a healthy node", HEALTHY, || keelsonctl.run(&["health"]))?;
        let mut events = Lines::of(keelsonctl.spawn(&["events", "--watch"])?)?;
        let follow = ["logs", "-f", "--tail", "1", "kubelet", "audit"];
        let mut logs = Lines::of(keelsonctl.spawn(&follow)?)?;
        let services = keelsonctl.services()?;
        let at_first = own_memory(keelsonctl)?;

        let uses = use_it(node, cluster, keelsonctl, Duration::from_secs(seconds))?;

        let at_last = own_memory(keelsonctl)?;
        let sum: u64 = at_last.values().sum();
        report::record(
            &node.environment().out,
            "soak",
            json!({
                "seconds": seconds,
                "questions": uses.questions,
                "pods": uses.pods,
                "pss_kib_at_first": kib(&at_first),
                "pss_kib": kib(&at_last),
                "own_processes_pss_kib": sum >> 10,
            }),
        )?;
        println!("{uses:?}, our own processes: {} KiB", sum >> 10);
        ensure!(
            sum <= LIMIT_BYTES,
            "our own processes use {:?} KiB, at first {:?}",
            kib(&at_last),
            kib(&at_first)
        );
        ensure!(
            keelsonctl.services()? == services,
            "services were {services:?}, now {:?}",
            keelsonctl.services()?
        );
        let told = keelsonctl.run(&["events"])?;
        for alarm in ALARMS {
            ensure!(!told.contains(alarm), "{alarm} in:\n{told}");
        }
        node.vm()?
            .look(|seen| match seen.serial_line("restarting it") {
                None => Ok(()),
                Some(line) => Err(anyhow::anyhow!("on the console: {line}")),
            })?;
        still_flows(keelsonctl, &mut events, &mut logs)
    });
}

/// What was done.
#[derive(Debug, Default)]
struct Uses {
    rounds: u64,
    questions: usize,
    pods: u64,
}

/// Everything at least once, then again until the time is over.
fn use_it(
    node: &Node,
    cluster: &Kubectl,
    keelsonctl: &Keelsonctl,
    time: Duration,
) -> anyhow::Result<Uses> {
    let path = |name: &str| node.folder().path().join(name).display().to_string();
    let (config, archive) = (path("valid.yaml"), path("support.tar.zst"));
    fs::write(&config, usual_config(""))?;
    let begin = Instant::now();
    let mut uses = Uses::default();
    while uses.rounds == 0 || begin.elapsed() < time {
        for question in QUESTIONS {
            keelsonctl.run(question)?;
        }
        keelsonctl.run(&["config", "validate", "-f", &config])?;
        uses.questions += QUESTIONS.len() + 1;
        if uses.rounds.is_multiple_of(ROUNDS_PER_ARCHIVE) {
            let _ = fs::remove_file(&archive);
            keelsonctl.run(&["support", "-o", &archive])?;
        }
        come_and_go(cluster, &format!("soak-{}", uses.rounds))?;
        uses.pods += 1;
        uses.rounds += 1;
        thread::sleep(PAUSE);
    }
    Ok(uses)
}

/// A pod from its request to its end.
fn come_and_go(cluster: &Kubectl, name: &str) -> anyhow::Result<()> {
    let image = format!("--image={IMAGE}");
    cluster.run(&[
        "run",
        name,
        &image,
        "--restart=Never",
        "--",
        "sleep",
        "100000000",
    ])?;
    cluster.wait(&["--for=condition=Ready", "pod", name], POD)?;
    cluster.run_within(&["delete", "pod", name, "--grace-period=1"], POD)?;
    Ok(())
}

/// Memory of PID 1 and of our daemons in bytes, shared pages divided by who shares them.
fn own_memory(keelsonctl: &Keelsonctl) -> anyhow::Result<BTreeMap<String, u64>> {
    let answer = keelsonctl.json(&["get", "processes"])?;
    let processes = answer["processes"].as_array().context("no processes")?;
    let mut own = BTreeMap::new();
    for process in processes {
        let cgroup = process["cgroup"].as_str().unwrap_or_default();
        let name = match cgroup.strip_prefix("/keelson/") {
            Some(service) if OURS.contains(&service) => service,
            _ if process["pid"] == 1 => "init",
            _ => continue,
        };
        let bytes = process["pssBytes"].as_u64().unwrap_or_default();
        ensure!(bytes > 0, "nothing is known of {process}");
        *own.entry(name.to_owned()).or_default() += bytes;
    }
    ensure!(own.len() == OURS.len() + 1, "some are missing: {own:?}");
    Ok(own)
}

fn kib(bytes: &BTreeMap<String, u64>) -> BTreeMap<&str, u64> {
    bytes
        .iter()
        .map(|(name, bytes)| (name.as_str(), bytes >> 10))
        .collect()
}

/// Something new comes through both streams.
fn still_flows(
    keelsonctl: &Keelsonctl,
    events: &mut Lines,
    logs: &mut Lines,
) -> anyhow::Result<()> {
    keelsonctl.run(&["kubeconfig"])?;
    let what = "read the kubeconfig";
    for (name, stream) in [("events", events), ("logs", logs)] {
        stream
            .wait_for(&[what])
            .and_then(|_| stream.still_running())
            .with_context(|| format!("the stream of {name} that was open all the time"))?;
    }
    Ok(())
}
