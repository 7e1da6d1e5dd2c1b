//! Where the API of a node listens: a host, with a port when it is not the usual one.

use std::fmt;
use std::net::Ipv6Addr;
use std::str::FromStr;

use keelson_api::PORT;
use serde::{Deserialize, Serialize};

/// A node's address: `192.0.2.10`, `node-1:9440`, `2001:db8::10`, `[2001:db8::10]:9440`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Endpoint {
    host: String,
    port: u16,
}

impl Endpoint {
    /// Name or address, without brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// TCP port.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }
}

/// A text that is no endpoint.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not the address of a node: {reason}")]
pub struct InvalidEndpoint {
    text: String,
    reason: &'static str,
}

impl FromStr for Endpoint {
    type Err = InvalidEndpoint;

    fn from_str(text: &str) -> Result<Self, InvalidEndpoint> {
        let invalid = |reason| InvalidEndpoint {
            text: text.to_owned(),
            reason,
        };
        let (host, port) = split(text).map_err(invalid)?;
        let port = match port {
            None => PORT,
            Some(port) => match port.parse() {
                Ok(0) | Err(_) => return Err(invalid("a port is a number from 1 to 65535")),
                Ok(port) => port,
            },
        };
        Ok(Self {
            host: host.to_owned(),
            port,
        })
    }
}

fn split(text: &str) -> Result<(&str, Option<&str>), &'static str> {
    if let Some(rest) = text.strip_prefix('[') {
        let (host, rest) = rest.split_once(']').ok_or("the bracket is not closed")?;
        host.parse::<Ipv6Addr>()
            .map_err(|_| "only an IPv6 address is written in brackets")?;
        return match rest.strip_prefix(':') {
            Some(port) => Ok((host, Some(port))),
            None if rest.is_empty() => Ok((host, None)),
            None => Err("after the bracket comes nothing, or a colon and the port"),
        };
    }
    if text.parse::<Ipv6Addr>().is_ok() {
        return Ok((text, None));
    }
    if text.contains("://") {
        return Err("give host or host:port, without a scheme");
    }
    let (host, port) = match text.split_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (text, None),
    };
    let of_a_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
    if host.is_empty() || !host.chars().all(of_a_name) {
        return Err("give a name or an address, and a port if it is not 9440");
    }
    Ok((host, port))
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.port, self.host.contains(':')) {
            (PORT, _) => f.write_str(&self.host),
            (port, true) => write!(f, "[{}]:{port}", self.host),
            (port, false) => write!(f, "{}:{port}", self.host),
        }
    }
}

impl TryFrom<String> for Endpoint {
    type Error = InvalidEndpoint;

    fn try_from(text: String) -> Result<Self, InvalidEndpoint> {
        text.parse()
    }
}

impl From<Endpoint> for String {
    fn from(endpoint: Endpoint) -> Self {
        endpoint.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_and_port_in_every_form() {
        for (text, host, port, shown) in [
            ("192.0.2.10", "192.0.2.10", 9440, "192.0.2.10"),
            ("127.0.0.1:40001", "127.0.0.1", 40001, "127.0.0.1:40001"),
            (
                "node-1.example.org:9440",
                "node-1.example.org",
                9440,
                "node-1.example.org",
            ),
            ("2001:db8::10", "2001:db8::10", 9440, "2001:db8::10"),
            ("[2001:db8::10]", "2001:db8::10", 9440, "2001:db8::10"),
            ("[2001:db8::10]:1", "2001:db8::10", 1, "[2001:db8::10]:1"),
        ] {
            let endpoint: Endpoint = text.parse().unwrap();
            assert_eq!((endpoint.host(), endpoint.port()), (host, port), "{text}");
            assert_eq!(endpoint.to_string(), shown);
            assert_eq!(shown.parse::<Endpoint>().unwrap(), endpoint);
        }
    }

    #[test]
    fn what_is_no_endpoint_is_refused() {
        for text in [
            "",
            ":9440",
            "node:",
            "node:0",
            "node:65536",
            "a node",
            "https://node",
            "[node]:1",
            "[::1",
            "[::1]9440",
            "node/x",
        ] {
            let error = text.parse::<Endpoint>().unwrap_err();
            assert!(error.to_string().contains(text), "{error}");
        }
    }
}
