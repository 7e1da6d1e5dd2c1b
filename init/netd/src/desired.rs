//! What the kernel should have: configuration and leases put together, as data.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use keelson_config::Cidr;

use crate::lease::Lease;
use crate::model::{LinkAddress, LinkKind, Observed, Owner};
use crate::settings::Settings;

/// Routes of the configuration go before those of a lease on the same link.
const STATIC_METRIC: u32 = 512;

/// Routes on the loopback device: worse than any other.
const LOCAL_METRIC: u32 = u32::MAX;

/// Below the 1024 the kernel gives to routes from router advertisements, above static ones.
const LEASE_METRIC: u32 = 768;

/// The node's address when no network gives one. From the range for tests of network devices
/// (RFC 2544), which no network routes and nobody's LAN uses; link-local ones would do but for
/// kubelet and the API server, which refuse them. It never leaves the machine, so all may have
/// the same.
pub(crate) const LOCAL_ADDRESS: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 1);

/// What is known about one link's lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum LeaseState {
    /// Granted and not yet over.
    Held {
        lease: Lease,
        valid_for: Option<Duration>,
    },
    /// There was one; its time is over.
    Lost,
    /// Not heard of since netd started: what an earlier run left stays until a server speaks, so
    /// that a restart of netd cuts no connection.
    Unknown,
}

/// What the kernel should have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Desired {
    /// By link index.
    pub(crate) links: BTreeMap<u32, DesiredLink>,
}

/// What one link should have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct DesiredLink {
    pub(crate) mtu: Option<u32>,
    pub(crate) accept_ra: bool,
    pub(crate) addresses: Vec<DesiredAddress>,
    pub(crate) routes: Vec<DesiredRoute>,
    /// Leave our marked addresses and routes that are not listed here.
    pub(crate) keep_others: bool,
}

/// An address and how long it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DesiredAddress {
    pub(crate) address: LinkAddress,
    /// Which mark it gets.
    pub(crate) owner: Owner,
    pub(crate) valid_for: Option<Duration>,
}

impl DesiredAddress {
    fn fixed(address: LinkAddress) -> Self {
        Self {
            address,
            owner: Owner::Netd,
            valid_for: None,
        }
    }
}

/// A route of one link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DesiredRoute {
    pub(crate) to: Cidr,
    pub(crate) via: Option<IpAddr>,
    pub(crate) metric: u32,
    /// The gateway is reached on this link although no address of it says so.
    pub(crate) onlink: bool,
}

/// What must exist even with every cable out. It lives on the loopback device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Local {
    /// The node's address.
    pub(crate) address: Option<LinkAddress>,
    /// Without a default route nobody on the node could even try a service address, which
    /// kube-proxy translates only after a route was found.
    pub(crate) routes: Vec<Cidr>,
}

/// Puts configuration and leases together.
pub(crate) fn desired(
    settings: &Settings,
    observed: &Observed,
    leases: &BTreeMap<u32, LeaseState>,
    local: &Local,
) -> Desired {
    let mut links = BTreeMap::new();
    for link in &observed.links {
        if link.kind == LinkKind::Loopback {
            links.insert(link.index, loopback(local));
            continue;
        }
        let Some(interface) = settings.interface(link) else {
            continue;
        };
        // Two cards with a default route each: the first one wins, always the same.
        let position = u32::try_from(links.len()).unwrap_or(u32::MAX);
        let mut wish = DesiredLink {
            mtu: interface.mtu,
            accept_ra: true,
            ..DesiredLink::default()
        };
        wish.addresses.extend(
            interface
                .addresses
                .iter()
                .copied()
                .map(DesiredAddress::fixed),
        );
        wish.routes
            .extend(interface.routes.iter().map(|route| DesiredRoute {
                to: route.to,
                via: Some(route.via),
                metric: STATIC_METRIC.saturating_add(position),
                onlink: false,
            }));
        if interface.dhcp4 {
            add_lease(
                &mut wish,
                leases.get(&link.index).unwrap_or(&LeaseState::Unknown),
                position,
            );
        }
        mark_onlink(&mut wish);
        links.insert(link.index, wish);
    }
    Desired { links }
}

/// The kernel itself gives it 127.0.0.1 and ::1 when it is switched on.
fn loopback(local: &Local) -> DesiredLink {
    let route = |to: &Cidr| DesiredRoute {
        to: *to,
        via: None,
        metric: LOCAL_METRIC,
        onlink: false,
    };
    DesiredLink {
        addresses: local
            .address
            .map(DesiredAddress::fixed)
            .into_iter()
            .collect(),
        routes: local.routes.iter().map(route).collect(),
        ..DesiredLink::default()
    }
}

fn add_lease(wish: &mut DesiredLink, state: &LeaseState, position: u32) {
    match state {
        LeaseState::Unknown => wish.keep_others = true,
        LeaseState::Lost => {}
        LeaseState::Held { lease, valid_for } => {
            if wish
                .addresses
                .iter()
                .all(|known| known.address != lease.address)
            {
                wish.addresses.push(DesiredAddress {
                    address: lease.address,
                    owner: Owner::NetdLease,
                    valid_for: *valid_for,
                });
            }
            wish.mtu = wish.mtu.or(lease.mtu);
            for route in &lease.routes {
                wish.routes.push(DesiredRoute {
                    to: route.to,
                    via: route.via.map(IpAddr::V4),
                    metric: LEASE_METRIC.saturating_add(position),
                    onlink: false,
                });
            }
        }
    }
}

/// Clouds hand out single addresses (/32) with a gateway outside: the kernel must be told.
fn mark_onlink(wish: &mut DesiredLink) {
    let reachable: Vec<Cidr> = wish
        .addresses
        .iter()
        .map(|address| address.address.network())
        .chain(
            wish.routes
                .iter()
                .filter(|route| route.via.is_none())
                .map(|route| route.to),
        )
        .collect();
    for route in &mut wish.routes {
        route.onlink = route.via.is_some_and(|via| {
            !is_link_local(via) && !reachable.iter().any(|network| network.contains(via))
        });
    }
    // What is on the link first: other routes lean on it.
    wish.routes
        .sort_by_key(|route| (route.via.is_some(), route.onlink));
}

fn is_link_local(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(address) if address.is_unicast_link_local())
}
