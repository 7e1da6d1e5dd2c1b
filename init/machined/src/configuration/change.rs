//! What it takes to go from one configuration to another: pure decisions.

use std::net::IpAddr;

use keelson_api::v1alpha1::Change;
use keelson_config::{Effect, MachineId, Network, NodeConfig, diff};

use super::programs::Programs;
use crate::daemon::Plan;
use crate::facts::{self, Facts, ServiceNetworkTooSmall};

/// What a new configuration is compared with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Present<'a> {
    /// The one in use, every default filled in.
    pub(crate) in_use: &'a NodeConfig,
    /// What of it is in force: a change may wait for a reboot.
    pub(crate) in_force: &'a NodeConfig,
    /// What PID 1 puts into command lines now.
    pub(crate) facts: &'a Facts,
    /// The image's services.
    pub(crate) programs: &'a Programs,
    /// The machine.
    pub(crate) id: &'a MachineId,
}

/// Says what a configuration changes; both have their defaults filled in.
pub(crate) fn plan(
    present: Present<'_>,
    wanted: &NodeConfig,
) -> Result<Plan, ServiceNetworkTooSmall> {
    let mut after = present.facts.clone();
    let live = live_part(wanted, present.in_force);
    let name = present.facts.get("node-name").cloned().unwrap_or_default();
    after.extend(facts::from_config(&live, &name, present.id)?);
    let node_ip = present.facts.get("node-ip").map_or("", String::as_str);
    let moves = address_changes(&present.in_force.network, &wanted.network, node_ip);
    if moves {
        after.insert("node-ip".to_owned(), "another".to_owned());
    }
    let changes = diff(present.in_use, wanted)
        .into_iter()
        .map(|change| {
            let restarts = moves && change.path.starts_with("network.interfaces");
            let effect = if restarts {
                change.effect.max(Effect::Restart)
            } else {
                change.effect
            };
            Change {
                path: change.path,
                before: change.before.unwrap_or_default(),
                after: change.after.unwrap_or_default(),
                effect: effect.as_str().to_owned(),
            }
        })
        .collect();
    Ok(Plan {
        changes,
        reboot: !waiting_for_reboot(present.in_force, wanted).is_empty(),
        restarts: present.programs.affected(present.facts, &after),
    })
}

/// Keys that a cluster was made with and that no node can change, with what to do; `None` when
/// the configuration changes none.
pub(crate) fn refusal(in_use: &NodeConfig, wanted: &NodeConfig) -> Option<String> {
    let fixed: Vec<String> = diff(in_use, wanted)
        .into_iter()
        .filter(|change| change.effect == Effect::Reset)
        .map(|change| {
            let before = change.before.unwrap_or_default();
            format!("{} (the cluster has {before})", change.path)
        })
        .collect();
    (!fixed.is_empty()).then(|| {
        format!(
            "these keys cannot change once there is a cluster, because its objects on DATA were \
             made with them: {}; give the values they have, or begin a new cluster with \
             `keelsonctl reset`",
            fixed.join(", ")
        )
    })
}

/// Keys whose new value is in force only after a reboot.
pub(crate) fn waiting_for_reboot(in_force: &NodeConfig, wanted: &NodeConfig) -> Vec<String> {
    diff(in_force, wanted)
        .into_iter()
        .filter(|change| change.effect == Effect::Reboot)
        .map(|change| change.path)
        .collect()
}

/// A configuration as far as it can be in force without a reboot.
pub(crate) fn live_part(wanted: &NodeConfig, in_force: &NodeConfig) -> NodeConfig {
    NodeConfig {
        hostname: in_force.hostname.clone(),
        ..wanted.clone()
    }
}

