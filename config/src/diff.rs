//! What differs between two configurations, key by key.

use serde_json::Value;

use crate::effect::{Effect, effect_of};
use crate::model::NodeConfig;

/// One key that differs.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Change {
    /// Key path: `network.interfaces[0].dhcp4`.
    pub path: String,
    /// YAML; `None` when the key is not there.
    pub before: Option<String>,
    /// YAML; `None` when the key is not there.
    pub after: Option<String>,
    /// What it takes until it is in force.
    pub effect: Effect,
}

/// Compares two configurations. Both should have their defaults filled in, or a default that is
/// written out counts as a change. Entries of lists are compared by their position.
pub fn diff(before: &NodeConfig, after: &NodeConfig) -> Vec<Change> {
    let mut changes = Vec::new();
    compare(
        String::new(),
        Some(&value(before)),
        Some(&value(after)),
        &mut changes,
    );
    changes
}

/// The types hold text, numbers, lists and maps with text as keys: nothing JSON cannot express.
fn value(config: &NodeConfig) -> Value {
    serde_json::to_value(config).unwrap_or_default()
}

fn compare(path: String, before: Option<&Value>, after: Option<&Value>, changes: &mut Vec<Change>) {
    match (before, after) {
        (before, after) if before == after => {}
        (Some(Value::Object(old)), Some(Value::Object(new))) => {
            let added = new.keys().filter(|key| !old.contains_key(*key));
            for key in old.keys().chain(added) {
                let path = if path.is_empty() {
                    key.clone()
                } else {
                    format!("{path}.{key}")
                };
                compare(path, old.get(key), new.get(key), changes);
            }
        }
        (Some(Value::Array(old)), Some(Value::Array(new))) => {
            for index in 0..old.len().max(new.len()) {
                let path = format!("{path}[{index}]");
                compare(path, old.get(index), new.get(index), changes);
            }
        }
        (before, after) => changes.push(Change {
            effect: effect_of(&path),
            path,
            before: before.map(yaml),
            after: after.map(yaml),
        }),
    }
}

fn yaml(value: &Value) -> String {
    // What came from a configuration can be written as one; JSON is YAML as well.
    let text = serde_saphyr::to_string(value).unwrap_or_else(|_| value.to_string());
    text.trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(body: &str) -> NodeConfig {
        let text = format!("apiVersion: keelson.dev/v1alpha1\nkind: NodeConfig\n{body}");
        NodeConfig::parse(text, "x").unwrap()
    }

    fn changes(before: &str, after: &str) -> Vec<String> {
        diff(&config(before), &config(after))
            .into_iter()
            .map(|change| {
                let side = |side: Option<String>| side.unwrap_or_else(|| "-".to_owned());
                format!(
                    "{}: {} > {} ({})",
                    change.path,
                    side(change.before),
                    side(change.after),
                    change.effect
                )
            })
            .collect()
    }

    #[test]
    fn table() {
        let table: [(&str, &str, &[&str]); 9] = [
            ("", "", &[]),
            // A default that is written out is no change.
            ("", "cluster: {name: keelson}\n", &[]),
            (
                "hostname: a\n",
                "hostname: b\n",
                &["hostname: a > b (reboot)"],
            ),
            ("", "hostname: b\n", &["hostname: - > b (reboot)"]),
            (
                "network: {interfaces: [{name: eth0}]}\n",
                "network: {interfaces: [{name: eth0, dhcp4: true, mtu: 1400}]}\n",
                &[
                    "network.interfaces[0].dhcp4: false > true (live)",
                    "network.interfaces[0].mtu: - > 1400 (live)",
                ],
            ),
            (
                "network: {nameservers: [192.0.2.1, 192.0.2.2]}\n",
                "network: {nameservers: [192.0.2.2]}\n",
                &[
                    "network.nameservers[0]: \"192.0.2.1\" > \"192.0.2.2\" (live)",
                    "network.nameservers[1]: \"192.0.2.2\" > - (live)",
                ],
            ),
            (
                "services: {etcd: {memoryMax: 1Gi}}\n",
                "services: {etcd: {memoryMax: 1024Mi, cpuWeight: 50}, netd: {memoryMax: 8Mi}}\n",
                &[
                    "services.etcd.cpuWeight: - > 50 (live)",
                    "services.netd: - > memoryMax: 8Mi (live)",
                ],
            ),
            (
                "",
                "cluster: {name: a, podCIDR: 10.245.0.0/16}\n",
                &[
                    "cluster.name: keelson > a (restart)",
                    "cluster.podCIDR: 10.244.0.0/16 > 10.245.0.0/16 (reset)",
                ],
            ),
            (
                "registries: [{host: docker.io, endpoint: \"http://192.0.2.1:5000\"}]\n",
                "",
                &[
                    "registries[0]: endpoint: http://192.0.2.1:5000\nhost: docker.io\ninsecureSkipVerify: false > - (live)",
                ],
            ),
        ];
        for (before, after, expected) in table {
            assert_eq!(changes(before, after), expected, "{before} to {after}");
        }
    }
}
