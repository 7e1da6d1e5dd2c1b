//! What an upgrade needs to know: spans of time, and what is asked before a new version stays.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::limits::Size;
use crate::name::check_host_port;
use crate::text::{InvalidValue, text_value};

/// How a node takes over another version of Keelson. The new version is on trial until it has
/// proved itself; otherwise the node goes back to the old one without anybody's help.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Upgrade {
    /// Time from the start of the kernel until a version on trial must have proved itself, from
    /// `1m` to `2h`; it is longer than `stableFor`.
    pub health_deadline: Span,
    /// Time for which everything must be well without a break before the new version stays, from
    /// `1s` to `1h`.
    pub stable_for: Span,
    /// Longest time for moving pods to other nodes before the reboot, at most `1h`; with `0s`
    /// pods are ended by the shutdown alone. Pods that can run nowhere else are not moved.
    pub drain_timeout: Span,
    /// Bytes a second that are written to the other slot at most, so that pods and the datastore
    /// keep the disk.
    pub write_limit: Size,
    /// What must answer, besides the node's own parts, before a new version stays: `http://` URLs
    /// that answer with a status from 200 to 299, `tcp://HOST:PORT` that accept a connection.
    pub checks: Vec<CheckUrl>,
}

impl Default for Upgrade {
    fn default() -> Self {
        Self {
            health_deadline: Span::from_secs(600),
            stable_for: Span::from_secs(60),
            drain_timeout: Span::from_secs(300),
            write_limit: Size::from_bytes(64 << 20),
            checks: Vec::new(),
        }
    }
}

/// A span of time in whole seconds, such as `90s`, `10m` or `2h`.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Span(Duration);

/// Units with their seconds, the largest first.
const UNITS: [(&str, u64); 3] = [("h", 3600), ("m", 60), ("s", 1)];

impl Span {
    /// A year: nothing here takes longer, and sums of spans stay far from the end of 64 bits.
    const MAX_SECS: u64 = 365 * 24 * 3600;

    pub(crate) const fn from_secs(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }

    /// The span.
    pub fn duration(self) -> Duration {
        self.0
    }
}

impl FromStr for Span {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        let fail = |reason: &str| InvalidValue::new(text, "a span of time", reason);
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = text.split_at(digits);
        let factor = UNITS
            .iter()
            .find(|(name, _)| *name == unit)
            .map(|(_, factor)| *factor)
            .ok_or_else(|| fail("write a whole number and s, m or h, such as 10m"))?;
        if number.len() > 1 && number.starts_with('0') {
            return Err(fail("write the number without zeros in front"));
        }
        let seconds = number
            .parse::<u64>()
            .ok()
            .and_then(|number| number.checked_mul(factor));
        match seconds {
            Some(seconds @ 0..=Self::MAX_SECS) => Ok(Self::from_secs(seconds)),
            _ => Err(fail("it must be from 0s to 8760h")),
        }
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs();
        match UNITS
            .iter()
            .find(|(_, factor)| seconds != 0 && seconds.is_multiple_of(*factor))
        {
            Some((unit, factor)) => write!(f, "{}{unit}", seconds / factor),
            None => write!(f, "{seconds}s"),
        }
    }
}

text_value!(
    Span,
    "Span",
    "A whole number and `s`, `m` or `h` (seconds, minutes, hours), such as `10m`.",
    r"^(0|[1-9][0-9]*)[smh]$"
);

/// What is asked whether it works: `http://HOST[:PORT][/PATH]` or `tcp://HOST:PORT`.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct CheckUrl {
    text: String,
    kind: CheckKind,
}

/// How it is asked.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum CheckKind {
    /// A GET request must be answered with a status from 200 to 299.
    Http,
    /// A connection must be accepted.
    Tcp,
}

/// Where `http` is served unless the URL says otherwise.
const HTTP_PORT: u16 = 80;

impl CheckUrl {
    /// The URL as it was given.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// How it is asked.
    pub fn kind(&self) -> CheckKind {
        self.kind
    }

    /// Host and port as they stand in the URL: an IPv6 address has its brackets.
    pub fn authority(&self) -> &str {
        let (_, rest) = self.text.split_once("://").unwrap_or(("", &self.text));
        rest.split_once('/')
            .map_or(rest, |(authority, _)| authority)
    }

