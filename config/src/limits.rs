//! Limits of services: their names, sizes of memory and shares of the processors.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::text::{InvalidValue, text_value};

/// The services of a node, as their definitions in the image are called; a test compares.
pub const SERVICES: [&str; 14] = [
    "apid",
    "clusterd",
    "containerd",
    "etcd",
    "images",
    "kine",
    "kube-apiserver",
    "kube-controller-manager",
    "kube-proxy",
    "kube-scheduler",
    "kubelet",
    "machined",
    "netd",
    "storage",
];

/// Name of a service of the node.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct ServiceName(&'static str);

impl ServiceName {
    /// The name as text.
    pub fn as_str(self) -> &'static str {
        self.0
    }
}

impl FromStr for ServiceName {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        SERVICES
            .into_iter()
            .find(|name| *name == text)
            .map(Self)
            .ok_or_else(|| {
                let known = SERVICES.join(", ");
                InvalidValue::new(
                    text,
                    "a service of the node",
                    format!("write one of {known}"),
                )
            })
    }
}

impl fmt::Display for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

text_value!(
    ServiceName,
    "ServiceName",
    "Name of a service of the node, as `keelsonctl get services` shows it.",
    r"^(apid|clusterd|containerd|etcd|images|kine|kube-apiserver|kube-controller-manager|kube-proxy|kube-scheduler|kubelet|machined|netd|storage)$"
);

/// A size of memory, such as `64Mi`.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Size(u64);

/// Units, the largest first.
const UNITS: [(&str, u64); 3] = [("Gi", 1 << 30), ("Mi", 1 << 20), ("Ki", 1 << 10)];

impl Size {
    /// No program of the node starts with less.
    const MIN: u64 = 4 << 20;
    /// Beyond any machine; keeps every sum of sizes far from the end of 64 bits.
    const MAX: u64 = 1 << 50;

    /// The size in bytes.
    pub fn bytes(self) -> u64 {
        self.0
    }

    /// A size that is not subject to the limits of what a person may write.
    pub fn from_bytes(bytes: u64) -> Self {
        Self(bytes)
    }
}

impl FromStr for Size {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        let fail = |reason: &str| InvalidValue::new(text, "a size of memory", reason);
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = text.split_at(digits);
        let factor = UNITS
            .iter()
            .find(|(name, _)| *name == unit)
            .map(|(_, factor)| *factor)
            .ok_or_else(|| fail("write a whole number and Ki, Mi or Gi, such as 64Mi"))?;
        if number.starts_with('0') {
            return Err(fail("write the number without zeros in front"));
        }
        let bytes = number
            .parse::<u64>()
            .ok()
            .and_then(|number| number.checked_mul(factor));
        match bytes {
            Some(bytes) if (Self::MIN..=Self::MAX).contains(&bytes) => Ok(Self(bytes)),
            _ => Err(fail("it must be from 4Mi to 1048576Gi")),
        }
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match UNITS
            .iter()
            .find(|(_, factor)| self.0.is_multiple_of(*factor))
        {
            Some((unit, factor)) => write!(f, "{}{unit}", self.0 / factor),
            None => write!(f, "{}", self.0),
        }
    }
}

text_value!(
    Size,
    "Size",
    "A whole number and `Ki`, `Mi` or `Gi` (1024, 1024² and 1024³ bytes), such as `64Mi`; at least `4Mi`.",
    r"^[1-9][0-9]*[KMG]i$"
);

/// Share of the processors that a service gets when they are short.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct CpuWeight(u16);

impl CpuWeight {
    /// Limits of the kernel's cpu.weight.
    const RANGE: std::ops::RangeInclusive<u16> = 1..=10_000;

    /// The weight.
    pub fn value(self) -> u16 {
        self.0
    }
}

impl TryFrom<u32> for CpuWeight {
    type Error = InvalidValue;

    fn try_from(weight: u32) -> Result<Self, InvalidValue> {
        u16::try_from(weight)
            .ok()
            .filter(|weight| Self::RANGE.contains(weight))
            .map(Self)
            .ok_or_else(|| {
                InvalidValue::new(
                    &weight.to_string(),
                    "a share of the processors",
                    "it must be from 1 to 10000; 100 is normal",
                )
            })
    }
}

impl From<CpuWeight> for u32 {
    fn from(weight: CpuWeight) -> Self {
        weight.0.into()
    }
}

#[cfg(feature = "schema")]
impl schemars::JsonSchema for CpuWeight {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "CpuWeight".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "integer",
            "description": "Share of the processors, from 1 to 10000; 100 is normal.",
            "minimum": Self::RANGE.start(),
            "maximum": Self::RANGE.end(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        for (text, bytes) in [
            ("4Mi", 4 << 20),
            ("4096Ki", 4 << 20),
            ("1536Mi", 1536 << 20),
            ("1Gi", 1 << 30),
            ("1048576Gi", 1 << 50),
        ] {
            assert_eq!(text.parse::<Size>().unwrap().bytes(), bytes, "{text}");
        }
        for bad in [
            "",
            "Mi",
            "64",
            "64M",
            "64MiB",
            "64 Mi",
            " 64Mi",
            "64mi",
            "-64Mi",
            "+64Mi",
            "6.4Mi",
            "064Mi",
            "1Mi",
            "3Mi",
            "1048577Gi",
            "99999999999999999999Gi",
            "18446744073709551615Gi",
        ] {
            assert!(bad.parse::<Size>().is_err(), "{bad}");
        }
    }

    #[test]
    fn sizes_are_shown_in_the_largest_unit_that_fits() {
        for (text, shown) in [
            ("2048Mi", "2Gi"),
            ("1536Mi", "1536Mi"),
            ("4097Ki", "4097Ki"),
        ] {
            let size: Size = text.parse().unwrap();
            assert_eq!(size.to_string(), shown);
            assert_eq!(shown.parse::<Size>().unwrap(), size);
        }
    }

    #[test]
    fn weights_have_limits() {
        assert_eq!(CpuWeight::try_from(10_000).unwrap().value(), 10_000);
        for bad in [0, 10_001, 65_536 + 100] {
            assert!(CpuWeight::try_from(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn every_service_has_a_name() {
        assert!(SERVICES.is_sorted());
        for name in SERVICES {
            assert_eq!(name.parse::<ServiceName>().unwrap().as_str(), name);
        }
        assert!("kube".parse::<ServiceName>().is_err());
    }
}
