//! Moves pods to other nodes before a reboot, for a bounded time, where there are others.
//!
//! Pods that can run nowhere else are left to the shutdown: they come back with the node, with
//! their volumes, which they would not after an eviction.

use std::time::Duration;

use keelson_control::chain;
use keelson_kubeclient::RequestError;
use serde_json::Value;
use tokio::time::{Instant, sleep};

/// What a drain needs of the cluster.
pub(crate) trait Cluster {
    /// All nodes.
    fn nodes(&self) -> impl Future<Output = Result<Vec<Value>, RequestError>>;

    /// The pods of this node.
    fn pods(&self) -> impl Future<Output = Result<Vec<Value>, RequestError>>;

    /// Whether new pods come to this node.
    fn set_schedulable(&self, schedulable: bool) -> impl Future<Output = Result<(), RequestError>>;

    /// Asks a pod to go; says whether it may.
    fn evict(&self, pod: &Pod) -> impl Future<Output = Result<bool, RequestError>>;
}

/// A pod by its name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Pod {
    pub(crate) namespace: String,
    pub(crate) name: String,
}

impl std::fmt::Display for Pod {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// How a drain ended; none of it keeps the upgrade from going on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Drained {
    /// There is nowhere to go.
    Alone,
    /// All that could go have gone.
    Done { gone: usize },
    /// The cluster did not answer.
    NoAnswer { reason: String },
    /// The time is over.
    TimedOut { left: Vec<String> },
}

impl std::fmt::Display for Drained {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Alone => {
                f.write_str("there is no other node that takes pods, so they end with this one")
            }
            Self::Done { gone } => write!(f, "{gone} pods went to other nodes"),
            Self::NoAnswer { reason } => {
                write!(
                    f,
                    "pods end with the node, for the cluster does not answer: {reason}"
                )
            }
            Self::TimedOut { left } => write!(
                f,
                "the time is over; these pods end with the node: {}",
                left.join(", ")
            ),
        }
    }
}

/// Between two looks at what is left.
const INTERVAL: Duration = Duration::from_secs(2);

/// Drains the node. `cordoned` is called before the node is made unschedulable, if it was not.
pub(crate) async fn drain<C: Cluster>(
    cluster: &C,
    node_name: &str,
    timeout: Duration,
    mut cordoned: impl FnMut(),
) -> Drained {
    let end = Instant::now() + timeout;
    let drained = async {
        let nodes = cluster.nodes().await?;
        if !others(&nodes, node_name) {
            return Ok(Drained::Alone);
        }
        if is_schedulable(&nodes, node_name) {
            cordoned();
            cluster.set_schedulable(false).await?;
        }
        let mut seen = std::collections::BTreeSet::new();
        loop {
            let left = movable(&cluster.pods().await?);
            seen.extend(left.iter().cloned());
            if left.is_empty() {
                return Ok(Drained::Done { gone: seen.len() });
            }
            if Instant::now() >= end {
                let left = left.iter().map(ToString::to_string).collect();
                return Ok(Drained::TimedOut { left });
            }
            for pod in &left {
                // A budget may not allow it yet: asked again until the time is over.
                cluster.evict(pod).await?;
            }
            sleep(INTERVAL.min(end.saturating_duration_since(Instant::now()))).await;
        }
    };
    // The deadline of single requests is the client's; all together they may take longer.
    match tokio::time::timeout(timeout + GRACE, drained).await {
        Ok(Ok(drained)) => drained,
        Ok(Err(error)) => no_answer(&error),
        Err(_) => Drained::NoAnswer {
            reason: format!("nothing in {} s", (timeout + GRACE).as_secs()),
        },
    }
}

/// For the last requests.
const GRACE: Duration = Duration::from_secs(30);

fn no_answer(error: &RequestError) -> Drained {
    Drained::NoAnswer {
        reason: chain(error),
    }
}

/// Whether some other node takes pods.
fn others(nodes: &[Value], own: &str) -> bool {
    nodes.iter().any(|node| {
        let ready = node["status"]["conditions"]
            .as_array()
            .into_iter()
            .flatten()
            .any(|condition| condition["type"] == "Ready" && condition["status"] == "True");
        node["metadata"]["name"] != own && ready && node["spec"]["unschedulable"] != true
    })
}

fn is_schedulable(nodes: &[Value], own: &str) -> bool {
    nodes
        .iter()
        .any(|node| node["metadata"]["name"] == own && node["spec"]["unschedulable"] != true)
}

