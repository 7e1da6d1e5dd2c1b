//! Scalar values that are text in YAML and checked types in Rust: the error they share and the
//! macro that gives each of them the same conversions.

use std::fmt;

/// Why a scalar in the configuration (or elsewhere) was not accepted.
///
/// The text is complete for an operator: the value, what it should have been, what to write.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{value} is not {expected}: {reason}")]
pub struct InvalidValue {
    /// The rejected text, quoted and cut to a printable length.
    value: String,
    /// What was expected, with its article ("a host name").
    expected: &'static str,
    /// What is wrong with the value and what to write instead.
    reason: String,
}

impl InvalidValue {
    pub(crate) fn new(value: &str, expected: &'static str, reason: impl fmt::Display) -> Self {
        Self {
            value: quoted(value),
            expected,
            reason: reason.to_string(),
        }
    }
}

/// Longest piece of foreign text repeated in a message: enough to recognise it, short enough
/// for one console line.
const QUOTE_CHARS: usize = 64;

/// The text in quotes, control characters escaped, cut to [`QUOTE_CHARS`].
pub(crate) fn quoted(text: &str) -> String {
    let mut chars = text.chars();
    let head: String = chars.by_ref().take(QUOTE_CHARS).collect();
    let dots = if chars.next().is_some() { "…" } else { "" };
    format!("\"{}{dots}\"", head.escape_debug())
}

/// Gives a type with `FromStr` (error [`InvalidValue`]) and `Display` its serde form, a string,
/// and its JSON schema, a string with a description and a pattern.
macro_rules! text_value {
    ($type:ty, $name:literal, $description:literal, $pattern:literal) => {
        impl TryFrom<String> for $type {
            type Error = $crate::InvalidValue;

            fn try_from(text: String) -> Result<Self, Self::Error> {
                text.parse()
            }
        }

        impl serde::Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = <String as serde::Deserialize>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }

        #[cfg(feature = "schema")]
        impl schemars::JsonSchema for $type {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                $name.into()
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({
                    "type": "string",
                    "description": $description,
                    "pattern": $pattern,
                })
            }
        }
    };
}
pub(crate) use text_value;
