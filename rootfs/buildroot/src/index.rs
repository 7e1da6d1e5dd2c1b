//! What the archive has now: the package indexes that apt has fetched and whose signatures it has checked.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

/// Every version of every package that the indexes list.
#[derive(Debug, Default)]
pub(crate) struct Archive {
    packages: HashMap<String, Vec<Version>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Version {
    version: String,
    sha256: String,
}

/// An index that could not be read.
#[derive(Debug, Error)]
#[error("cannot read the package index {path}")]
pub struct IndexError {
    /// The index.
    pub path: PathBuf,
    /// What the system said.
    pub source: io::Error,
}

impl Archive {
    /// Reads every index in apt's folder of lists.
    pub(crate) fn read(lists: &Path) -> Result<Self, IndexError> {
        let fail = |path: &Path, source| IndexError {
            path: path.to_owned(),
            source,
        };
        let mut archive = Self::default();
        for entry in fs::read_dir(lists).map_err(|error| fail(lists, error))? {
            let path = entry.map_err(|error| fail(lists, error))?.path();
            let name = path.file_name().unwrap_or_default();
            if name.to_string_lossy().ends_with("_Packages") {
                let text = fs::read_to_string(&path).map_err(|error| fail(&path, error))?;
                archive.add(&text);
            }
        }
        Ok(archive)
    }

    /// Adds the stanzas of one index.
    pub(crate) fn add(&mut self, text: &str) {
        for stanza in text.split("\n\n") {
            let (mut name, mut version, mut sha256) = (None, None, None);
            for line in stanza.lines() {
                if let Some(value) = line.strip_prefix("Package: ") {
                    name = Some(value);
                } else if let Some(value) = line.strip_prefix("Version: ") {
                    version = Some(value);
                } else if let Some(value) = line.strip_prefix("SHA256: ") {
                    sha256 = Some(value);
                }
            }
            if let (Some(name), Some(version), Some(sha256)) = (name, version, sha256) {
                let versions = self.packages.entry(name.to_owned()).or_default();
                versions.push(Version {
                    version: version.to_owned(),
                    sha256: sha256.to_owned(),
                });
            }
        }
    }

    /// Hash of one version, when the archive has it.
    pub(crate) fn sha256(&self, name: &str, version: &str) -> Option<&str> {
        let mut versions = self.packages.get(name)?.iter();
        versions
            .find(|one| one.version == version)
            .map(|one| one.sha256.as_str())
    }

    /// Whether the archive has any version of a package.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.packages.contains_key(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stanzas_are_found_and_broken_ones_skipped() {
        let mut archive = Archive::default();
        archive.add(
            "Package: make\nVersion: 4\nSHA256: aa\nDescription: x\n more\n\n\
             Package: make\nVersion: 5\nSHA256: bb\n\nPackage: half\nVersion: 1\n",
        );
        assert_eq!(archive.sha256("make", "5"), Some("bb"));
        assert_eq!(archive.sha256("make", "6"), None);
        assert!(!archive.has("half"));
    }
}
