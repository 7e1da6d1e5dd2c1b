//! SIGKILL and SIGSTOP of every service at random: each serves again within its own cold start and
//! a second, and pods do not notice.
//!
//! `KEELSON_CHAOS_SECONDS` is how long (the default fits `make test`), `KEELSON_CHAOS_SEED` repeats
//! an order that failed.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, ensure};
use keelson_tests::{Kubectl, eventually, number_in, report, saved};
use keelson_workload::ChaosReport;
use serde_json::json;

/// Enough for about a dozen disturbances: the API server's two take half of it.
const DEFAULT_SECONDS: u64 = 100;

/// Every service is restarted twice first; the API server takes half a minute each time.
const BASELINE: Duration = Duration::from_secs(400);

/// What a service may take beyond its own cold start.
const SLACK_MS: u64 = 1000;

/// Or this part of it, where that is more: under emulation the API server alone, twice started,
/// takes 34 s once and 37 s the other time.
const NOISE: u64 = 10;

/// The longest the node API may be away.
const NODE_API_MS: u64 = 3000;

/// The services behind the node API.
const NODE_API: [&str; 2] = ["apid", "machined"];

#[test]
fn whatever_is_killed_or_stopped_serves_again() {
    let seconds = number_in("KEELSON_CHAOS_SECONDS").unwrap_or(DEFAULT_SECONDS);
    let seed = number_in("KEELSON_CHAOS_SEED").unwrap_or_else(|| {
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(1, |time| time.as_secs())
    });
    println!("KEELSON_CHAOS_SECONDS={seconds} KEELSON_CHAOS_SEED={seed}");
    saved::with_operated_node("chaos", |node, cluster, keelsonctl| {
        let before = pods(cluster)?;
        let manifest = include_str!("../manifests/chaos.yaml")
            .replace("SECONDS", &seconds.to_string())
            .replace("SEED", &seed.to_string());
        let path = node.folder().path().join("chaos.yaml");
        std::fs::write(&path, manifest)?;
        cluster.run(&["apply", "--filename", &path.to_string_lossy()])?;
        let limit = BASELINE + 2 * Duration::from_secs(seconds);
        eventually("the end of the chaos", limit, || {
            let phase = cluster.run(&["get", "pod", "chaos", "-o", "jsonpath={.status.phase}"])?;
            ensure!(phase == "Succeeded" || phase == "Failed", "phase {phase:?}");
            Ok(())
        })?;
        let log = cluster.run(&["logs", "chaos"])?;
        let line = log.lines().rev().find(|line| line.starts_with('{'));
        let line = line.with_context(|| format!("no report:\n{log}"))?;
        let chaos: ChaosReport = serde_json::from_str(line)?;
        println!("{chaos:#?}");
        report::record(&node.environment().out, "chaos", figures(&chaos, seconds))?;
        judge(&chaos)?;
        eventually("a healthy node", Duration::from_secs(240), || {
            keelsonctl.run(&["health"])
        })?;
        ensure!(pods(cluster)? == before, "pods were restarted");
        Ok(())
    });
}

fn judge(chaos: &ChaosReport) -> anyhow::Result<()> {
    let mut late = Vec::new();
    for outage in &chaos.outages {
        let own = chaos.cold_start_ms.get(&outage.service).copied();
        let own = own.context("no cold start")?;
        let mut limit = own + SLACK_MS.max(own / NOISE);
        if NODE_API.contains(&outage.service.as_str()) {
            limit = limit.min(NODE_API_MS);
        }
        if outage.ready_after_ms > limit {
            late.push(format!("{outage:?}, limit {limit} ms"));
        }
    }
    ensure!(late.is_empty(), "too late:\n{}", late.join("\n"));
    ensure!(chaos.orphans.is_empty(), "orphans: {:?}", chaos.orphans);
    ensure!(chaos.new_cgroups.is_empty(), "{:?}", chaos.new_cgroups);
    Ok(())
}

fn figures(chaos: &ChaosReport, seconds: u64) -> serde_json::Value {
    let mut services: BTreeMap<&str, serde_json::Value> = BTreeMap::new();
    for (service, cold) in &chaos.cold_start_ms {
        let of = |signal: &str, figure: fn(&keelson_workload::Outage) -> u64| {
            chaos
                .outages
                .iter()
                .filter(|outage| outage.service == *service && outage.signal == signal)
                .map(figure)
                .max()
        };
        services.insert(
            service,
            json!({
                "cold_start_ms": cold,
                "sigkill_started_ms": of("SIGKILL", |outage| outage.started_after_ms),
                "sigkill_ready_ms": of("SIGKILL", |outage| outage.ready_after_ms),
                "sigstop_started_ms": of("SIGSTOP", |outage| outage.started_after_ms),
                "sigstop_ready_ms": of("SIGSTOP", |outage| outage.ready_after_ms),
            }),
        );
    }
    json!({ "seconds": seconds, "disturbances": chaos.outages.len(), "services": services })
}

/// Names and restarts of what ran before.
fn pods(cluster: &Kubectl) -> anyhow::Result<String> {
    Ok(cluster.run(&[
        "get",
        "pods",
        "client",
        "inside",
        "-o",
        "jsonpath={.items[*].status.containerStatuses[*].restartCount}",
    ])?)
}
