//! Each component of the node ends by SIGKILL, comes back, and the cluster works.

use std::time::Duration;

use anyhow::ensure;
use keelson_tests::{Kubectl, eventually, saved};

/// The API server takes a minute under emulation, and whoever needs it starts after it.
const BACK: Duration = Duration::from_secs(240);

/// A pod from request to Ready, by way of every component.
const WORKS: Duration = Duration::from_secs(180);

#[test]
fn kube_apiserver_comes_back() {
    comes_back("kube-apiserver");
}

#[test]
fn etcd_comes_back() {
    comes_back("etcd");
}

#[test]
fn kube_controller_manager_comes_back() {
    comes_back("kube-controller-manager");
}

#[test]
fn kube_scheduler_comes_back() {
    comes_back("kube-scheduler");
}

#[test]
fn containerd_comes_back() {
    comes_back("containerd");
}

#[test]
fn kubelet_comes_back() {
    comes_back("kubelet");
}

#[test]
fn kube_proxy_comes_back() {
    comes_back("kube-proxy");
}

fn comes_back(service: &str) {
    saved::with_node(&format!("killed-{service}"), |_, cluster| {
        let before = cluster.exec("inside", &["pid", service])?;
        let restarts = pod_restarts(cluster)?;
        // Who is killed may be the one who carries the answer.
        let _ = cluster.exec("inside", &["kill", service]);
        eventually(&format!("a new process of {service}"), BACK, || {
            let now = cluster.exec("inside", &["pid", service])?;
            ensure!(now != before, "it is still process {before}");
            Ok(())
        })?;
        works(cluster)?;
        assert_eq!(
            pod_restarts(cluster)?,
            restarts,
            "pods were restarted with {service}"
        );
        Ok(())
    });
}

/// A second replica needs API server, datastore, both controllers, kubelet and containerd; a new
/// Service that answers needs kube-proxy.
fn works(cluster: &Kubectl) -> anyhow::Result<()> {
    let deadline = format!("--timeout={}s", WORKS.as_secs());
    eventually("the API", BACK, || {
        Ok(cluster.run(&["get", "--raw", "/readyz"])?)
    })?;
    let arguments = [
        "expose",
        "deployment",
        "web",
        "--name=again",
        "--port=80",
        "--target-port=8080",
    ];
    eventually("a new Service", BACK, || Ok(cluster.run(&arguments)?))?;
    cluster.run(&["scale", "deployment", "web", "--replicas=2"])?;
    eventually("the second replica", WORKS, || {
        Ok(cluster.run_within(&["rollout", "status", "deployment/web", &deadline], WORKS)?)
    })?;
    let ready = cluster.run(&[
        "get",
        "deployment",
        "web",
        "-o",
        "jsonpath={.status.readyReplicas}",
    ])?;
    assert_eq!(ready, "2");
    eventually("an answer of the new Service", WORKS, || {
        let answer = cluster.exec("client", &["fetch", "http://again/echo/alive"])?;
        ensure!(answer == "alive\n", "it was {answer:?}");
        Ok(())
    })
}

/// How often the containers that were there before have been restarted.
fn pod_restarts(cluster: &Kubectl) -> anyhow::Result<String> {
    Ok(cluster.run(&[
        "get",
        "pods",
        "client",
        "inside",
        "-o",
        "jsonpath={.items[*].status.containerStatuses[*].restartCount}",
    ])?)
}
