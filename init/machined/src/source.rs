//! Which configuration holds: a pure decision over what was found.

use keelson_config::{ConfigError, NodeConfig};

use crate::configuration::check;

/// A file and the digest it is remembered by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) content: Vec<u8>,
    pub(crate) digest: String,
}

/// What the two places hold.
#[derive(Clone, Debug, Default)]
pub(crate) struct Candidates {
    /// The configuration on STATE.
    pub(crate) stored: Option<Vec<u8>>,
    /// Digest of the firmware file that was imported last.
    pub(crate) imported: Option<String>,
    /// The file on the firmware partition.
    pub(crate) firmware: Option<Found>,
}

/// Which configuration holds.
#[derive(Debug)]
pub(crate) enum Choice {
    /// The firmware file is new or the stored one unusable: take it over to STATE.
    Import { config: NodeConfig, found: Found },
    /// Nothing usable: the node waits for a configuration. Why, unless there is none at all.
    Maintenance(Option<ConfigError>),
    /// The one on STATE holds. A new file on the firmware partition may have been refused.
    Stored {
        config: NodeConfig,
        content: Vec<u8>,
        refused: Option<ConfigError>,
    },
}

/// Names used in messages.
pub(crate) const STORED_NAME: &str = "STATE:config/keelson.yaml";
pub(crate) const FIRMWARE_NAME: &str = "ESP:keelson.yaml";

/// Decides. A firmware file that differs from the one imported last is how a person re-feeds a
/// node, so it wins when it is valid; when it is not, a good stored one is kept.
pub(crate) fn choose(candidates: Candidates) -> Choice {
    let stored = candidates.stored.map(|content| {
        check::read(&content, STORED_NAME)
            .map(|config| (config, content))
            .map_err(Box::new)
    });
    let Some(found) = candidates.firmware else {
        return match stored {
            None => Choice::Maintenance(None),
            Some(Ok((config, content))) => Choice::Stored {
                config,
                content,
                refused: None,
            },
            Some(Err(error)) => Choice::Maintenance(Some(*error)),
        };
    };
    let fresh = candidates.imported.as_ref() != Some(&found.digest);
    match (check::read(&found.content, FIRMWARE_NAME), stored) {
        (_, Some(Ok((config, content)))) if !fresh => Choice::Stored {
            config,
            content,
            refused: None,
        },
        (Ok(config), _) => Choice::Import { config, found },
        (Err(error), Some(Ok((config, content)))) => Choice::Stored {
            config,
            content,
            refused: Some(error),
        },
        (Err(error), _) => Choice::Maintenance(Some(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "apiVersion: keelson.dev/v1alpha1\nkind: NodeConfig\nhostname: stored\n";
    const OTHER: &str = "apiVersion: keelson.dev/v1alpha1\nkind: NodeConfig\nhostname: fed\n";
    const BAD: &str = "apiVersion: keelson.dev/v1alpha1\nkind: NodeConfig\nhostnam: x\n";

    fn choice(stored: Option<&str>, imported: Option<&str>, firmware: Option<&str>) -> String {
        let choice = choose(Candidates {
            stored: stored.map(|text| text.as_bytes().to_vec()),
            imported: imported.map(str::to_owned),
            firmware: firmware.map(|text| Found {
                content: text.as_bytes().to_vec(),
                digest: text.to_owned(),
            }),
        });
        match choice {
            Choice::Import { config, .. } => format!("import {}", config.hostname.unwrap()),
            Choice::Maintenance(None) => "maintenance".to_owned(),
            Choice::Maintenance(Some(error)) => format!("maintenance {}", error.source_name),
            Choice::Stored {
                config, refused, ..
            } => format!(
                "stored {}{}",
                config.hostname.unwrap(),
                refused.map_or("", |_| ", refused")
            ),
        }
    }

    #[test]
    fn decision_table() {
        let table = [
            (None, None, None, "maintenance"),
            (None, None, Some(OTHER), "import fed"),
            (None, None, Some(BAD), "maintenance ESP:keelson.yaml"),
            (Some(GOOD), None, None, "stored stored"),
            (Some(GOOD), Some(OTHER), None, "stored stored"),
            // Imported before: what is on STATE may have been changed since.
            (Some(GOOD), Some(OTHER), Some(OTHER), "stored stored"),
            // Put there since: a person feeds the node.
            (Some(GOOD), None, Some(OTHER), "import fed"),
            (Some(GOOD), Some(GOOD), Some(OTHER), "import fed"),
            (Some(GOOD), Some(GOOD), Some(BAD), "stored stored, refused"),
            (
                Some(BAD),
                None,
                None,
                "maintenance STATE:config/keelson.yaml",
            ),
            (Some(BAD), Some(OTHER), Some(OTHER), "import fed"),
            (Some(BAD), None, Some(BAD), "maintenance ESP:keelson.yaml"),
            // STATE was wiped but the record survived.
            (None, Some(OTHER), Some(OTHER), "import fed"),
        ];
        for (stored, imported, firmware, expected) in table {
            assert_eq!(
                choice(stored, imported, firmware),
                expected,
                "stored {stored:?}, imported {imported:?}, firmware {firmware:?}"
            );
        }
    }
}
