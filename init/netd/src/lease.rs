//! What a DHCP server granted, checked: nothing a server sends is used before it went through here.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use keelson_config::{Cidr, Family};
use mozim::DhcpV4Lease;

use crate::model::{LinkAddress, everything};

/// IPv4 needs links that carry 576 bytes; a smaller value is a broken server, not a small link.
const SMALLEST_MTU: u16 = 576;

/// DHCP's way to say that a lease never ends.
const FOREVER: u32 = u32::MAX;

/// A lease whose content can be applied as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Lease {
    pub(crate) address: LinkAddress,
    pub(crate) routes: Vec<LeaseRoute>,
    pub(crate) nameservers: Vec<IpAddr>,
    pub(crate) search: Option<String>,
    pub(crate) time_servers: Vec<IpAddr>,
    pub(crate) mtu: Option<u32>,
    /// `None`: for ever.
    pub(crate) duration: Option<Duration>,
    pub(crate) server: Ipv4Addr,
}

/// A route from a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LeaseRoute {
    pub(crate) to: Cidr,
    /// `None`: the network is on the link itself.
    pub(crate) via: Option<Ipv4Addr>,
}

/// Why a lease cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadLease {
    #[error("the server offered {0}, which no machine can have as its address")]
    Address(Ipv4Addr),
    #[error("the server offered the network mask {0}, whose bits are not in one row")]
    Mask(Ipv4Addr),
}

impl TryFrom<&DhcpV4Lease> for Lease {
    type Error = BadLease;

    fn try_from(offer: &DhcpV4Lease) -> Result<Self, BadLease> {
        let address = offer.yiaddr;
        if !usable(address) {
            return Err(BadLease::Address(address));
        }
        let prefix =
            prefix_length(offer.subnet_mask, address).ok_or(BadLease::Mask(offer.subnet_mask))?;
        let address =
            LinkAddress::new(address.into(), prefix).ok_or(BadLease::Mask(offer.subnet_mask))?;
        Ok(Self {
            address,
            routes: routes(offer),
            nameservers: hosts(offer.dns_srvs.as_deref()),
            search: offer.domain_name.as_deref().and_then(domain),
            time_servers: hosts(offer.ntp_srvs.as_deref()),
            mtu: offer.mtu.filter(|mtu| *mtu >= SMALLEST_MTU).map(u32::from),
            duration: (offer.lease_time_sec != FOREVER)
                .then(|| Duration::from_secs(offer.lease_time_sec.into())),
            server: offer.srv_id,
        })
    }
}

/// RFC 3442: classless routes, when there are any, replace the router option.
fn routes(offer: &DhcpV4Lease) -> Vec<LeaseRoute> {
    let mut routes = Vec::new();
    match &offer.classless_routes {
        Some(list) => {
            for route in list {
                let via = (!route.router.is_unspecified()).then_some(route.router);
                if let Some(to) = Cidr::containing(route.destination.into(), route.prefix_length)
                    && via.is_none_or(usable)
                {
                    routes.push(LeaseRoute { to, via });
                }
            }
        }
        None => {
            let router = offer
                .gateways
                .iter()
                .flatten()
                .copied()
                .find(|router| usable(*router));
            if let (Some(via), Some(to)) = (router, everything(Family::V4)) {
                routes.push(LeaseRoute { to, via: Some(via) });
            }
        }
    }
    // The first word counts: a second route to the same network would only be refused.
    let mut unique: Vec<LeaseRoute> = Vec::new();
    for route in routes {
        if unique.iter().all(|known| known.to != route.to) {
            unique.push(route);
        }
    }
    unique
}

fn hosts(list: Option<&[Ipv4Addr]>) -> Vec<IpAddr> {
    list.unwrap_or_default()
        .iter()
        .copied()
        .filter(|host| usable(*host))
        .map(IpAddr::V4)
        .collect()
}

/// Whether `address` can be one machine's: a loopback DNS server, say, would be this node itself.
fn usable(address: Ipv4Addr) -> bool {
    !(address.is_unspecified()
        || address.is_loopback()
        || address.is_multicast()
        || address.is_broadcast()
        || address.octets()[0] == 0
        || address.octets()[0] >= 240)
}

/// The length of a mask; a server that sends none means the network class (RFC 2131 2.).
fn prefix_length(mask: Ipv4Addr, address: Ipv4Addr) -> Option<u8> {
    if mask.is_unspecified() {
        return Some(match address.octets()[0] {
            0..=127 => 8,
            128..=191 => 16,
            _ => 24,
        });
    }
    let bits = u32::from(mask);
    let ones = bits.leading_ones();
    (bits.count_ones() == ones)
        .then(|| u8::try_from(ones).ok())
        .flatten()
}

