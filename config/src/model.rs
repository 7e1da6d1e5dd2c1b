//! The types of a node's configuration. Their documentation is the text of the generated
//! reference page and of the JSON schema.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::address::{Cidr, InterfaceAddress, Mtu, RouteTarget};
use crate::certificate::CertificatePem;
use crate::endpoint::Endpoint;
use crate::limits::{CpuWeight, ServiceName, Size};
use crate::name::{
    ClusterName, Domain, Hostname, InterfaceName, MachineId, RegistryHost, ServerName,
};
use crate::upgrade::Upgrade;

/// The configuration of one node: one YAML document, at most 256 KiB.
///
/// Only `apiVersion` and `kind` are required; everything else has a default. A key that is
/// unknown or given twice is an error.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NodeConfig {
    /// Version of this format: `keelson.dev/v1alpha1`.
    pub api_version: ApiVersion,
    /// Kind of this document: `NodeConfig`.
    pub kind: Kind,
    /// Name of the node: its host name and its name in Kubernetes. Without it the node is called
    /// `keelson-` and the first 6 digits of its machine id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hostname: Option<Hostname>,
    /// Interfaces, name servers and time servers of this node.
    #[serde(default)]
    pub network: Network,
    /// Mirrors that are asked for images instead of the registries in image references. One entry
    /// per registry.
    #[serde(default)]
    pub registries: Vec<RegistryMirror>,
    /// Who may use the node API.
    #[serde(default)]
    pub api: Api,
    /// Limits of the programs of this node, by service; what is not given here has the limits
    /// that come with the image (`keelsonctl config show --defaults` shows them).
    #[serde(default)]
    pub services: BTreeMap<ServiceName, ServiceLimits>,
    /// How this node takes over another version of Keelson.
    #[serde(default)]
    pub upgrade: Upgrade,
    /// What all nodes of the cluster share.
    #[serde(default)]
    pub cluster: Cluster,
}

impl NodeConfig {
    /// The configuration of a node that was given none: every default, with the host name made
    /// from the machine id.
    pub fn default_for(id: &MachineId) -> Self {
        Self {
            api_version: ApiVersion::V1Alpha1,
            kind: Kind::NodeConfig,
            hostname: None,
            network: Network::default(),
            registries: Vec::new(),
            api: Api::default(),
            services: BTreeMap::new(),
            upgrade: Upgrade::default(),
            cluster: Cluster::default(),
        }
        .effective(id)
    }

    /// This configuration with every default filled in; nothing that was given changes.
    #[must_use]
    pub fn effective(mut self, id: &MachineId) -> Self {
        self.hostname
            .get_or_insert_with(|| Hostname::for_machine(id));
        self
    }
}

/// Versions of the configuration format.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum ApiVersion {
    /// The first version; keys may still change between releases.
    #[serde(rename = "keelson.dev/v1alpha1")]
    V1Alpha1,
}

/// Kinds of documents.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum Kind {
    /// The configuration of one node.
    NodeConfig,
}

/// Network of the node itself (the pod network belongs to `cluster`).
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Network {
    /// Interfaces to configure. When the list is empty, every Ethernet link is brought up and
    /// asks for an address by DHCPv4; as soon as one is listed, only listed ones are touched.
    pub interfaces: Vec<Interface>,
    /// DNS servers, in the order in which they are asked. Servers given here are used instead of
    /// those that DHCP or router advertisements offer.
    pub nameservers: Vec<IpAddr>,
    /// Domains that are tried for names without a dot. Given here, they replace those of DHCP.
    pub search_domains: Vec<Domain>,
    /// SNTP servers, asked in this order at boot, before certificates are made, and then those
    /// that DHCP offers. Without either, the clock stays as the hardware has it: a node asks
    /// nobody it was not told about.
    pub time_servers: Vec<ServerName>,
}

/// One network interface.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Interface {
    /// Name of the interface in the kernel, such as `eth0`.
    pub name: InterfaceName,
    /// Whether to ask for an IPv4 address by DHCP.
    #[serde(default)]
    pub dhcp4: bool,
    /// Static addresses, each with the length of its on-link prefix, such as `192.0.2.10/24`.
    #[serde(default)]
    pub addresses: Vec<InterfaceAddress>,
    /// Static routes through this interface.
    #[serde(default)]
    pub routes: Vec<Route>,
    /// Largest packet in bytes. Without it the driver's value stays.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu: Option<Mtu>,
}

