//! Which address is the node's: the one other machines reach it by.

use std::net::{IpAddr, Ipv4Addr};

use keelson_config::Family;

use crate::model::{LinkKind, Observed, is_default};

/// The link that leads to other machines, and the node's address there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Uplink {
    pub(crate) link: u32,
    pub(crate) address: Ipv4Addr,
}

/// Looks for the address on the link with the best default route, or, without such a route, on
/// the first managed link that has one.
pub(crate) fn uplink(observed: &Observed, managed: impl Fn(u32) -> bool) -> Option<Uplink> {
    let mut links: Vec<(u32, u32)> = observed
        .links
        .iter()
        .filter(|link| managed(link.index) && link.kind != LinkKind::Loopback)
        .map(|link| {
            (
                default_metric(observed, link.index).unwrap_or(u32::MAX),
                link.index,
            )
        })
        .collect();
    links.sort_unstable();
    links.into_iter().find_map(|(_, link)| {
        let address = observed
            .addresses
            .iter()
            .filter(|address| address.link == link);
        let address = address
            .filter_map(|address| reachable(address.address.address()))
            .next()?;
        Some(Uplink { link, address })
    })
}

/// Whether any network leads to the rest of the world, for IPv4.
pub(crate) fn has_default_route(observed: &Observed) -> bool {
    observed
        .routes
        .iter()
        .any(|route| is_default(route.to) && route.to.family() == Family::V4)
}

fn default_metric(observed: &Observed, link: u32) -> Option<u32> {
    let routes = observed.routes.iter().filter(|route| route.link == link);
    let defaults = routes.filter(|route| is_default(route.to) && route.to.family() == Family::V4);
    defaults.map(|route| route.metric).min()
}

fn reachable(address: IpAddr) -> Option<Ipv4Addr> {
    match address {
        IpAddr::V4(address) if !address.is_loopback() && !address.is_link_local() => Some(address),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Address, Link, LinkAddress, Owner, Route};

    fn link(index: u32, name: &str) -> Link {
        Link {
            index,
            name: name.to_owned(),
            kind: LinkKind::Ethernet,
            mac: None,
            up: true,
            carrier: true,
            mtu: 1500,
            accept_ra: None,
        }
    }

    fn address(link: u32, address: [u8; 4]) -> Address {
        let address = LinkAddress::new(address.into(), 24).unwrap();
        Address {
            link,
            address,
            owner: Owner::Netd,
            valid_for: None,
        }
    }

    fn default_route(link: u32, metric: u32) -> Route {
        Route {
            link,
            to: "0.0.0.0/0".parse().unwrap(),
            via: None,
            metric,
            owner: Owner::Netd,
        }
    }

    #[test]
    fn the_best_default_route_decides() {
        let mut seen = Observed {
            links: vec![link(2, "eth0"), link(3, "eth1")],
            addresses: vec![address(2, [10, 0, 0, 2]), address(3, [10, 0, 1, 2])],
            routes: vec![default_route(3, 700), default_route(2, 800)],
        };
        let found =
            |seen: &Observed| uplink(seen, |_| true).map(|uplink| uplink.address.to_string());
        assert_eq!(found(&seen).as_deref(), Some("10.0.1.2"));
        seen.routes.clear();
        assert_eq!(found(&seen).as_deref(), Some("10.0.0.2"));
        seen.addresses = vec![address(2, [169, 254, 1, 1]), address(3, [10, 0, 1, 2])];
        assert_eq!(found(&seen).as_deref(), Some("10.0.1.2"));
        assert_eq!(uplink(&seen, |link| link == 2), None);
    }

    #[test]
    fn the_loopback_device_is_no_uplink() {
        let mut seen = Observed {
            links: vec![link(1, "lo")],
            addresses: vec![address(1, [198, 18, 0, 1])],
            routes: vec![],
        };
        seen.links[0].kind = LinkKind::Loopback;
        assert_eq!(uplink(&seen, |_| true), None);
        assert!(!has_default_route(&seen));
    }
}