/// A search domain as it may stand in resolv.conf: letters, digits, `-` and `.`, nothing that
/// could end the line and start another.
pub(crate) fn domain(name: &str) -> Option<String> {
    let name = name.trim_end_matches(['\0', '.']);
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
    (!name.is_empty() && name.len() <= 253 && name.chars().all(plain)).then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use mozim::DhcpV4ClasslessRoute;
    use proptest::prelude::*;

    use super::*;

    fn offer(address: [u8; 4], mask: [u8; 4]) -> DhcpV4Lease {
        let mut offer = DhcpV4Lease::default();
        offer.yiaddr = address.into();
        offer.subnet_mask = mask.into();
        offer.lease_time_sec = 600;
        offer
    }

    #[test]
    fn a_plain_lease_is_taken_over() {
        let mut plain = offer([10, 0, 2, 15], [255, 255, 255, 0]);
        plain.gateways = Some(vec![[10, 0, 2, 2].into(), [10, 0, 2, 9].into()]);
        plain.dns_srvs = Some(vec![[127, 0, 0, 53].into(), [10, 0, 2, 3].into()]);
        plain.domain_name = Some("example.org.".to_owned());
        plain.mtu = Some(1400);
        let lease = Lease::try_from(&plain).unwrap();
        assert_eq!(lease.address.to_string(), "10.0.2.15/24");
        assert_eq!(
            lease.routes,
            [LeaseRoute {
                to: "0.0.0.0/0".parse().unwrap(),
                via: Some([10, 0, 2, 2].into())
            }]
        );
        assert_eq!(lease.nameservers, [IpAddr::from([10, 0, 2, 3])]);
        assert_eq!(lease.search.as_deref(), Some("example.org"));
        assert_eq!(lease.mtu, Some(1400));
        assert_eq!(lease.duration, Some(Duration::from_secs(600)));
    }

    #[test]
    fn classless_routes_replace_the_router() {
        let mut classless = offer([10, 0, 0, 7], [255, 255, 255, 255]);
        classless.gateways = Some(vec![[10, 9, 9, 9].into()]);
        let route = |to: [u8; 4], prefix_length, router: [u8; 4]| DhcpV4ClasslessRoute {
            destination: to.into(),
            prefix_length,
            router: router.into(),
        };
        classless.classless_routes = Some(vec![
            route([10, 0, 0, 1], 32, [0; 4]),
            route([0; 4], 0, [10, 0, 0, 1]),
            route([0; 4], 0, [10, 0, 0, 2]),
        ]);
        let lease = Lease::try_from(&classless).unwrap();
        assert_eq!(
            lease.routes,
            [
                LeaseRoute {
                    to: "10.0.0.1/32".parse().unwrap(),
                    via: None
                },
                LeaseRoute {
                    to: "0.0.0.0/0".parse().unwrap(),
                    via: Some([10, 0, 0, 1].into())
                },
            ]
        );
    }

    #[test]
    fn refuses_what_no_machine_can_have() {
        for address in [
            [0, 0, 0, 0],
            [127, 0, 0, 1],
            [224, 0, 0, 1],
            [255, 255, 255, 255],
            [0, 1, 2, 3],
        ] {
            assert_eq!(
                Lease::try_from(&offer(address, [255, 0, 0, 0])),
                Err(BadLease::Address(address.into()))
            );
        }
        assert_eq!(
            Lease::try_from(&offer([10, 0, 0, 1], [255, 0, 255, 0])),
            Err(BadLease::Mask([255, 0, 255, 0].into()))
        );
    }

    #[test]
    fn a_missing_mask_means_the_class() {
        let lease = Lease::try_from(&offer([172, 16, 0, 9], [0; 4])).unwrap();
        assert_eq!(lease.address.network().prefix_len(), 16);
    }

    #[test]
    fn a_domain_cannot_add_lines() {
        for name in ["a\nnameserver 6.6.6.6", "a b", "", "\0", "ä.example"] {
            assert_eq!(domain(name), None, "{name:?}");
        }
    }

    proptest! {
        #[test]
        fn any_offer_is_taken_or_refused(address: [u8; 4], mask: [u8; 4], mtu: Option<u16>, name: Option<String>) {
            let mut any = offer(address, mask);
            any.mtu = mtu;
            any.domain_name = name;
            if let Ok(lease) = Lease::try_from(&any) {
                prop_assert!(lease.address.network().prefix_len() <= 32);
                prop_assert!(lease.mtu.is_none_or(|mtu| mtu >= 576));
                prop_assert!(!lease.search.unwrap_or_default().contains(char::is_whitespace));
            }
        }
    }
}
