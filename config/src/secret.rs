//! A secret value: it goes in, but no text made from a configuration shows it.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// What stands in the place of a secret.
pub const HIDDEN: &str = "(hidden)";

/// A password, a token, a key. YAML, JSON and `Debug` show [`HIDDEN`]; only [`Secret::reveal`]
/// gives the value. A key of the configuration whose name looks like a secret must have this
/// type, which a test checks.
#[derive(Clone, Eq, PartialEq)]
pub struct Secret(String);

impl Secret {
    /// The value itself, for who uses it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(HIDDEN)
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(HIDDEN)
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        if text == HIDDEN {
            // What `keelsonctl config show` prints, sent back unchanged.
            return Err(serde::de::Error::custom(
                "this is the placeholder of a hidden secret; write the secret itself",
            ));
        }
        Ok(Self(text))
    }
}

#[cfg(feature = "schema")]
impl schemars::JsonSchema for Secret {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Secret".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string",
            "description": "A secret. The node never shows it.",
            "writeOnly": true,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_text_shows_it() {
        let secret: Secret = serde_json::from_str("\"hunter2\"").unwrap();
        assert_eq!(secret.reveal(), "hunter2");
        let json = serde_json::to_string(&secret).unwrap();
        let yaml = serde_saphyr::to_string(&secret).unwrap();
        for text in [json, yaml, format!("{secret:?}")] {
            assert!(text.contains(HIDDEN) && !text.contains("hunter2"), "{text}");
        }
    }

    #[test]
    fn the_placeholder_is_no_secret() {
        assert!(serde_json::from_str::<Secret>("\"(hidden)\"").is_err());
    }
}
