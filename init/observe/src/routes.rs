//! Routes of both families and all tables.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use keelson_api::v1alpha1::Route;
use rtnetlink::RouteMessageBuilder;
use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteVia,
};

use crate::links;
use crate::netlink::{Connection, NetlinkError, list};

/// The table with the machine's own addresses (RT_TABLE_LOCAL of linux/rtnetlink.h).
const LOCAL: u32 = 255;

/// What netd marks its routes with, a number nobody else uses.
const NETD: u8 = 75;

/// Most routes in an answer: with 150 bytes each they stay below the longest message.
const MAX_ROUTES: usize = 16_384;

/// All routes, in the kernel's order; one with several next hops is listed once for each.
///
/// # Errors
/// The kernel does not answer. Must be called inside a tokio runtime.
pub async fn routes() -> Result<Vec<Route>, NetlinkError> {
    let connection = Connection::open()?;
    let names = links::names(&connection).await?;
    let mut found = Vec::new();
    for query in [
        RouteMessageBuilder::<Ipv4Addr>::new().build(),
        RouteMessageBuilder::<Ipv6Addr>::new().build(),
    ] {
        let messages = list("routes", connection.handle().route().get(query).execute()).await?;
        found.extend(
            messages
                .iter()
                .flat_map(|message| routes_of(message, &names)),
        );
    }
    found.truncate(MAX_ROUTES);
    Ok(found)
}

fn routes_of(message: &RouteMessage, names: &BTreeMap<u32, String>) -> Vec<Route> {
    let mut route = Route {
        destination: "default".to_owned(),
        protocol: protocol(message.header.protocol),
        table: table(u32::from(message.header.table)),
        ..Route::default()
    };
    let length = message.header.destination_prefix_length;
    let mut hops = Vec::new();
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Table(number) => route.table = table(*number),
            RouteAttribute::Destination(address) => {
                if let Some(address) = ip(address) {
                    route.destination = format!("{address}/{length}");
                }
            }
            RouteAttribute::PrefSource(address) => {
                route.source = ip(address).map(|ip| ip.to_string()).unwrap_or_default();
            }
            RouteAttribute::Priority(metric) => route.metric = *metric,
            RouteAttribute::MultiPath(paths) => hops.clone_from(paths),
            RouteAttribute::Oif(index) => route.interface = interface(names, *index),
            _ => {}
        }
    }
    route.gateway = gateway(&message.attributes);
    if hops.is_empty() {
        return vec![route];
    }
    hops.iter()
        .map(|hop| Route {
            gateway: gateway(&hop.attributes),
            interface: interface(names, hop.interface_index),
            ..route.clone()
        })
        .collect()
}

/// Of the same family, or of another one (an IPv4 route by way of an IPv6 router).
fn gateway(attributes: &[RouteAttribute]) -> String {
    attributes
        .iter()
        .find_map(|attribute| match attribute {
            RouteAttribute::Gateway(address) => ip(address),
            RouteAttribute::Via(RouteVia::Inet(address)) => Some(IpAddr::V4(*address)),
            RouteAttribute::Via(RouteVia::Inet6(address)) => Some(IpAddr::V6(*address)),
            _ => None,
        })
        .map(|ip| ip.to_string())
        .unwrap_or_default()
}

fn interface(names: &BTreeMap<u32, String>, index: u32) -> String {
    names
        .get(&index)
        .cloned()
        .unwrap_or_else(|| index.to_string())
}

fn table(number: u32) -> String {
    if number == u32::from(RouteHeader::RT_TABLE_MAIN) {
        "main".to_owned()
    } else if number == LOCAL {
        "local".to_owned()
    } else {
        number.to_string()
    }
}

