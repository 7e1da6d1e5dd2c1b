//! The rules that concern more than one value.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::address::{Cidr, Family, RouteTarget};
use crate::certificate::CertificatePem;
use crate::model::{Cluster, Interface, NodeConfig};
use crate::upgrade::Upgrade;

/// A broken rule: at which key, what is wrong, what to do.
pub(crate) struct Finding {
    pub(crate) key_path: String,
    pub(crate) problem: String,
    pub(crate) advice: String,
}

impl Finding {
    fn new(
        key_path: impl Into<String>,
        problem: impl Into<String>,
        advice: impl Into<String>,
    ) -> Self {
        Self {
            key_path: key_path.into(),
            problem: problem.into(),
            advice: advice.into(),
        }
    }
}

/// The first broken rule, if any.
pub(crate) fn validate(config: &NodeConfig) -> Result<(), Finding> {
    interfaces(&config.network.interfaces)?;
    name_servers(&config.network.nameservers)?;
    registries(config)?;
    client_authorities(&config.api.client_authorities)?;
    services(config)?;
    upgrade(&config.upgrade)?;
    cluster(&config.cluster)?;
    cluster_against_node(config)
}

fn interfaces(interfaces: &[Interface]) -> Result<(), Finding> {
    let mut names = BTreeMap::new();
    let mut addresses = BTreeMap::new();
    for (i, interface) in interfaces.iter().enumerate() {
        let path = format!("network.interfaces[{i}]");
        if let Some(first) = names.insert(&interface.name, i) {
            return Err(Finding::new(
                format!("{path}.name"),
                format!(
                    "{} is already configured by network.interfaces[{first}]",
                    interface.name
                ),
                "put both into one entry",
            ));
        }
        for (j, address) in interface.addresses.iter().enumerate() {
            let path = format!("{path}.addresses[{j}]");
            if let Some(first) = addresses.insert(address.address(), path.clone()) {
                return Err(Finding::new(
                    path,
                    format!("{} is already given at {first}", address.address()),
                    "remove one of the two",
                ));
            }
        }
        routes(interface, &path)?;
    }
    Ok(())
}

fn routes(interface: &Interface, path: &str) -> Result<(), Finding> {
    for (j, route) in interface.routes.iter().enumerate() {
        let path = format!("{path}.routes[{j}]");
        let family = Family::of(route.via);
        if let RouteTarget::Network(target) = route.to
            && target.family() != family
        {
            return Err(Finding::new(
                format!("{path}.via"),
                format!(
                    "the gateway {} is {family}, the target {target} is not",
                    route.via
                ),
                format!("give a gateway of the family of {target}"),
            ));
        }
        if route.via.is_unspecified() || route.via.is_multicast() || route.via.is_loopback() {
            return Err(Finding::new(
                format!("{path}.via"),
                format!("{} cannot be a gateway", route.via),
                "give the router's address on this link",
            ));
        }
        if interface
            .addresses
            .iter()
            .any(|own| own.address() == route.via)
        {
            return Err(Finding::new(
                format!("{path}.via"),
                format!("{} is an address of this node itself", route.via),
                "give the router's address on this link",
            ));
        }
        // With DHCP the on-link prefix is not known here: netd finds out.
        let unknown = interface.dhcp4 && family == Family::V4;
        let on_link = is_link_local_v6(route.via)
            || interface
                .addresses
                .iter()
                .any(|own| own.network().contains(route.via));
        if !unknown && !on_link {
            let known: Vec<String> = interface
                .addresses
                .iter()
                .filter(|own| own.family() == family)
                .map(|own| own.network().to_string())
                .collect();
            let advice = if known.is_empty() {
                format!(
                    "give {} an {family} address whose prefix holds the gateway",
                    interface.name
                )
            } else {
                format!("use a gateway inside {}", known.join(" or "))
            };
            return Err(Finding::new(
                format!("{path}.via"),
                format!(
                    "the gateway {} is not on the link of {}",
                    route.via, interface.name
                ),
                advice,
            ));
        }
    }
    Ok(())
}

