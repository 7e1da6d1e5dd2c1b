//! Network values: prefixes, interface addresses, route targets, MTU.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::text::{InvalidValue, text_value};

/// Address family of an address or a prefix.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// Family of an address.
    pub fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => Self::V4,
            IpAddr::V6(_) => Self::V6,
        }
    }

    /// Number of bits in an address.
    pub fn bits(self) -> u8 {
        match self {
            Self::V4 => 32,
            Self::V6 => 128,
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        })
    }
}

/// A network: address and prefix length, with no bit set after the prefix.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Cidr {
    network: IpAddr,
    prefix_len: u8,
}

impl Cidr {
    /// The network that an address with this prefix length is in; `None` when the prefix is
    /// longer than an address of the family.
    pub fn containing(address: IpAddr, prefix_len: u8) -> Option<Self> {
        (prefix_len <= Family::of(address).bits()).then(|| Self {
            network: masked(address, prefix_len),
            prefix_len,
        })
    }

    /// First address of the network.
    pub fn network(&self) -> IpAddr {
        self.network
    }

    /// Length of the prefix in bits.
    pub fn prefix_len(&self) -> u8 {
        self.prefix_len
    }

    /// Family of the network.
    pub fn family(&self) -> Family {
        Family::of(self.network)
    }

    /// Whether the address is in this network.
    pub fn contains(&self, address: IpAddr) -> bool {
        Family::of(address) == self.family() && masked(address, self.prefix_len) == self.network
    }

    /// Whether the two networks have an address in common.
    pub fn overlaps(&self, other: &Self) -> bool {
        self.contains(other.network) || other.contains(self.network)
    }

    /// The address that many places after the first one, if the network is that large.
    ///
    /// Kubernetes puts the API server at 1 and, by custom, cluster DNS at 10 of the service range.
    pub fn nth(&self, index: u32) -> Option<IpAddr> {
        let address = match self.network {
            IpAddr::V4(network) => IpAddr::V4(network.to_bits().checked_add(index)?.into()),
            IpAddr::V6(network) => {
                IpAddr::V6(network.to_bits().checked_add(u128::from(index))?.into())
            }
        };
        self.contains(address).then_some(address)
    }
}

impl FromStr for Cidr {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        const EXPECTED: &str = "a network in CIDR form";
        let (address, prefix_len) =
            split_prefix(text).map_err(|reason| InvalidValue::new(text, EXPECTED, reason))?;
        let network = masked(address, prefix_len);
        if network != address {
            let reason = format!("bits are set after the prefix; write {network}/{prefix_len}");
            return Err(InvalidValue::new(text, EXPECTED, reason));
        }
        Ok(Self {
            network,
            prefix_len,
        })
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.network, self.prefix_len)
    }
}

/// An address of an interface together with the length of its on-link prefix.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct InterfaceAddress {
    address: IpAddr,
    prefix_len: u8,
}

impl InterfaceAddress {
    /// The address itself.
    pub fn address(&self) -> IpAddr {
        self.address
    }

    /// Length of the on-link prefix in bits.
    pub fn prefix_len(&self) -> u8 {
        self.prefix_len
    }

    /// Family of the address.
    pub fn family(&self) -> Family {
        Family::of(self.address)
    }

    /// The network that is reachable on the link.
    pub fn network(&self) -> Cidr {
        Cidr {
            network: masked(self.address, self.prefix_len),
            prefix_len: self.prefix_len,
        }
    }
}

