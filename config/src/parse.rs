//! From bytes to a checked [`NodeConfig`].

use serde::Deserialize;
use serde_saphyr::options::{DuplicateKeyPolicy, MergeKeyPolicy};
use serde_saphyr::{Options, with_deserializer_from_str_with_options};

use crate::error::{ConfigError, Position, frame};
use crate::explain::{Explanation, explain};
use crate::locate::{locate, position};
use crate::model::NodeConfig;
use crate::validate::validate;

/// Largest configuration that is read. A node with 200 interfaces needs 30 KiB.
pub const MAX_BYTES: usize = 256 * 1024;

impl NodeConfig {
    /// Reads and checks a configuration. `source_name` is what messages call it: a path, or where
    /// the text came from.
    ///
    /// # Errors
    /// The first problem found, with its place and what to do.
    pub fn parse(text: impl AsRef<[u8]>, source_name: &str) -> Result<Self, ConfigError> {
        let bytes = text.as_ref();
        let text = text_of(bytes, source_name)?;
        check_header(text, source_name)?;
        let config: Self = read(text, source_name)?;
        validate(&config).map_err(|finding| {
            ConfigError::at_key(
                text,
                source_name,
                &finding.key_path,
                &finding.problem,
                &finding.advice,
            )
        })?;
        Ok(config)
    }

    /// The configuration as YAML. [`NodeConfig::parse`] reads it back to the same value.
    ///
    /// # Errors
    /// When the serializer fails, which no valid configuration makes it do.
    pub fn to_yaml(&self) -> Result<String, EmitError> {
        serde_saphyr::to_string(self).map_err(EmitError)
    }
}

impl ConfigError {
    /// A problem with the value at a key of a text that parses: for rules that only the node
    /// itself can check.
    pub fn at_key(
        text: &str,
        source_name: &str,
        key_path: &str,
        problem: &str,
        advice: &str,
    ) -> Self {
        let at = locate(text, key_path, options());
        Self {
            source_name: source_name.into(),
            position: at,
            key_path: key_path.into(),
            problem: problem.into(),
            advice: advice.into(),
            frame: at.map_or_else(String::new, |at| frame(text, at)).into(),
        }
    }
}

/// The configuration could not be written as YAML.
#[derive(Debug, thiserror::Error)]
#[error("cannot write the configuration as YAML")]
pub struct EmitError(#[source] serde_saphyr::SerializeError);

/// The checks that need no parser: size, encoding, emptiness.
fn text_of<'a>(bytes: &'a [u8], source_name: &str) -> Result<&'a str, ConfigError> {
    let fail = |position, problem: String, advice: &str| ConfigError {
        source_name: source_name.into(),
        position,
        key_path: "".into(),
        problem: problem.into(),
        advice: advice.into(),
        frame: "".into(),
    };
    if bytes.len() > MAX_BYTES {
        let problem = format!(
            "the configuration is {} bytes long, the limit is {MAX_BYTES} bytes",
            bytes.len()
        );
        return Err(fail(None, problem, "is this the right file?"));
    }
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let at = place_of(bytes, error.valid_up_to());
        fail(
            Some(at),
            "this is not UTF-8 text".to_owned(),
            "save the file as UTF-8",
        )
    })?;
    // YAML allows no control character but tab and line ends; binary files are full of zeros.
    if let Some(index) = bytes
        .iter()
        .position(|b| *b < 0x20 && !b"\t\n\r".contains(b))
    {
        let byte = bytes.get(index).copied().unwrap_or_default();
        let problem = format!("the file contains the control character 0x{byte:02x}");
        return Err(fail(
            Some(place_of(bytes, index)),
            problem,
            "is this a text file?",
        ));
    }
    let blank = |line: &str| {
        matches!(line.trim(), "" | "---" | "...") || line.trim_start().starts_with('#')
    };
    if text.trim_start_matches('\u{feff}').lines().all(blank) {
        return Err(fail(
            None,
            "the configuration is empty".to_owned(),
            "give at least apiVersion and kind",
        ));
    }
    Ok(text)
}

/// A document of another kind or version gets that as its error, not its first unknown key.
fn check_header(text: &str, source_name: &str) -> Result<(), ConfigError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Header {
        api_version: Option<String>,
        kind: Option<String>,
    }
    // Whatever else is wrong is found, and better explained, by the full reading.
    let Ok(header) = serde_saphyr::from_str_with_options::<Header>(text, options()) else {
        return Ok(());
    };
    let checks = [
        ("apiVersion", header.api_version, "keelson.dev/v1alpha1"),
        ("kind", header.kind, "NodeConfig"),
    ];
    for (key, found, wanted) in checks {
        let (problem, at) = match found {
            Some(found) if found == wanted => continue,
            Some(found) => (
                format!(
                    "this node cannot read {key} {}",
                    crate::text::quoted(&found)
                ),
                locate(text, key, options()),
            ),
            None => ("this key is missing".to_owned(), None),
        };
        return Err(ConfigError {
            source_name: source_name.into(),
            position: at,
            key_path: key.into(),
            problem: problem.into(),
            advice: format!("write `{key}: {wanted}`").into(),
            frame: at.map_or_else(String::new, |at| frame(text, at)).into(),
        });
    }
    Ok(())
}

fn read(text: &str, source_name: &str) -> Result<NodeConfig, ConfigError> {
    let mut path = String::new();
    let result = with_deserializer_from_str_with_options(text, options(), |de| {
        serde_path_to_error::deserialize(de).map_err(|error| {
            path = error.path().to_string();
            error.into_inner()
        })
    });
    result.map_err(|error| {
        let Explanation {
            key_path,
            problem,
            advice,
        } = explain(&error, &path);
        let at = error
            .without_snippet()
            .location()
            .and_then(position)
            .or_else(|| locate(text, &key_path, options()));
        ConfigError {
            source_name: source_name.into(),
            position: at,
            key_path: key_path.into(),
            problem: problem.into(),
            advice: advice.into(),
            frame: at.map_or_else(String::new, |at| frame(text, at)).into(),
        }
    })
}

/// How YAML is read: the strict subset that leaves no room for surprises, within limits that a
/// real configuration stays far below and that no hostile one gets past in a noticeable time.
fn options() -> Options {
    serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_depth: 32,
            flow_nesting_limit: 32,
            max_nodes: 20_000,
            max_events: 60_000,
            max_anchors: 32,
            max_aliases: 64,
            max_recorded_anchor_events: 2_000,
            max_recorded_anchor_bytes: MAX_BYTES,
            // More than one is refused with words of its own.
            max_documents: 8,
            max_total_scalar_bytes: 2 * MAX_BYTES,
        },
        duplicate_keys: DuplicateKeyPolicy::Error,
        merge_keys: MergeKeyPolicy::Error,
        emit_comments: false,
        strict_booleans: true,
        reject_unsupported_tags: true,
        with_snippet: false,
    }
}

fn place_of(bytes: &[u8], index: usize) -> Position {
    let before = bytes.get(..index).unwrap_or(bytes);
    let line_start = before
        .iter()
        .rposition(|b| *b == b'\n')
        .map_or(0, |at| at + 1);
    let column = String::from_utf8_lossy(before.get(line_start..).unwrap_or_default());
    Position {
        line: before.iter().filter(|b| **b == b'\n').count() + 1,
        column: column.chars().count() + 1,
    }
}
