//! The URL of a registry mirror.

use std::fmt;
use std::str::FromStr;

use crate::name::check_host_port;
use crate::text::{InvalidValue, text_value};

/// An `http://` or `https://` URL with host, optional port and optional path; no user, query or
/// fragment, because containerd's `hosts.toml` has no use for them.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Endpoint(String);

impl Endpoint {
    /// The URL as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the connection is protected by TLS.
    pub fn uses_tls(&self) -> bool {
        self.0.starts_with("https://")
    }
}

impl FromStr for Endpoint {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        let fail = |reason: &str| InvalidValue::new(text, "a registry endpoint", reason);
        let rest = text
            .strip_prefix("https://")
            .or_else(|| text.strip_prefix("http://"))
            .ok_or_else(|| fail("it must begin with https:// or http://"))?;
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        if authority.contains('@') {
            return Err(fail("user and password do not belong into the URL"));
        }
        check_host_port(authority).map_err(|reason| fail(&reason))?;
        // Also keeps quotes and control characters out of the file rendered for containerd.
        let allowed = |b: u8| b.is_ascii_alphanumeric() || b"-._~/%+".contains(&b);
        if !path.bytes().all(allowed) {
            return Err(fail("the path may hold letters, digits and '-._~/%+' only"));
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

text_value!(
    Endpoint,
    "Endpoint",
    "URL of a registry: `http://` or `https://`, host, optional port and path.",
    r"^https?://[0-9a-z.\[\]:-]+(/[-A-Za-z0-9._~/%+]*)?$"
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints() {
        for good in [
            "https://mirror.example.org",
            "http://10.0.2.2:5000/v2",
            "https://[fd00::1]:443/a/b",
        ] {
            assert_eq!(good.parse::<Endpoint>().unwrap().as_str(), good);
        }
        for bad in [
            "",
            "mirror.example.org",
            "ftp://a",
            "https://",
            "https:///x",
            "https://a:0",
            "https://u:p@a",
            "https://a/?q",
            "https://a/\"\n",
            "https://A",
        ] {
            assert!(bad.parse::<Endpoint>().is_err(), "{bad:?}");
        }
    }
}