/// Names of iproute2's rt_protos.
fn protocol(protocol: RouteProtocol) -> String {
    match protocol {
        RouteProtocol::Unspec => "none",
        RouteProtocol::IcmpRedirect => "redirect",
        RouteProtocol::Kernel => "kernel",
        RouteProtocol::Boot => "boot",
        RouteProtocol::Static => "static",
        RouteProtocol::Gated => "gated",
        RouteProtocol::Ra => "ra",
        RouteProtocol::Mrt => "mrt",
        RouteProtocol::Zebra => "zebra",
        RouteProtocol::Bird => "bird",
        RouteProtocol::DnRouted => "dnrouted",
        RouteProtocol::Xorp => "xorp",
        RouteProtocol::Ntk => "ntk",
        RouteProtocol::Dhcp => "dhcp",
        RouteProtocol::Mrouted => "mrouted",
        RouteProtocol::KeepAlived => "keepalived",
        RouteProtocol::Babel => "babel",
        RouteProtocol::Bgp => "bgp",
        RouteProtocol::Isis => "isis",
        RouteProtocol::Ospf => "ospf",
        RouteProtocol::Rip => "rip",
        RouteProtocol::Eigrp => "eigrp",
        RouteProtocol::Other(NETD) => "netd",
        other => return u8::from(other).to_string(),
    }
    .to_owned()
}

fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(address) => Some(IpAddr::V4(*address)),
        RouteAddress::Inet6(address) => Some(IpAddr::V6(*address)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use rtnetlink::RouteNextHopBuilder;

    use super::*;

    fn names() -> BTreeMap<u32, String> {
        BTreeMap::from([(2, "eth0".to_owned()), (3, "eth1".to_owned())])
    }

    #[test]
    fn a_default_route_of_netd() {
        let message = RouteMessageBuilder::<Ipv4Addr>::new()
            .gateway(Ipv4Addr::new(10, 0, 2, 2))
            .output_interface(2)
            .pref_source(Ipv4Addr::new(10, 0, 2, 15))
            .priority(100)
            .protocol(RouteProtocol::Other(NETD))
            .build();
        let expected = Route {
            destination: "default".to_owned(),
            gateway: "10.0.2.2".to_owned(),
            interface: "eth0".to_owned(),
            source: "10.0.2.15".to_owned(),
            metric: 100,
            protocol: "netd".to_owned(),
            table: "main".to_owned(),
        };
        assert_eq!(routes_of(&message, &names()), [expected]);
    }

    #[test]
    fn tables_and_unknown_links_have_numbers() {
        let message = RouteMessageBuilder::<Ipv6Addr>::new()
            .destination_prefix("2001:db8::".parse().unwrap(), 64)
            .output_interface(9)
            .table_id(1000)
            .protocol(RouteProtocol::Kernel)
            .build();
        let routes = routes_of(&message, &names());
        assert_eq!(routes[0].destination, "2001:db8::/64");
        assert_eq!(routes[0].interface, "9");
        assert_eq!(routes[0].table, "1000");
        assert_eq!(routes[0].protocol, "kernel");
        assert_eq!(table(LOCAL), "local");
        assert_eq!(protocol(RouteProtocol::Other(200)), "200");
    }

    #[test]
    fn every_next_hop_is_listed() {
        let hop = |index, last| {
            RouteNextHopBuilder::new_ipv4()
                .interface(index)
                .via(IpAddr::V4(Ipv4Addr::new(10, 0, 0, last)))
                .unwrap()
                .build()
        };
        let message = RouteMessageBuilder::<Ipv4Addr>::new()
            .destination_prefix(Ipv4Addr::new(10, 9, 0, 0), 16)
            .multipath(vec![hop(2, 1), hop(3, 2)])
            .build();
        let routes = routes_of(&message, &names());
        let hops: Vec<_> = routes
            .iter()
            .map(|route| (route.gateway.as_str(), route.interface.as_str()))
            .collect();
        assert_eq!(hops, [("10.0.0.1", "eth0"), ("10.0.0.2", "eth1")]);
        assert!(
            routes
                .iter()
                .all(|route| route.destination == "10.9.0.0/16")
        );
    }

    #[tokio::test]
    async fn the_kernel_lists_its_routes() {
        let routes = routes().await.unwrap();
        for route in &routes {
            assert!(!route.table.is_empty() && !route.protocol.is_empty());
            assert!(route.destination == "default" || route.destination.contains('/'));
        }
    }
}
