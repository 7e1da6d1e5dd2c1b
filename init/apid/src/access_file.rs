//! What machined lets callers do at all: the mode of the node and revoked certificates.

use std::io;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::identity::{NoFingerprint, Revoked};

/// What access.json says.
#[derive(Debug)]
pub(crate) struct Access {
    pub(crate) mode: Mode,
    pub(crate) revoked: Revoked,
}

/// Whether the node has a configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Mode {
    /// It has one: callers show certificates.
    Normal,
    /// It has none: a caller without a certificate may give it one.
    Maintenance,
}

/// The file cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AccessError {
    #[error("cannot read {}", .path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{} is not what machined writes", .path.display())]
    Parse {
        path: PathBuf,
        source: serde_json::Error,
    },
    #[error("{} revokes something else than a certificate", .path.display())]
    Revoked {
        path: PathBuf,
        source: NoFingerprint,
    },
}

impl Access {
    pub(crate) fn read(path: &Path) -> Result<Self, AccessError> {
        let text = std::fs::read(path).map_err(|source| AccessError::Read {
            path: path.to_owned(),
            source,
        })?;
        let file: File = serde_json::from_slice(&text).map_err(|source| AccessError::Parse {
            path: path.to_owned(),
            source,
        })?;
        let revoked: Result<Revoked, _> = file.revoked.iter().map(|text| text.parse()).collect();
        Ok(Self {
            mode: file.mode,
            revoked: revoked.map_err(|source| AccessError::Revoked {
                path: path.to_owned(),
                source,
            })?,
        })
    }
}

#[derive(Deserialize)]
struct File {
    mode: Mode,
    revoked: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Access, AccessError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("access.json");
        std::fs::write(&path, text).unwrap();
        Access::read(&path)
    }

    #[test]
    fn a_file_that_is_half_right_is_wrong() {
        let one = "ab".repeat(32);
        let access = read(&format!(r#"{{"mode":"normal","revoked":["{one}"]}}"#)).unwrap();
        assert_eq!(access.mode, Mode::Normal);
        assert!(access.revoked.contains(&one.parse().unwrap()));
        assert_eq!(
            read(r#"{"mode":"maintenance","revoked":[]}"#).unwrap().mode,
            Mode::Maintenance
        );
        for wrong in [
            "",
            r#"{"mode":"normal"}"#,
            r#"{"mode":"open","revoked":[]}"#,
            r#"{"revoked":[]}"#,
        ] {
            assert!(
                matches!(read(wrong), Err(AccessError::Parse { .. })),
                "{wrong}"
            );
        }
        assert!(matches!(
            read(r#"{"mode":"normal","revoked":["ab"]}"#),
            Err(AccessError::Revoked { .. })
        ));
    }
}
