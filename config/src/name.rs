//! Names: of the node, its cluster, its interfaces, of domains, servers and registries, and the
//! machine id that the default host name is made from.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

use crate::text::{InvalidValue, text_value};

/// Longest DNS label (RFC 1035), and the longest value of a Kubernetes label: the host name
/// becomes `kubernetes.io/hostname`.
const MAX_LABEL: usize = 63;
/// Longest DNS name in text form (RFC 1035, 255 octets on the wire).
const MAX_DNS_NAME: usize = 253;
/// Longest interface name: the kernel's IFNAMSIZ is 16 with the terminating zero.
const MAX_INTERFACE_NAME: usize = 15;

/// Name of the node (RFC 1123): host name, Kubernetes node name, certificate subject.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Hostname(String);

impl Hostname {
    /// The name a node has when none is configured: `keelson-` and the first 6 hex digits of the
    /// machine id.
    pub fn for_machine(id: &MachineId) -> Self {
        Self(format!("keelson-{}", id.short()))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Hostname {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        dns_name(text, MAX_LABEL)
            .map(Self)
            .map_err(|reason| InvalidValue::new(text, "a host name", reason))
    }
}

/// A DNS domain or name, such as `cluster.local`.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Domain(String);

impl Domain {
    /// The domain as text, without a trailing dot.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Domain {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        dns_name(text, MAX_DNS_NAME)
            .map(Self)
            .map_err(|reason| InvalidValue::new(text, "a domain name", reason))
    }
}

/// Name of a cluster: one DNS label. It names the context in kubeconfig files.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct ClusterName(String);

impl ClusterName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ClusterName {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        if text.contains('.') {
            return Err(InvalidValue::new(
                text,
                "a cluster name",
                "it must not contain a dot",
            ));
        }
        dns_name(text, MAX_LABEL)
            .map(Self)
            .map_err(|reason| InvalidValue::new(text, "a cluster name", reason))
    }
}

/// Name of a network interface as the kernel has it, such as `eth0`.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct InterfaceName(String);

impl InterfaceName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for InterfaceName {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        let fail = |reason: &str| Err(InvalidValue::new(text, "an interface name", reason));
        if text.is_empty() || text.len() > MAX_INTERFACE_NAME {
            return fail("it must have 1 to 15 characters");
        }
        if text == "." || text == ".." || text == "lo" {
            return fail("this name is reserved; the loopback interface needs no configuration");
        }
        // The kernel forbids '/', ':' and white space; ASCII keeps logs and paths readable.
        if !text
            .bytes()
            .all(|b| b.is_ascii_graphic() && b != b'/' && b != b':')
        {
            return fail("use ASCII letters, digits and '-', '_', '.' only");
        }
        Ok(Self(text.to_owned()))
    }
}

/// A server given by DNS name or by IP address.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum ServerName {
    /// An address, usable before DNS works.
    Address(IpAddr),
    /// A name that DNS must resolve.
    Name(Domain),
}

impl FromStr for ServerName {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        if let Ok(address) = text.parse() {
            return Ok(Self::Address(address));
        }
        // "10.0.0.300" is a syntactically valid name, and surely a typing error.
        if text.bytes().all(|b| b.is_ascii_digit() || b == b'.') {
            return Err(InvalidValue::new(
                text,
                "a server",
                "not a valid IP address",
            ));
        }
        dns_name(text, MAX_DNS_NAME)
            .map(|name| Self::Name(Domain(name)))
            .map_err(|reason| InvalidValue::new(text, "a server (DNS name or IP address)", reason))
    }
}

impl fmt::Display for ServerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::Name(name) => name.fmt(f),
        }
    }
}

/// The host part of an image reference, with a port where it has one, or `_default` for every
/// registry that has no entry of its own.
///
/// It contains no path separator, so it is safe as a folder name for containerd.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct RegistryHost(String);

impl RegistryHost {
    /// containerd's name for "any registry".
    pub const DEFAULT: &str = "_default";

    /// The host as it stands in image references.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for RegistryHost {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        if text != Self::DEFAULT {
            check_host_port(text)
                .map_err(|reason| InvalidValue::new(text, "a registry host", reason))?;
        }
        Ok(Self(text.to_owned()))
    }
}

/// A machine id: 128 bits as 32 lower-case hex digits (the form of `/etc/machine-id`).
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct MachineId(String);

impl MachineId {
    /// The id made from 16 random bytes.
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        use fmt::Write as _;
        let mut text = String::with_capacity(32);
        for byte in bytes {
            // Writing to a String cannot fail.
            let _ = write!(text, "{byte:02x}");
        }
        Self(text)
    }

    /// All 32 digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The first 6 digits, for names that people read.
    pub fn short(&self) -> &str {
        self.0.get(..6).unwrap_or(&self.0)
    }
}

impl FromStr for MachineId {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        let hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        let fail = |reason: &str| Err(InvalidValue::new(text, "a machine id", reason));
        if text.len() != 32 || !text.bytes().all(hex) {
            return fail("it must be 32 lower-case hex digits");
        }
        if text.bytes().all(|b| b == b'0') {
            return fail("all zeros means that no id was ever made");
        }
        Ok(Self(text.to_owned()))
    }
}

macro_rules! display_text {
    ($($type:ty),*) => {$(
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    )*};
}
display_text!(
    ClusterName,
    Domain,
    Hostname,
    InterfaceName,
    MachineId,
    RegistryHost
);

