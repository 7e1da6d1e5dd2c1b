//! What the kernel has: links, addresses and routes, in the words the decisions are made in.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use keelson_config::{Cidr, Family};

/// An address of a link, with the network it says is on that link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct LinkAddress {
    address: IpAddr,
    network: Cidr,
}

impl LinkAddress {
    /// `None` if the prefix is longer than the address.
    pub(crate) fn new(address: IpAddr, prefix: u8) -> Option<Self> {
        Some(Self {
            address,
            network: Cidr::containing(address, prefix)?,
        })
    }

    pub(crate) fn address(self) -> IpAddr {
        self.address
    }

    pub(crate) fn network(self) -> Cidr {
        self.network
    }
}

impl fmt::Display for LinkAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.network.prefix_len())
    }
}

/// The network that contains every address of `family`.
pub(crate) fn everything(family: Family) -> Option<Cidr> {
    Cidr::containing(
        match family {
            Family::V4 => Ipv4Addr::UNSPECIFIED.into(),
            Family::V6 => Ipv6Addr::UNSPECIFIED.into(),
        },
        0,
    )
}

/// Whether a route to `to` is one to everything.
pub(crate) fn is_default(to: Cidr) -> bool {
    to.prefix_len() == 0
}

/// One network device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Link {
    pub(crate) index: u32,
    pub(crate) name: String,
    pub(crate) kind: LinkKind,
    /// Hardware address of Ethernet devices.
    pub(crate) mac: Option<[u8; 6]>,
    /// Switched on by somebody.
    pub(crate) up: bool,
    /// A cable is in, or what counts as one.
    pub(crate) carrier: bool,
    pub(crate) mtu: u32,
    /// The sysctl of the same name; `None` where the kernel has no IPv6 for this link.
    pub(crate) accept_ra: Option<u8>,
}

/// What sort of device a link is, as far as it matters here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LinkKind {
    Loopback,
    /// A network card (or a virtual machine's).
    Ethernet,
    /// Made by software: pods' ends, bridges, tunnels.
    Virtual,
    /// Anything else: InfiniBand, serial lines...
    Other,
}

/// Who put an address or a route there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Owner {
    /// netd, in this run or an earlier one; marked so in the kernel.
    Netd,
    /// netd as well, because a DHCP server lent it: it has a mark of its own, for a lease without
    /// an end looks like a static address.
    NetdLease,
    /// The kernel itself (router advertisements, connected routes), CNI plugins, people.
    Other,
}

/// An address on a link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Address {
    pub(crate) link: u32,
    pub(crate) address: LinkAddress,
    pub(crate) owner: Owner,
    /// When the kernel will remove it; `None`: never.
    pub(crate) valid_for: Option<Duration>,
}

/// A unicast route of the main table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Route {
    pub(crate) link: u32,
    pub(crate) to: Cidr,
    pub(crate) via: Option<IpAddr>,
    pub(crate) metric: u32,
    pub(crate) owner: Owner,
}

/// Everything seen in one look.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Observed {
    pub(crate) links: Vec<Link>,
    pub(crate) addresses: Vec<Address>,
    pub(crate) routes: Vec<Route>,
}
