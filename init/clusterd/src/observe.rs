//! Watches what "the node is up" means: its Ready condition and the system's Deployments.

use std::collections::BTreeSet;

use keelson_control::chain;
use keelson_kubeclient::{Change, Client, Follower};
use serde_json::Value;

use crate::{Told, tell};

/// Raises and clears `node-ready` with the node's Ready condition, for ever. Until kubelet has
/// reported in this boot, the condition is what was true before the machine went down.
pub(crate) async fn node(client: &Client, name: &str, boot_id: &str) {
    let selector = format!("metadata.name={name}");
    let mut nodes = Follower::new(client, "/api/v1/nodes", Some(&selector));
    let mut known = None;
    loop {
        let ready = match nodes.next().await {
            Ok(Change::Present(node)) => is_ready(&node, boot_id),
            Ok(Change::Gone(_)) => false,
            Err(error) => {
                tracing::warn!("cannot follow node {name}: {}", chain(&error));
                continue;
            }
        };
        // A node that was never ready has nothing to clear.
        if known.unwrap_or(false) != ready {
            let told = if ready {
                Told::Raise("node-ready")
            } else {
                Told::Clear("node-ready")
            };
            tell(told).await;
        }
        known = Some(ready);
    }
}

/// Stamps `system-pods-ready` once all the given Deployments are available, then only waits.
pub(crate) async fn system_deployments(client: &Client, wanted: &[(String, String)]) {
    let mut available = BTreeSet::new();
    let mut deployments = Follower::new(client, "/apis/apps/v1/deployments", None);
    while !wanted
        .iter()
        .all(|deployment| available.contains(deployment))
    {
        match deployments.next().await {
            Ok(Change::Present(object)) if is_available(&object) => {
                available.insert(identity(&object));
            }
            Ok(Change::Present(object) | Change::Gone(object)) => {
                available.remove(&identity(&object));
            }
            Err(error) => tracing::warn!("cannot follow deployments: {}", chain(&error)),
        }
    }
    drop(deployments);
    tell(Told::Phase("system-pods-ready")).await;
    std::future::pending().await
}

fn is_ready(node: &Value, boot_id: &str) -> bool {
    node["status"]["nodeInfo"]["bootID"] == boot_id && condition(node, "Ready")
}

fn is_available(deployment: &Value) -> bool {
    condition(deployment, "Available")
}

fn condition(object: &Value, kind: &str) -> bool {
    object["status"]["conditions"]
        .as_array()
        .into_iter()
        .flatten()
        .any(|condition| condition["type"] == kind && condition["status"] == "True")
}

fn identity(object: &Value) -> (String, String) {
    let text = |key: &str| {
        object["metadata"][key]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    };
    (text("namespace"), text("name"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_a_true_condition_of_this_boot_counts() {
        let node = |boot: &str, status: &str| {
            json!({"status": {
                "nodeInfo": {"bootID": boot},
                "conditions": [{"type": "Ready", "status": status}],
            }})
        };
        assert!(is_ready(&node("now", "True"), "now"));
        assert!(!is_ready(&node("before", "True"), "now"));
        assert!(!is_ready(&node("now", "False"), "now"));
        assert!(!is_ready(&node("now", "Unknown"), "now"));
        assert!(!is_ready(
            &json!({"status": {"conditions": "nonsense"}}),
            "now"
        ));
        assert!(!is_ready(&json!({}), "now"));
    }
}
