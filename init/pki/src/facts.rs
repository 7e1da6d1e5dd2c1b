//! What the plan depends on.

use std::net::IpAddr;

/// Which program keeps the cluster's objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Datastore {
    /// etcd, reached over mutual TLS.
    Etcd,
    /// kine with SQLite, reached over a unix socket: no certificates.
    Sqlite,
}

/// The facts of a node that its certificates speak of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeFacts {
    /// The Node object's name.
    pub node_name: String,
    /// Every address of the node that others use, the primary one first.
    pub node_addresses: Vec<IpAddr>,
    /// The ClusterIP of the `kubernetes` Service.
    pub api_service_address: IpAddr,
    /// The cluster's DNS domain.
    pub cluster_domain: String,
    /// Which datastore runs.
    pub datastore: Datastore,
}

#[cfg(test)]
pub(crate) fn test_facts(datastore: Datastore) -> NodeFacts {
    NodeFacts {
        node_name: "keelson-0a1b2c".to_owned(),
        node_addresses: vec!["10.0.2.15".parse().unwrap(), "fd00::15".parse().unwrap()],
        api_service_address: "10.96.0.1".parse().unwrap(),
        cluster_domain: "cluster.local".to_owned(),
        datastore,
    }
}
