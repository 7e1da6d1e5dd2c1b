//! What people do with a cluster, with a stock kubectl.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context, ensure};
use keelson_tests::{IMAGE, Kubectl, eventually, saved};

/// metrics-server asks every 15 s, and shows a node after two answers.
const METRICS: Duration = Duration::from_secs(120);

const SOON: Duration = Duration::from_secs(60);

#[test]
fn a_deployment_is_reached_by_name_and_by_kubectl() {
    saved::with_node("workload", |_, cluster| {
        service_by_name(cluster)?;
        logs(cluster)?;
        port_forward(cluster)?;
        top_node(cluster)
    });
}

fn service_by_name(cluster: &Kubectl) -> anyhow::Result<()> {
    let image = cluster.run(&[
        "get",
        "deployment",
        "web",
        "-o",
        "jsonpath={.spec.template.spec.containers[0].image}",
    ])?;
    assert_eq!(image, IMAGE);
    let address = cluster.run(&["get", "service", "web", "-o", "jsonpath={.spec.clusterIP}"])?;
    let lookup = || Ok(cluster.exec("client", &["lookup", "web.default.svc.cluster.local"])?);
    assert_eq!(
        eventually("the Service's name", SOON, lookup)?.trim(),
        address
    );
    let fetch = || Ok(cluster.exec("client", &["fetch", "http://web/echo/by-short-name"])?);
    assert_eq!(
        eventually("an answer of the Service", SOON, fetch)?,
        "by-short-name\n"
    );
    let host = cluster.exec("client", &["fetch", "http://web/hostname"])?;
    assert!(host.starts_with("web-"), "the answer came from {host}");
    Ok(())
}

fn logs(cluster: &Kubectl) -> anyhow::Result<()> {
    let logs = cluster.run(&["logs", "deployment/web"])?;
    assert!(logs.contains("serving on port 8080"), "{logs}");
    assert!(logs.contains("GET /echo/by-short-name"), "{logs}");
    Ok(())
}

fn port_forward(cluster: &Kubectl) -> anyhow::Result<()> {
    let mut forwarder = cluster.spawn(&["port-forward", "deployment/web", ":8080"])?;
    let output = forwarder.stdout.take().context("no output")?;
    let answer = ask_forwarded(BufReader::new(output));
    forwarder.kill()?;
    forwarder.wait()?;
    let answer = answer?;
    ensure!(
        answer.ends_with("through-a-port\n"),
        "unexpected answer: {answer}"
    );
    Ok(())
}

/// kubectl says `Forwarding from 127.0.0.1:40123 -> 8080` once it listens.
fn ask_forwarded(mut output: impl BufRead) -> anyhow::Result<String> {
    let mut line = String::new();
    output.read_line(&mut line)?;
    let port = line
        .split("127.0.0.1:")
        .nth(1)
        .and_then(|rest| rest.split(' ').next())
        .with_context(|| format!("kubectl said {line:?}"))?;
    let mut stream = TcpStream::connect(format!("127.0.0.1:{port}"))?;
    stream.set_read_timeout(Some(SOON))?;
    write!(
        stream,
        "GET /echo/through-a-port HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

fn top_node(cluster: &Kubectl) -> anyhow::Result<()> {
    let top = || Ok(cluster.run(&["top", "node", "--no-headers"])?);
    let line = eventually("figures of the node", METRICS, top)?;
    // NAME CPU CPU% MEMORY MEMORY%
    let memory = line.split_whitespace().nth(3).context("no memory figure")?;
    let mebibytes: u32 = memory.strip_suffix("Mi").context("no unit")?.parse()?;
    assert!((100..2048).contains(&mebibytes), "{line}");
    Ok(())
}