impl FromStr for InterfaceAddress {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        let fail =
            |reason: String| InvalidValue::new(text, "an interface address in CIDR form", reason);
        let (address, prefix_len) = split_prefix(text).map_err(fail)?;
        if address.is_unspecified() || address.is_multicast() || address.is_loopback() {
            return Err(fail("an interface cannot have this address".to_owned()));
        }
        if prefix_len == 0 {
            return Err(fail(
                "a prefix length of 0 would put the whole world on the link".into(),
            ));
        }
        let host_bits = Family::of(address).bits() - prefix_len;
        if let (IpAddr::V4(v4), 2..) = (address, host_bits) {
            let host_mask = !mask_v4(prefix_len);
            let host = v4.to_bits() & host_mask;
            if host == 0 || host == host_mask {
                let which = if host == 0 { "network" } else { "broadcast" };
                return Err(fail(format!(
                    "this is the {which} address of its own prefix"
                )));
            }
        }
        Ok(Self {
            address,
            prefix_len,
        })
    }
}

impl fmt::Display for InterfaceAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix_len)
    }
}

/// Where a route leads.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum RouteTarget {
    /// Everything without a better route, in the family of the gateway.
    Default,
    /// One network.
    Network(Cidr),
}

impl FromStr for RouteTarget {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        match text {
            "default" | "0.0.0.0/0" | "::/0" => Ok(Self::Default),
            _ => text.parse().map(Self::Network),
        }
    }
}

impl fmt::Display for RouteTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::Network(network) => network.fmt(f),
        }
    }
}

/// Largest packet on a link, in bytes, without the link's own header.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct Mtu(u32);

impl Mtu {
    /// IPv6 does not work on links with less (RFC 8200 section 5).
    pub const MIN: u32 = 1280;
    /// Largest IPv4 packet; no Ethernet card goes beyond.
    pub const MAX: u32 = 65_535;

    /// The value in bytes.
    pub fn bytes(self) -> u32 {
        self.0
    }
}

impl TryFrom<u32> for Mtu {
    type Error = InvalidValue;

    fn try_from(bytes: u32) -> Result<Self, InvalidValue> {
        if (Self::MIN..=Self::MAX).contains(&bytes) {
            return Ok(Self(bytes));
        }
        let reason = format!("it must be from {} to {} bytes", Self::MIN, Self::MAX);
        Err(InvalidValue::new(&bytes.to_string(), "an MTU", reason))
    }
}

impl From<Mtu> for u32 {
    fn from(mtu: Mtu) -> Self {
        mtu.0
    }
}

#[cfg(feature = "schema")]
impl schemars::JsonSchema for Mtu {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Mtu".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "integer",
            "description": "Bytes, from 1280 (the least that IPv6 allows) to 65535.",
            "minimum": Self::MIN,
            "maximum": Self::MAX,
        })
    }
}

text_value!(
    Cidr,
    "Cidr",
    "A network: address, '/', prefix length; no bit set after the prefix.",
    r"^[0-9a-fA-F.:]+/[0-9]{1,3}$"
);
text_value!(
    InterfaceAddress,
    "InterfaceAddress",
    "An address of this node, '/', length of the on-link prefix.",
    r"^[0-9a-fA-F.:]+/[0-9]{1,3}$"
);
text_value!(
    RouteTarget,
    "RouteTarget",
    "`default`, or a network in CIDR form.",
    r"^(default|[0-9a-fA-F.:]+/[0-9]{1,3})$"
);

fn split_prefix(text: &str) -> Result<(IpAddr, u8), String> {
    let Some((address, prefix_len)) = text.split_once('/') else {
        return Err("the prefix length is missing; write for example 192.0.2.10/24".to_owned());
    };
    let Ok(address) = address.parse::<IpAddr>() else {
        return Err(format!(
            "{} is not an IP address",
            crate::text::quoted(address)
        ));
    };
    let max = Family::of(address).bits();
    // No sign and no leading zeros: one way to write each value.
    let plain = prefix_len.bytes().all(|b| b.is_ascii_digit())
        && (prefix_len == "0" || !prefix_len.starts_with('0'));
    match prefix_len.parse::<u8>() {
        Ok(len) if plain && len <= max => Ok((address, len)),
        _ => Err(format!(
            "the prefix length must be a number from 0 to {max}"
        )),
    }
}

