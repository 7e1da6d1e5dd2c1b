//! Resource limits of a process.

use std::fmt;

use serde::de::Visitor;
use serde::{Deserialize, Deserializer};

/// Soft and hard limit, both the same value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rlimit {
    /// At most this many.
    Max(u64),
    /// No limit.
    Unlimited,
}

impl<'de> Deserialize<'de> for Rlimit {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NumberOrUnlimited;
        impl Visitor<'_> for NumberOrUnlimited {
            type Value = Rlimit;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a whole number or \"unlimited\"")
            }

            fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<Rlimit, E> {
                Ok(Rlimit::Max(number))
            }

            fn visit_i64<E: serde::de::Error>(self, number: i64) -> Result<Rlimit, E> {
                u64::try_from(number)
                    .map(Rlimit::Max)
                    .map_err(|_| E::invalid_value(serde::de::Unexpected::Signed(number), &self))
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Rlimit, E> {
                match text {
                    "unlimited" => Ok(Rlimit::Unlimited),
                    _ => Err(E::invalid_value(serde::de::Unexpected::Str(text), &self)),
                }
            }
        }
        deserializer.deserialize_any(NumberOrUnlimited)
    }
}

/// Limits that PID 1 sets before it starts the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Limits {
    /// Largest core file in bytes. None by default: no one collects them and /var is small.
    pub core: Rlimit,
    /// Open files. Default: the kernel's usual hard limit for root, enough for any of ours.
    pub nofile: Rlimit,
    /// Processes of the user; the kernel's own default when absent.
    pub nproc: Option<Rlimit>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            core: Rlimit::Max(0),
            nofile: Rlimit::Max(65_536),
            nproc: None,
        }
    }
}