fn name_servers(servers: &[IpAddr]) -> Result<(), Finding> {
    for (i, server) in servers.iter().enumerate() {
        let path = || format!("network.nameservers[{i}]");
        if server.is_unspecified() || server.is_multicast() {
            return Err(Finding::new(
                path(),
                format!("{server} cannot be a DNS server"),
                "correct it",
            ));
        }
        if servers.iter().take(i).any(|earlier| earlier == server) {
            return Err(Finding::new(
                path(),
                format!("{server} is listed twice"),
                "remove one",
            ));
        }
    }
    Ok(())
}

fn registries(config: &NodeConfig) -> Result<(), Finding> {
    let mut hosts = BTreeMap::new();
    for (i, mirror) in config.registries.iter().enumerate() {
        if let Some(first) = hosts.insert(&mirror.host, i) {
            return Err(Finding::new(
                format!("registries[{i}].host"),
                format!(
                    "{} already has a mirror at registries[{first}]",
                    mirror.host
                ),
                "keep one entry per registry",
            ));
        }
        if mirror.insecure_skip_verify && !mirror.endpoint.uses_tls() {
            return Err(Finding::new(
                format!("registries[{i}].insecureSkipVerify"),
                format!("{} has no TLS certificate to skip", mirror.endpoint),
                "remove the key, or use https://",
            ));
        }
    }
    Ok(())
}

fn client_authorities(authorities: &[CertificatePem]) -> Result<(), Finding> {
    for (i, authority) in authorities.iter().enumerate() {
        if let Some(first) = authorities.iter().take(i).position(|a| a == authority) {
            return Err(Finding::new(
                format!("api.clientAuthorities[{i}]"),
                format!("this certificate is already listed at api.clientAuthorities[{first}]"),
                "remove one of the two",
            ));
        }
    }
    Ok(())
}

fn services(config: &NodeConfig) -> Result<(), Finding> {
    for (name, limits) in &config.services {
        if let (Some(high), Some(max)) = (limits.memory_high, limits.memory_max)
            && high > max
        {
            return Err(Finding::new(
                format!("services.{name}.memoryHigh"),
                format!("{high} is more than memoryMax {max}, so it would never be reached"),
                "give less than memoryMax",
            ));
        }
    }
    Ok(())
}

/// Shorter, and no node would be up in time; longer, and a person would not wait for it.
const HEALTH_DEADLINE_SECS: std::ops::RangeInclusive<u64> = 60..=7200;
/// Kubernetes itself notices within a minute what does not work; a second is for tests.
const STABLE_FOR_SECS: std::ops::RangeInclusive<u64> = 1..=3600;
/// Beyond it somebody should look at the pods that do not go.
const DRAIN_TIMEOUT_SECS: std::ops::RangeInclusive<u64> = 0..=3600;

fn upgrade(upgrade: &Upgrade) -> Result<(), Finding> {
    let spans = [
        (
            "healthDeadline",
            upgrade.health_deadline,
            HEALTH_DEADLINE_SECS,
            "1m to 2h",
        ),
        ("stableFor", upgrade.stable_for, STABLE_FOR_SECS, "1s to 1h"),
        (
            "drainTimeout",
            upgrade.drain_timeout,
            DRAIN_TIMEOUT_SECS,
            "0s to 1h",
        ),
    ];
    for (key, span, allowed, words) in spans {
        if !allowed.contains(&span.duration().as_secs()) {
            return Err(Finding::new(
                format!("upgrade.{key}"),
                format!("{span} is out of range"),
                format!("use {words}"),
            ));
        }
    }
    if upgrade.stable_for >= upgrade.health_deadline {
        return Err(Finding::new(
            "upgrade.stableFor",
            format!(
                "{} is not shorter than healthDeadline {}, so no version could ever prove itself",
                upgrade.stable_for, upgrade.health_deadline
            ),
            "give less than healthDeadline",
        ));
    }
    for (i, check) in upgrade.checks.iter().enumerate() {
        if upgrade
            .checks
            .iter()
            .take(i)
            .any(|earlier| earlier == check)
        {
            return Err(Finding::new(
                format!("upgrade.checks[{i}]"),
                format!("{check} is listed twice"),
                "remove one",
            ));
        }
    }
    Ok(())
}

