//! The part of the node's configuration that netd acts on.

use std::net::IpAddr;

use keelson_config::{Cidr, Family, NodeConfig, RouteTarget};

use crate::model::{Link, LinkAddress, LinkKind, everything};

/// What the configuration asks of the network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Settings {
    pub(crate) host_name: String,
    pub(crate) interfaces: Interfaces,
    /// Replace what DHCP and routers say, when there are any.
    pub(crate) nameservers: Vec<IpAddr>,
    pub(crate) search_domains: Vec<String>,
    pub(crate) time_servers: Vec<String>,
    /// Networks of the cluster's services: they must have a route even where nothing else has.
    pub(crate) service_networks: Vec<Cidr>,
}

/// Which links netd looks after.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Interfaces {
    /// Nothing was said: every network card, by DHCP.
    EveryCard,
    /// Those that are named.
    Named(Vec<Interface>),
}

/// What the configuration says about one link.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Interface {
    pub(crate) name: String,
    pub(crate) dhcp4: bool,
    pub(crate) addresses: Vec<LinkAddress>,
    pub(crate) routes: Vec<StaticRoute>,
    pub(crate) mtu: Option<u32>,
}

/// A route from the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct StaticRoute {
    pub(crate) to: Cidr,
    pub(crate) via: IpAddr,
}

impl Settings {
    /// Takes over what concerns the network.
    pub(crate) fn new(config: &NodeConfig) -> Self {
        let network = &config.network;
        let interfaces = if network.interfaces.is_empty() {
            Interfaces::EveryCard
        } else {
            Interfaces::Named(network.interfaces.iter().map(Interface::new).collect())
        };
        Self {
            host_name: config
                .hostname
                .as_ref()
                .map(|name| name.as_str().to_owned())
                .unwrap_or_default(),
            interfaces,
            nameservers: network.nameservers.clone(),
            search_domains: network
                .search_domains
                .iter()
                .map(|name| name.as_str().to_owned())
                .collect(),
            time_servers: network
                .time_servers
                .iter()
                .map(ToString::to_string)
                .collect(),
            service_networks: vec![config.cluster.service_cidr],
        }
    }

    /// What is wanted of `link`; `None` if it is none of netd's business.
    pub(crate) fn interface(&self, link: &Link) -> Option<Interface> {
        match &self.interfaces {
            Interfaces::EveryCard => (link.kind == LinkKind::Ethernet).then(|| Interface {
                name: link.name.clone(),
                dhcp4: true,
                ..Interface::default()
            }),
            Interfaces::Named(list) => list
                .iter()
                .find(|interface| interface.name == link.name)
                .cloned(),
        }
    }
}

impl Interface {
    fn new(interface: &keelson_config::Interface) -> Self {
        let routes = interface.routes.iter().filter_map(|route| {
            let to = match route.to {
                RouteTarget::Default => everything(Family::of(route.via))?,
                RouteTarget::Network(network) => network,
            };
            Some(StaticRoute { to, via: route.via })
        });
        Self {
            name: interface.name.as_str().to_owned(),
            dhcp4: interface.dhcp4,
            addresses: interface
                .addresses
                .iter()
                .filter_map(|address| LinkAddress::new(address.address(), address.prefix_len()))
                .collect(),
            routes: routes.collect(),
            mtu: interface.mtu.map(|mtu| mtu.bytes()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configuration_is_taken_over() {
        let text = "
apiVersion: keelson.dev/v1alpha1
kind: NodeConfig
hostname: n1
network:
  interfaces:
  - name: eth1
    addresses: [192.0.2.10/24, 'fd00::2/64']
    routes:
    - {to: default, via: 192.0.2.1}
    - {to: default, via: 'fe80::1'}
    mtu: 1400
";
        let settings = Settings::new(&NodeConfig::parse(text, "test").unwrap());
        let Interfaces::Named(list) = &settings.interfaces else {
            panic!("{settings:?}")
        };
        assert_eq!(list[0].addresses[0].to_string(), "192.0.2.10/24");
        assert_eq!(list[0].routes[0].to.to_string(), "0.0.0.0/0");
        assert_eq!(list[0].routes[1].to.to_string(), "::/0");
        assert_eq!((list[0].mtu, list[0].dhcp4), (Some(1400), false));
        assert_eq!(settings.service_networks[0].to_string(), "10.96.0.0/12");
    }
}
