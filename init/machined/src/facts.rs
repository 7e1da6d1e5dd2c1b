//! What templates and service definitions may refer to.

use std::collections::BTreeMap;
use std::net::IpAddr;

use keelson_config::{Datastore, MachineId, NodeConfig};
use keelson_pki::NodeFacts;

/// Facts by name, for `${name}`.
pub(crate) type Facts = BTreeMap<String, String>;

/// The configuration does not name a network that Services fit in.
#[derive(Debug, thiserror::Error)]
#[error("cluster.serviceCIDR has no room for the API server and cluster DNS")]
pub(crate) struct ServiceNetworkTooSmall;

/// Where etcd and kine listen, and what it takes to speak with them.
const ETCD: [&str; 3] = [
    "https://127.0.0.1:2379",
    "/run/keelson/rendered/etcd-ca.crt",
    "/run/keelson/secrets/kube-apiserver/etcd-client.pem",
];
/// A unix socket that only the API server can open: no TLS.
const KINE: [&str; 3] = ["unix:///run/kine/kine.sock", "", ""];

/// The facts that follow from the configuration; netd adds `node-ip`.
pub(crate) fn from_config(
    config: &NodeConfig,
    node_name: &str,
    id: &MachineId,
) -> Result<Facts, ServiceNetworkTooSmall> {
    let cluster = &config.cluster;
    let address = |address: Option<IpAddr>| {
        address
            .map(|address| address.to_string())
            .ok_or(ServiceNetworkTooSmall)
    };
    let [endpoint, authority, pair] = match cluster.datastore {
        Datastore::Etcd => ETCD,
        Datastore::Sqlite => KINE,
    };
    let facts = [
        ("api-service-ip", address(cluster.api_service_ip())?),
        ("cluster-dns", address(cluster.dns_service_ip())?),
        ("cluster-domain", cluster.domain.to_string()),
        ("cluster-name", cluster.name.to_string()),
        ("datastore", cluster.datastore.as_str().to_owned()),
        ("datastore-ca", authority.to_owned()),
        ("datastore-endpoint", endpoint.to_owned()),
        ("datastore-pair", pair.to_owned()),
        ("machine-id", id.as_str().to_owned()),
        ("node-name", node_name.to_owned()),
        ("pod-cidr", cluster.pod_cidr.to_string()),
        ("service-cidr", cluster.service_cidr.to_string()),
    ];
    Ok(facts
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect())
}

/// What the certificates depend on.
pub(crate) fn for_certificates(
    config: &NodeConfig,
    node_name: &str,
    node_addresses: Vec<IpAddr>,
) -> Result<NodeFacts, ServiceNetworkTooSmall> {
    let cluster = &config.cluster;
    Ok(NodeFacts {
        node_name: node_name.to_owned(),
        node_addresses,
        api_service_address: cluster.api_service_ip().ok_or(ServiceNetworkTooSmall)?,
        cluster_domain: cluster.domain.to_string(),
        datastore: match cluster.datastore {
            Datastore::Etcd => keelson_pki::Datastore::Etcd,
            Datastore::Sqlite => keelson_pki::Datastore::Sqlite,
        },
    })
}