    /// The host without brackets, and the port.
    pub fn host_and_port(&self) -> (&str, u16) {
        let authority = self.authority();
        let (host, port) = match authority.rsplit_once(':') {
            // The last ':' of an address in brackets is inside them.
            Some((host, port)) if !port.ends_with(']') => (host, port.parse().unwrap_or(HTTP_PORT)),
            _ => (authority, HTTP_PORT),
        };
        (host.trim_start_matches('[').trim_end_matches(']'), port)
    }

    /// What is asked for, with its `/`.
    pub fn path(&self) -> &str {
        let authority = self.authority();
        let at = self.text.find(authority).unwrap_or_default() + authority.len();
        match self.text.get(at..) {
            None | Some("") => "/",
            Some(path) => path,
        }
    }
}

impl FromStr for CheckUrl {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        let fail = |reason: &str| InvalidValue::new(text, "a check", reason);
        let (kind, rest) = if let Some(rest) = text.strip_prefix("http://") {
            (CheckKind::Http, rest)
        } else if let Some(rest) = text.strip_prefix("tcp://") {
            (CheckKind::Tcp, rest)
        } else {
            return Err(fail("it must begin with http:// or tcp://"));
        };
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        check_host_port(authority).map_err(|reason| fail(&reason))?;
        if kind == CheckKind::Tcp {
            let has_port = authority
                .rsplit_once(':')
                .is_some_and(|(_, port)| !port.ends_with(']'));
            if rest.contains('/') || !has_port {
                return Err(fail("write tcp://HOST:PORT and nothing behind it"));
            }
        }
        // It goes into a request line as it stands.
        let allowed = |b: u8| b.is_ascii_alphanumeric() || b"-._~/%+?=&:,".contains(&b);
        if !path.bytes().all(allowed) {
            return Err(fail(
                "the path may hold letters, digits and '-._~/%+?=&:,' only",
            ));
        }
        Ok(Self {
            text: text.to_owned(),
            kind,
        })
    }
}

impl fmt::Display for CheckUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

text_value!(
    CheckUrl,
    "CheckUrl",
    "`http://HOST[:PORT][/PATH]` or `tcp://HOST:PORT`.",
    r"^(http://[0-9a-z.\[\]:-]+(/[-A-Za-z0-9._~/%+?=&:,]*)?|tcp://[0-9a-z.\[\]:-]+:[0-9]+)$"
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_read_and_shown_in_the_largest_unit_that_fits() {
        for (text, seconds, shown) in [
            ("0s", 0, "0s"),
            ("90s", 90, "90s"),
            ("60s", 60, "1m"),
            ("120m", 7200, "2h"),
            ("8760h", Span::MAX_SECS, "8760h"),
        ] {
            let span: Span = text.parse().unwrap();
            assert_eq!(span.duration().as_secs(), seconds, "{text}");
            assert_eq!(span.to_string(), shown);
        }
        for bad in [
            "",
            "10",
            "m",
            "1d",
            "01m",
            "-1s",
            "1.5m",
            "1 m",
            "8761h",
            "99999999999999999999s",
        ] {
            assert!(bad.parse::<Span>().is_err(), "{bad}");
        }
    }

    #[test]
    fn checks_are_taken_apart() {
        for (text, kind, host, port, path) in [
            (
                "http://127.0.0.1:30080/healthz?a=b",
                CheckKind::Http,
                "127.0.0.1",
                30080,
                "/healthz?a=b",
            ),
            (
                "http://shop.example.org",
                CheckKind::Http,
                "shop.example.org",
                80,
                "/",
            ),
            ("http://[fd00::1]/x", CheckKind::Http, "fd00::1", 80, "/x"),
            ("http://[fd00::1]:81", CheckKind::Http, "fd00::1", 81, "/"),
            ("tcp://[fd00::1]:5432", CheckKind::Tcp, "fd00::1", 5432, "/"),
            ("tcp://db:1", CheckKind::Tcp, "db", 1, "/"),
        ] {
            let check: CheckUrl = text.parse().unwrap();
            assert_eq!(check.kind(), kind, "{text}");
            assert_eq!(check.host_and_port(), (host, port), "{text}");
            assert_eq!(check.path(), path, "{text}");
        }
        for bad in [
            "",
            "shop",
            "https://a",
            "http://",
            "http:///x",
            "http://a:0",
            "http://a/ b",
            "http://a/\r\nX: y",
            "http://u:p@a",
            "tcp://a",
            "tcp://a:1/",
            "tcp://[fd00::1]",
            "HTTP://a",
        ] {
            assert!(bad.parse::<CheckUrl>().is_err(), "{bad:?}");
        }
    }
}
