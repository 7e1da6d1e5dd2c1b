//! Netlink messages to netd's model.

use std::net::IpAddr;
use std::time::Duration;

use keelson_config::{Cidr, Family};
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::address::{AddressAttribute, AddressMessage, AddressProtocol};
use rtnetlink::packet_route::link::{
    LinkAttribute, LinkFlags, LinkInfo, LinkLayerType, LinkMessage,
};
use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteType,
};

use crate::model::{Address, Link, LinkAddress, LinkKind, Owner, Route, everything};

/// Marks what netd made: addresses by IFA_PROTO, routes by their protocol. A free number in both
/// registries (the kernel's rtnetlink.h and iproute2's rt_protos).
pub(super) const MARK: u8 = 75;

/// Marks addresses that a DHCP server lent.
pub(super) const LEASE_MARK: u8 = 76;

/// IFA_CACHEINFO's word for "never".
const FOREVER: u32 = u32::MAX;

pub(super) fn link(message: &LinkMessage, accept_ra: impl Fn(&str) -> Option<u8>) -> Option<Link> {
    let mut name = None;
    let mut mac = None;
    let mut mtu = 0;
    let mut made_by_software = false;
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(text) => name = Some(text.clone()),
            LinkAttribute::Address(bytes) => mac = <[u8; 6]>::try_from(bytes.as_slice()).ok(),
            LinkAttribute::Mtu(value) => mtu = *value,
            LinkAttribute::LinkInfo(infos) => {
                made_by_software |= infos.iter().any(|info| matches!(info, LinkInfo::Kind(_)));
            }
            _ => {}
        }
    }
    let name = name?;
    let kind = match message.header.link_layer_type {
        LinkLayerType::Loopback => LinkKind::Loopback,
        _ if made_by_software => LinkKind::Virtual,
        LinkLayerType::Ether => LinkKind::Ethernet,
        _ => LinkKind::Other,
    };
    Some(Link {
        index: message.header.index,
        kind,
        mac,
        up: message.header.flags.contains(LinkFlags::Up),
        carrier: message.header.flags.contains(LinkFlags::LowerUp),
        mtu,
        accept_ra: accept_ra(&name),
        name,
    })
}

pub(super) fn address(message: &AddressMessage) -> Option<Address> {
    let mut peer = None;
    let mut local = None;
    let mut owner = Owner::Other;
    let mut valid_for = None;
    for attribute in &message.attributes {
        match attribute {
            AddressAttribute::Address(address) => peer = Some(*address),
            AddressAttribute::Local(address) => local = Some(*address),
            AddressAttribute::Protocol(AddressProtocol::Other(MARK)) => owner = Owner::Netd,
            AddressAttribute::Protocol(AddressProtocol::Other(LEASE_MARK)) => {
                owner = Owner::NetdLease;
            }
            AddressAttribute::CacheInfo(info) if info.ifa_valid != FOREVER => {
                valid_for = Some(Duration::from_secs(info.ifa_valid.into()));
            }
            _ => {}
        }
    }
    // On point-to-point links the two differ; ours is the local one.
    let address = LinkAddress::new(local.or(peer)?, message.header.prefix_len)?;
    Some(Address {
        link: message.header.index,
        address,
        owner,
        valid_for,
    })
}

/// `None` for everything but plain routes of the main table.
pub(super) fn route(message: &RouteMessage) -> Option<Route> {
    let mut table = u32::from(message.header.table);
    let mut to = None;
    let mut via = None;
    let mut link = None;
    let mut metric = 0;
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Table(value) => table = *value,
            RouteAttribute::Destination(address) => to = ip(address),
            RouteAttribute::Gateway(address) => via = ip(address),
            RouteAttribute::Oif(index) => link = Some(*index),
            RouteAttribute::Priority(value) => metric = *value,
            _ => {}
        }
    }
    if table != u32::from(RouteHeader::RT_TABLE_MAIN) || message.header.kind != RouteType::Unicast {
        return None;
    }
    let family = match message.header.address_family {
        AddressFamily::Inet => Family::V4,
        AddressFamily::Inet6 => Family::V6,
        _ => return None,
    };
    let to = match to {
        Some(address) => Cidr::containing(address, message.header.destination_prefix_length)?,
        None => everything(family)?,
    };
    let owner = match message.header.protocol {
        RouteProtocol::Other(MARK) => Owner::Netd,
        _ => Owner::Other,
    };
    Some(Route {
        link: link?,
        to,
        via,
        metric,
        owner,
    })
}

fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(address) => Some(IpAddr::V4(*address)),
        RouteAddress::Inet6(address) => Some(IpAddr::V6(*address)),
        _ => None,
    }
}