/// Pods that somebody makes anew on another node.
fn movable(pods: &[Value]) -> Vec<Pod> {
    pods.iter()
        .filter(|pod| {
            let ended = matches!(
                pod["status"]["phase"].as_str(),
                Some("Succeeded" | "Failed")
            );
            let owner = pod["metadata"]["ownerReferences"]
                .as_array()
                .into_iter()
                .flatten()
                .find(|owner| owner["controller"] == true)
                .and_then(|owner| owner["kind"].as_str());
            // kubelet's own pods belong to the node, a DaemonSet has one for each node, and nobody
            // makes a pod without an owner anew.
            !ended && !matches!(owner, None | Some("DaemonSet" | "Node"))
        })
        .map(|pod| {
            let text = |key: &str| pod["metadata"][key].as_str().unwrap_or_default().to_owned();
            Pod {
                namespace: text("namespace"),
                name: text("name"),
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};

    use serde_json::json;

    use super::*;

    /// A cluster in memory.
    struct Fake {
        nodes: Vec<Value>,
        pods: RefCell<Vec<Value>>,
        /// A budget keeps this pod.
        stubborn: Option<&'static str>,
        schedulable: Cell<bool>,
        answers: bool,
    }

    fn node(name: &str, ready: &str, unschedulable: bool) -> Value {
        json!({
            "metadata": {"name": name},
            "spec": {"unschedulable": unschedulable},
            "status": {"conditions": [{"type": "Ready", "status": ready}]},
        })
    }

    fn pod(name: &str, owner: Option<&str>, phase: &str) -> Value {
        let owners: Vec<_> = owner
            .map(|kind| json!({"kind": kind, "controller": true}))
            .into_iter()
            .collect();
        json!({
            "metadata": {"namespace": "default", "name": name, "ownerReferences": owners},
            "status": {"phase": phase},
        })
    }

    impl Fake {
        fn with(nodes: Vec<Value>) -> Self {
            Self {
                nodes,
                pods: RefCell::new(vec![
                    pod("web", Some("ReplicaSet"), "Running"),
                    pod("db", Some("StatefulSet"), "Running"),
                    pod("agent", Some("DaemonSet"), "Running"),
                    pod("mirror", Some("Node"), "Running"),
                    pod("alone", None, "Running"),
                    pod("done", Some("Job"), "Succeeded"),
                ]),
                stubborn: None,
                schedulable: Cell::new(true),
                answers: true,
            }
        }
    }

    impl Cluster for Fake {
        async fn nodes(&self) -> Result<Vec<Value>, RequestError> {
            if self.answers {
                Ok(self.nodes.clone())
            } else {
                Err(RequestError::Deadline {
                    what: "GET /api/v1/nodes".to_owned(),
                    deadline: Duration::from_secs(30),
                })
            }
        }

        async fn pods(&self) -> Result<Vec<Value>, RequestError> {
            Ok(self.pods.borrow().clone())
        }

        async fn set_schedulable(&self, schedulable: bool) -> Result<(), RequestError> {
            self.schedulable.set(schedulable);
            Ok(())
        }

        async fn evict(&self, pod: &Pod) -> Result<bool, RequestError> {
            if self.stubborn == Some(&pod.name) {
                return Ok(false);
            }
            self.pods
                .borrow_mut()
                .retain(|other| other["metadata"]["name"] != pod.name);
            Ok(true)
        }
    }

    async fn drained(fake: &Fake) -> (Drained, bool) {
        let mut cordoned = false;
        let end = drain(fake, "own", Duration::from_secs(300), || cordoned = true).await;
        (end, cordoned)
    }

    #[tokio::test(start_paused = true)]
    async fn what_somebody_makes_anew_goes() {
        let fake = Fake::with(vec![
            node("own", "True", false),
            node("other", "True", false),
        ]);
        assert_eq!(drained(&fake).await, (Drained::Done { gone: 2 }, true));
        assert!(!fake.schedulable.get());
        assert_eq!(fake.pods.borrow().len(), 4);
    }

    #[tokio::test(start_paused = true)]
    async fn a_node_alone_keeps_its_pods() {
        for nodes in [
            vec![node("own", "True", false)],
            vec![node("own", "True", false), node("other", "False", false)],
            vec![node("own", "True", false), node("other", "True", true)],
        ] {
            let fake = Fake::with(nodes);
            assert_eq!(drained(&fake).await, (Drained::Alone, false));
            assert!(fake.schedulable.get());
            assert_eq!(fake.pods.borrow().len(), 6);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_cannot_go_does_not_hold_the_upgrade() {
        let mut fake = Fake::with(vec![
            node("own", "True", true),
            node("other", "True", false),
        ]);
        fake.stubborn = Some("db");
        let start = Instant::now();
        let (end, cordoned) = drained(&fake).await;
        assert_eq!(
            end,
            Drained::TimedOut {
                left: vec!["default/db".to_owned()]
            }
        );
        assert!(!cordoned, "a person made it unschedulable before");
        assert_eq!(start.elapsed().as_secs(), 300);
        fake.answers = false;
        let (end, _) = drained(&fake).await;
        assert!(matches!(end, Drained::NoAnswer { .. }), "{end:?}");
    }
}