fn masked(address: IpAddr, prefix_len: u8) -> IpAddr {
    match address {
        IpAddr::V4(v4) => IpAddr::V4(Ipv4Addr::from_bits(v4.to_bits() & mask_v4(prefix_len))),
        IpAddr::V6(v6) => {
            let host_bits = 128_u32.saturating_sub(u32::from(prefix_len));
            let mask = u128::MAX.checked_shl(host_bits).unwrap_or(0);
            IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & mask))
        }
    }
}

fn mask_v4(prefix_len: u8) -> u32 {
    u32::MAX
        .checked_shl(32_u32.saturating_sub(u32::from(prefix_len)))
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn cidr_refuses_host_bits_and_says_what_to_write() {
        let error = "10.244.0.1/16".parse::<Cidr>().unwrap_err().to_string();
        assert!(error.ends_with("write 10.244.0.0/16"), "{error}");
        for bad in [
            "",
            "/",
            "10.0.0.0",
            "10.0.0.0/33",
            "fd00::/129",
            "10.0.0.0/+8",
            "10.0.0.0/08",
            "x/8",
        ] {
            assert!(bad.parse::<Cidr>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn overlap_is_symmetric_and_needs_one_family() {
        let net = |text: &str| text.parse::<Cidr>().unwrap();
        assert!(net("10.0.0.0/8").overlaps(&net("10.96.0.0/12")));
        assert!(net("10.96.0.0/12").overlaps(&net("10.0.0.0/8")));
        assert!(!net("10.244.0.0/16").overlaps(&net("10.96.0.0/12")));
        assert!(!net("0.0.0.0/0").overlaps(&net("::/0")));
    }

    #[test]
    fn service_addresses() {
        let net: Cidr = "10.96.0.0/12".parse().unwrap();
        assert_eq!(net.nth(1).unwrap().to_string(), "10.96.0.1");
        assert_eq!(net.nth(10).unwrap().to_string(), "10.96.0.10");
        assert_eq!("10.0.0.0/30".parse::<Cidr>().unwrap().nth(10), None);
        assert_eq!("255.255.255.255/32".parse::<Cidr>().unwrap().nth(1), None);
    }

    #[test]
    fn interface_addresses() {
        let address: InterfaceAddress = "192.0.2.10/24".parse().unwrap();
        assert_eq!(address.network().to_string(), "192.0.2.0/24");
        for bad in [
            "192.0.2.0/24",
            "192.0.2.255/24",
            "0.0.0.0/8",
            "127.0.0.1/8",
            "224.0.0.1/24",
            "10.0.0.1/0",
        ] {
            assert!(bad.parse::<InterfaceAddress>().is_err(), "{bad}");
        }
        for good in [
            "192.0.2.0/31",
            "192.0.2.1/32",
            "fe80::1/64",
            "2001:db8::1/128",
        ] {
            assert!(good.parse::<InterfaceAddress>().is_ok(), "{good}");
        }
    }

    #[test]
    fn mtu_has_limits() {
        assert!(Mtu::try_from(1500).is_ok());
        assert!(Mtu::try_from(1279).is_err());
        assert!(Mtu::try_from(70_000).is_err());
    }

    proptest! {
        #[test]
        fn prefixes_round_trip(bits: u128, len in 0_u8..=128, v4: bool) {
            let (address, len) = if v4 {
                (IpAddr::V4(Ipv4Addr::from_bits(u32::try_from(bits >> 96).unwrap())), len.min(32))
            } else {
                (IpAddr::V6(Ipv6Addr::from_bits(bits)), len)
            };
            let net = Cidr::containing(address, len).unwrap();
            prop_assert!(net.contains(address));
            prop_assert_eq!(net.to_string().parse::<Cidr>().unwrap(), net);
        }

        #[test]
        fn any_text_is_handled(text: String) {
            let _ = text.parse::<Cidr>();
            let _ = text.parse::<InterfaceAddress>();
            let _ = text.parse::<RouteTarget>();
        }
    }
}