fn cluster(cluster: &Cluster) -> Result<(), Finding> {
    let Cluster {
        pod_cidr,
        service_cidr,
        ..
    } = cluster;
    for (key, cidr) in [
        ("cluster.podCIDR", pod_cidr),
        ("cluster.serviceCIDR", service_cidr),
    ] {
        if is_special(cidr) {
            return Err(Finding::new(
                key,
                format!("{cidr} holds loopback, link-local or multicast addresses"),
                "use a private network, such as 10.244.0.0/16 or fd00:10:244::/56",
            ));
        }
    }
    // One /24 (IPv6: /64) per node, and kube-controller-manager refuses more than 16 bits between.
    let pod_lengths = match pod_cidr.family() {
        Family::V4 => 8..=24,
        Family::V6 => 48..=64,
    };
    if !pod_lengths.contains(&pod_cidr.prefix_len()) {
        return Err(length_finding(
            "cluster.podCIDR",
            pod_cidr,
            &pod_lengths,
            "each node gets a part",
        ));
    }
    // kube-apiserver refuses ranges of more than 20 bits; the DNS service sits at the tenth place.
    let service_lengths = match service_cidr.family() {
        Family::V4 => 12..=28,
        Family::V6 => 108..=124,
    };
    if !service_lengths.contains(&service_cidr.prefix_len()) {
        return Err(length_finding(
            "cluster.serviceCIDR",
            service_cidr,
            &service_lengths,
            "the API server accepts no larger range, and cluster DNS needs the tenth address",
        ));
    }
    if pod_cidr.family() != service_cidr.family() {
        return Err(Finding::new(
            "cluster.serviceCIDR",
            format!(
                "{service_cidr} is {}, podCIDR {pod_cidr} is {}",
                service_cidr.family(),
                pod_cidr.family()
            ),
            "use the same family for both",
        ));
    }
    if pod_cidr.overlaps(service_cidr) {
        // Point at the one that was written, not at a default.
        let (key, this, other) = if *service_cidr == Cluster::default().service_cidr {
            (
                "cluster.podCIDR",
                pod_cidr,
                format!("serviceCIDR {service_cidr}"),
            )
        } else {
            (
                "cluster.serviceCIDR",
                service_cidr,
                format!("podCIDR {pod_cidr}"),
            )
        };
        return Err(Finding::new(
            key,
            format!("{this} overlaps with {other}"),
            "choose two separate networks",
        ));
    }
    Ok(())
}

fn length_finding(
    key: &str,
    cidr: &Cidr,
    allowed: &std::ops::RangeInclusive<u8>,
    why: &str,
) -> Finding {
    Finding::new(
        key,
        format!(
            "the prefix length {} of {cidr} is out of range ({why})",
            cidr.prefix_len()
        ),
        format!("use a length from {} to {}", allowed.start(), allowed.end()),
    )
}

/// Pods could not reach the node's own network, or the node its gateway.
fn cluster_against_node(config: &NodeConfig) -> Result<(), Finding> {
    let ranges = [
        ("cluster.podCIDR", config.cluster.pod_cidr),
        ("cluster.serviceCIDR", config.cluster.service_cidr),
    ];
    for (key, range) in ranges {
        for (i, interface) in config.network.interfaces.iter().enumerate() {
            for (j, address) in interface.addresses.iter().enumerate() {
                if range.overlaps(&address.network()) {
                    return Err(Finding::new(
                        key,
                        format!(
                            "{range} overlaps with the node's network {} (network.interfaces[{i}].addresses[{j}])",
                            address.network()
                        ),
                        "choose a network that the node's own networks do not use",
                    ));
                }
            }
        }
        if let Some((i, server)) = config
            .network
            .nameservers
            .iter()
            .enumerate()
            .find(|(_, server)| range.contains(**server))
        {
            return Err(Finding::new(
                format!("network.nameservers[{i}]"),
                format!("{server} is inside {key} {range}, which the node cannot reach at boot"),
                "give a DNS server outside of the cluster",
            ));
        }
    }
    Ok(())
}

fn is_link_local_v6(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local())
}

/// Whether the network touches a range that is never routed to pods or services.
fn is_special(cidr: &Cidr) -> bool {
    [
        "0.0.0.0/8",
        "127.0.0.0/8",
        "169.254.0.0/16",
        "224.0.0.0/3",
        "::/8",
        "fe80::/10",
        "ff00::/8",
    ]
    .iter()
    .filter_map(|text| text.parse::<Cidr>().ok())
    .any(|special| special.overlaps(cidr))
}