/// Whether the node will (or, where DHCP decides, may) have another address.
fn address_changes(before: &Network, after: &Network, node_ip: &str) -> bool {
    let primary = node_ip.split(',').next().unwrap_or_default();
    let Ok(address) = primary.parse::<IpAddr>() else {
        return false;
    };
    let is_static = |network: &Network| {
        let mut addresses = network.interfaces.iter().flat_map(|i| &i.addresses);
        addresses.any(|own| own.address() == address)
    };
    let by_dhcp = |network: &Network| {
        network.interfaces.is_empty() || network.interfaces.iter().any(|i| i.dhcp4)
    };
    match (is_static(before), is_static(after)) {
        (_, true) => false,
        (true, false) => true,
        (false, false) => !by_dhcp(after),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use keelson_config::EFFECTS;

    use super::*;

    fn id() -> MachineId {
        MachineId::from_bytes([7; 16])
    }

    fn config(body: &str) -> NodeConfig {
        let name = if body.contains("hostname") {
            ""
        } else {
            "hostname: a\n"
        };
        let text = format!("apiVersion: keelson.dev/v1alpha1\nkind: NodeConfig\n{name}{body}");
        NodeConfig::parse(text, "x").unwrap().effective(&id())
    }

    /// Changes as `path effect`, then services, then whether it takes a reboot.
    fn planned(before: &str, after: &str) -> String {
        let before = config(before);
        let services = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../../rootfs/tree/usr/share/keelson/services");
        let mut facts = facts::from_config(&before, "a", &id()).unwrap();
        facts.insert("node-ip".to_owned(), "192.0.2.7".to_owned());
        let present = Present {
            in_use: &before,
            in_force: &before,
            facts: &facts,
            programs: &Programs::read(&services).unwrap(),
            id: &id(),
        };
        let plan = plan(present, &config(after)).unwrap();
        let mut words: Vec<_> = plan
            .changes
            .iter()
            .map(|change| format!("{} {}", change.path, change.effect))
            .collect();
        words.extend(plan.restarts);
        words.extend(plan.reboot.then(|| "reboot".to_owned()));
        words.join(", ")
    }

    #[test]
    fn table() {
        let dhcp = "network: {interfaces: [{name: eth0, dhcp4: true}]}\n";
        let fixed = "network: {interfaces: [{name: eth0, addresses: [192.0.2.7/24]}]}\n";
        let moved = "network: {interfaces: [{name: eth0, addresses: [192.0.2.8/24]}]}\n";
        let table = [
            ("", "", ""),
            ("", "hostname: b\n", "hostname reboot, reboot"),
            (
                "",
                "registries: [{host: docker.io, endpoint: \"http://192.0.2.1:5000\"}]\n",
                "registries[0] live",
            ),
            (
                "",
                "services: {etcd: {memoryMax: 1Gi}}\n",
                "services.etcd live",
            ),
            (
                "",
                "cluster: {name: other}\n",
                "cluster.name restart, kube-controller-manager",
            ),
            // The same address, but no longer by DHCP.
            ("", fixed, "network.interfaces[0] live"),
            (
                "",
                moved,
                "network.interfaces[0] restart, kube-apiserver, kubelet",
            ),
            (
                fixed,
                moved,
                "network.interfaces[0].addresses[0] restart, kube-apiserver, kubelet",
            ),
            (
                fixed,
                dhcp,
                "network.interfaces[0].addresses[0] restart, network.interfaces[0].dhcp4 restart, \
                 kube-apiserver, kubelet",
            ),
            ("", dhcp, "network.interfaces[0] live"),
        ];
        for (before, after, expected) in table {
            assert_eq!(planned(before, after), expected, "{before} to {after}");
        }
    }

    #[test]
    fn what_a_cluster_was_made_with_is_refused_with_a_way_out() {
        let before = config("");
        assert_eq!(refusal(&before, &config("cluster: {name: b}\n")), None);
        let words = refusal(
            &before,
            &config("cluster: {datastore: sqlite, serviceCIDR: 10.100.0.0/16}\n"),
        )
        .unwrap();
        for part in [
            "cluster.datastore (the cluster has etcd)",
            "cluster.serviceCIDR (the cluster has 10.96.0.0/12)",
            "keelsonctl reset",
        ] {
            assert!(words.contains(part), "{words}");
        }
    }

    #[test]
    fn the_live_part_keeps_every_key_that_takes_a_reboot() {
        let rebooting: Vec<_> = EFFECTS
            .iter()
            .filter(|(_, effect)| *effect == Effect::Reboot)
            .map(|(key, _)| *key)
            .collect();
        assert_eq!(rebooting, ["hostname"], "teach live_part");
        let (before, mut wanted) = (config(""), config("cluster: {name: b}\n"));
        wanted.hostname = Some("b".parse().unwrap());
        let live = live_part(&wanted, &before);
        assert_eq!(waiting_for_reboot(&before, &wanted), ["hostname"]);
        assert_eq!(waiting_for_reboot(&before, &live), [""; 0]);
        assert_eq!(live.cluster.name.as_str(), "b");
    }
}
