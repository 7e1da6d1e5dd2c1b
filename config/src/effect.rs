//! What it takes until a changed key is in force: the one table.

use std::fmt;

/// What a change takes, the least first.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Effect {
    /// Nothing: in force at once, no connection of a pod is cut.
    Live,
    /// Services start again; pods go on.
    Restart,
    /// The node starts again.
    Reboot,
    /// A new cluster: what is on DATA was made for the old value.
    Reset,
}

impl Effect {
    /// The word people use.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Restart => "restart",
            Self::Reboot => "reboot",
            Self::Reset => "reset",
        }
    }
}

impl fmt::Display for Effect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Every key, `[]` for the entries of a list and `*` for the names in a map.
pub const EFFECTS: &[(&str, Effect)] = &[
    ("apiVersion", Effect::Live),
    ("kind", Effect::Live),
    // Name of the Node object, of etcd's member and in certificates.
    ("hostname", Effect::Reboot),
    // netd takes them over. Services that were started with the node's address start again when
    // that is another one afterwards.
    ("network.interfaces[].name", Effect::Live),
    ("network.interfaces[].dhcp4", Effect::Live),
    ("network.interfaces[].addresses[]", Effect::Live),
    ("network.interfaces[].routes[].to", Effect::Live),
    ("network.interfaces[].routes[].via", Effect::Live),
    ("network.interfaces[].mtu", Effect::Live),
    ("network.nameservers[]", Effect::Live),
    ("network.searchDomains[]", Effect::Live),
    ("network.timeServers[]", Effect::Live),
    // containerd reads these files at every pull.
    ("registries[].host", Effect::Live),
    ("registries[].endpoint", Effect::Live),
    ("registries[].insecureSkipVerify", Effect::Live),
    ("api.clientAuthorities[]", Effect::Live),
    ("services.*.memoryHigh", Effect::Live),
    ("services.*.memoryMax", Effect::Live),
    ("services.*.cpuWeight", Effect::Live),
    // Looked at when an upgrade needs them.
    ("upgrade.healthDeadline", Effect::Live),
    ("upgrade.stableFor", Effect::Live),
    ("upgrade.drainTimeout", Effect::Live),
    ("upgrade.writeLimit", Effect::Live),
    ("upgrade.checks[]", Effect::Live),
    ("cluster.name", Effect::Restart),
    ("cluster.datastore", Effect::Reset),
    ("cluster.podCIDR", Effect::Reset),
    ("cluster.serviceCIDR", Effect::Reset),
    ("cluster.domain", Effect::Reset),
];

/// What a change at a key path takes: the most of all keys at it and below it.
pub(crate) fn effect_of(path: &str) -> Effect {
    let general = generalized(path);
    let below = |key: &str| {
        key.strip_prefix(&general)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
    };
    EFFECTS
        .iter()
        .filter(|(key, _)| below(key))
        .map(|(_, effect)| *effect)
        .max()
        // The tests cover every key; one that is missing all the same is in force after this.
        .unwrap_or(Effect::Reboot)
}

/// `network.interfaces[0].dhcp4` as `network.interfaces[].dhcp4`, `services.etcd.memoryMax` as
/// `services.*.memoryMax`.
fn generalized(path: &str) -> String {
    let mut general = String::new();
    for (depth, part) in path.split('.').enumerate() {
        if depth > 0 {
            general.push('.');
        }
        if depth == 1 && general == "services." {
            general.push('*');
            continue;
        }
        match part.split_once('[') {
            Some((key, _)) => {
                general.push_str(key);
                general.push_str("[]");
            }
            None => general.push_str(part),
        }
    }
    general
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_stands_for_everything_below_it() {
        for (path, effect) in [
            ("hostname", Effect::Reboot),
            ("network.interfaces[12].addresses[0]", Effect::Live),
            ("network.interfaces[0]", Effect::Live),
            ("services.etcd", Effect::Live),
            ("services.etcd.memoryMax", Effect::Live),
            ("cluster", Effect::Reset),
            ("cluster.name", Effect::Restart),
            ("cluster.nam", Effect::Reboot),
        ] {
            assert_eq!(effect_of(path), effect, "{path}");
        }
    }
}