/// One static route.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Route {
    /// Where the route leads: `default` or a network in CIDR form.
    pub to: RouteTarget,
    /// Address of the gateway. It must be on the link: inside the prefix of one of this
    /// interface's addresses, or link-local.
    pub via: IpAddr,
}

/// A mirror of one registry.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RegistryMirror {
    /// The registry as it stands in image references (host, with its port if it has one), or
    /// `_default` for every registry without an entry of its own.
    pub host: RegistryHost,
    /// URL of the mirror.
    pub endpoint: Endpoint,
    /// Accept any TLS certificate from the mirror. Only for tests: whoever is on the path can
    /// then replace images.
    #[serde(default)]
    pub insecure_skip_verify: bool,
}

/// Who may use the node API.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Api {
    /// Further authorities whose client certificates are accepted, besides the node's own. A
    /// certificate's common name is the person, its organization the role: `keelson:admin`,
    /// `keelson:operator` or `keelson:reader`.
    pub client_authorities: Vec<CertificatePem>,
}

/// Limits of one service: of its processes together, pods not included.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ServiceLimits {
    /// Memory above which the service is slowed down and has to give some back.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_high: Option<Size>,
    /// Memory above which the service is ended and started again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_max: Option<Size>,
    /// Share of the processors when they are short; 100 is normal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_weight: Option<CpuWeight>,
}

/// What all nodes of a cluster share.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Cluster {
    /// Name of the cluster, as it appears in kubeconfig files.
    pub name: ClusterName,
    /// Where the cluster keeps its state.
    pub datastore: Datastore,
    /// Network that pods get their addresses from. IPv4: prefix length 8 to 24, of which each
    /// node gets a /24. IPv6: 48 to 64, of which each node gets a /64.
    #[serde(rename = "podCIDR")]
    pub pod_cidr: Cidr,
    /// Network of the virtual addresses of Services, of the same family as `podCIDR`. IPv4:
    /// prefix length 12 to 28. IPv6: 108 to 124. The API server has the first address, cluster
    /// DNS the tenth.
    #[serde(rename = "serviceCIDR")]
    pub service_cidr: Cidr,
    /// DNS domain of the cluster: a Service is `NAME.NAMESPACE.svc.DOMAIN`.
    pub domain: Domain,
}

impl Cluster {
    /// Address of the Kubernetes API inside the cluster: the first of `serviceCIDR`.
    pub fn api_service_ip(&self) -> Option<IpAddr> {
        self.service_cidr.nth(1)
    }

    /// Address of cluster DNS: the tenth of `serviceCIDR`.
    pub fn dns_service_ip(&self) -> Option<IpAddr> {
        self.service_cidr.nth(10)
    }
}

impl Default for Cluster {
    #[expect(
        clippy::expect_used,
        reason = "constants; the test `defaults_are_valid` parses them"
    )]
    fn default() -> Self {
        Self {
            name: "keelson".parse().expect("constant"),
            datastore: Datastore::Etcd,
            pod_cidr: "10.244.0.0/16".parse().expect("constant"),
            service_cidr: "10.96.0.0/12".parse().expect("constant"),
            domain: "cluster.local".parse().expect("constant"),
        }
    }
}

/// Programs that can hold the cluster's state.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub enum Datastore {
    /// etcd, one member on this node.
    #[default]
    Etcd,
    /// kine with an SQLite file on this node.
    Sqlite,
}

impl Datastore {
    /// The word used in the configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Etcd => "etcd",
            Self::Sqlite => "sqlite",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_valid() {
        let id: MachineId = "0123456789abcdef0123456789abcdef".parse().unwrap();
        let config = NodeConfig::default_for(&id);
        assert_eq!(config.hostname.as_ref().unwrap().as_str(), "keelson-012345");
        // A node asks nobody it was not told about.
        assert_eq!(config.network, Network::default());
        assert!(config.network.time_servers.is_empty());
        assert_eq!(
            config.cluster.api_service_ip().unwrap().to_string(),
            "10.96.0.1"
        );
        assert_eq!(
            config.cluster.dns_service_ip().unwrap().to_string(),
            "10.96.0.10"
        );
    }
}