text_value!(
    Hostname,
    "Hostname",
    "Lower-case RFC 1123 name: letters, digits, '-' and '.', at most 63 characters.",
    r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$"
);
text_value!(
    Domain,
    "Domain",
    "Lower-case DNS name without a trailing dot, at most 253 characters.",
    r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$"
);
text_value!(
    ClusterName,
    "ClusterName",
    "One DNS label: lower-case letters, digits and '-', at most 63 characters.",
    r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"
);
text_value!(
    InterfaceName,
    "InterfaceName",
    "Name of a network interface in the kernel, 1 to 15 ASCII characters, not `lo`.",
    r"^[!-~]{1,15}$"
);
text_value!(
    ServerName,
    "ServerName",
    "DNS name or IP address of a server.",
    r"^[0-9a-z.:-]+$"
);
text_value!(
    RegistryHost,
    "RegistryHost",
    "Host of image references, with its port if it has one; `_default` means every registry without an entry of its own.",
    r"^(_default|[0-9a-z.\[\]:-]+)$"
);

/// Checks `HOST` or `HOST:PORT`, where an IPv6 address stands in brackets.
pub(crate) fn check_host_port(text: &str) -> Result<(), String> {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let Some((address, rest)) = rest.split_once(']') else {
                return Err("the IPv6 address lacks its closing ']'".to_owned());
            };
            if address.parse::<Ipv6Addr>().is_err() {
                return Err(format!(
                    "{} is not an IPv6 address",
                    crate::text::quoted(address)
                ));
            }
            match (rest, rest.strip_prefix(':')) {
                ("", _) => return Ok(()),
                (_, Some(port)) => ("", Some(port)),
                _ => return Err("only a ':' and a port may follow the ']'".to_owned()),
            }
        }
        None => match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    if !text.starts_with('[') {
        dns_name(host, MAX_DNS_NAME)?;
    }
    match port.map(str::parse::<u16>) {
        None | Some(Ok(1..)) => Ok(()),
        Some(_) => Err("the port must be a number from 1 to 65535".to_owned()),
    }
}

/// Checks a lower-case RFC 1123 subdomain and returns it.
fn dns_name(text: &str, max: usize) -> Result<String, String> {
    if text.is_empty() {
        return Err("it is empty".to_owned());
    }
    if text.len() > max {
        return Err(format!(
            "it has {} characters, at most {max} are allowed",
            text.len()
        ));
    }
    if text.bytes().any(|b| b.is_ascii_uppercase()) {
        return Err(format!(
            "write it in lower case: {}",
            text.to_ascii_lowercase().escape_debug()
        ));
    }
    for label in text.split('.') {
        if label.is_empty() {
            return Err("it has an empty part before, between or after dots".to_owned());
        }
        if label.len() > MAX_LABEL {
            return Err(format!(
                "a part between dots may have at most {MAX_LABEL} characters"
            ));
        }
        if !label
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        {
            return Err("use lower-case letters, digits, '-' and '.' only".to_owned());
        }
        if label.starts_with('-') || label.ends_with('-') {
            return Err("each part must begin and end with a letter or a digit".to_owned());
        }
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_names() {
        for good in ["a", "node-1", "1node", "node.example.org"] {
            assert_eq!(good.parse::<Hostname>().unwrap().as_str(), good);
        }
        let long = "a".repeat(64);
        for bad in [
            "",
            "-a",
            "a-",
            "a..b",
            "Node",
            "a_b",
            "ü",
            "a b",
            "a\0b",
            ".",
            long.as_str(),
        ] {
            assert!(bad.parse::<Hostname>().is_err(), "{bad:?}");
        }
        assert_eq!(
            "Node".parse::<Hostname>().unwrap_err().to_string(),
            "\"Node\" is not a host name: write it in lower case: node"
        );
    }

    #[test]
    fn interface_names() {
        for good in ["eth0", "enp0s31f6", "bond0.100", "wg-mesh"] {
            assert!(good.parse::<InterfaceName>().is_ok(), "{good}");
        }
        for bad in [
            "",
            "lo",
            ".",
            "..",
            "a/b",
            "a:b",
            "a b",
            "interface-too-long",
            "é",
        ] {
            assert!(bad.parse::<InterfaceName>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn registry_hosts_never_hold_a_path() {
        for good in [
            "docker.io",
            "localhost:5000",
            "10.0.0.1:5000",
            "[fd00::1]:5000",
            "_default",
        ] {
            assert!(good.parse::<RegistryHost>().is_ok(), "{good}");
        }
        for bad in [
            "", "..", "../x", "a/b", "a:0", "a:70000", "[::1", "[x]:1", "[::1]x", "*",
        ] {
            assert!(bad.parse::<RegistryHost>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn servers_are_names_or_addresses() {
        assert!(matches!("10.0.2.3".parse(), Ok(ServerName::Address(_))));
        assert!(matches!("fd00::1".parse(), Ok(ServerName::Address(_))));
        assert!(matches!(
            "time.example.org".parse(),
            Ok(ServerName::Name(_))
        ));
        for bad in ["10.0.0.300", "", "a b", "time.example.org:123"] {
            assert!(bad.parse::<ServerName>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn machine_ids() {
        let id = MachineId::from_bytes(
            *b"\x01\x23\x45\x67\x89\xab\xcd\xef\x01\x23\x45\x67\x89\xab\xcd\xef",
        );
        assert_eq!(id.as_str(), "0123456789abcdef0123456789abcdef");
        assert_eq!(id.as_str().parse::<MachineId>().unwrap(), id);
        assert_eq!(Hostname::for_machine(&id).as_str(), "keelson-012345");
        for bad in [
            "",
            "0123",
            &"0".repeat(32),
            &"G".repeat(32),
            &"é".repeat(16),
        ] {
            assert!(bad.parse::<MachineId>().is_err(), "{bad:?}");
        }
    }
}
