//! Keys of cache entries: a hash over the stage's name and every input, in order.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use thiserror::Error;

use crate::entry::Entry;
use crate::hash::{self, HashFileError, hex};
use crate::tree::{self, Kind, TreeError};

/// Characters of the hash that an entry's folder name shows; the manifest holds all of them.
const SHOWN: usize = 16;

/// Any bit that lets somebody execute a file.
const EXECUTE_BITS: u32 = 0o111;

/// What identifies one entry: a stage and the hash of its inputs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    stage: String,
    hash: String,
}

impl Key {
    /// Begins the key of a stage.
    pub fn stage(name: &str) -> KeyBuilder {
        let mut builder = KeyBuilder {
            stage: name.to_owned(),
            hasher: Sha256::new(),
        };
        builder.field("stage", name.as_bytes());
        builder
    }

    /// The stage's name.
    pub fn stage_name(&self) -> &str {
        &self.stage
    }

    /// The whole hash, in hexadecimal.
    pub fn hash(&self) -> &str {
        &self.hash
    }

    /// Name of the entry's folder.
    pub(crate) fn folder_name(&self) -> String {
        format!("{}-{}", self.stage, &self.hash[..SHOWN])
    }
}

impl fmt::Display for Key {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.folder_name())
    }
}

/// An input that could not be read.
#[derive(Debug, Error)]
pub enum KeyError {
    /// A file.
    #[error("cannot hash an input of stage {stage}")]
    File {
        /// The stage.
        stage: String,
        /// The file and what the system said.
        source: HashFileError,
    },
    /// A folder.
    #[error("cannot walk an input folder of stage {stage}")]
    Folder {
        /// The stage.
        stage: String,
        /// The folder and what the system said.
        source: TreeError,
    },
    /// An input that is not there, or is no file.
    #[error("input {path} of stage {stage} is not a readable file")]
    Missing {
        /// The stage.
        stage: String,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// Takes inputs one by one; the order counts.
#[derive(Debug)]
pub struct KeyBuilder {
    stage: String,
    hasher: Sha256,
}

impl KeyBuilder {
    /// Adds a named text: a version, a flag, a format number.
    #[must_use]
    pub fn text(mut self, name: &str, value: &str) -> Self {
        self.field(name, value.as_bytes());
        self
    }

    /// Adds a named file: content and whether it may be executed, not its place.
    pub fn file(mut self, name: &str, path: &Path) -> Result<Self, KeyError> {
        let metadata = fs::metadata(path).map_err(|source| KeyError::Missing {
            stage: self.stage.clone(),
            path: path.to_owned(),
            source,
        })?;
        self.field("file", name.as_bytes());
        let executable =
            std::os::unix::fs::PermissionsExt::mode(&metadata.permissions()) & EXECUTE_BITS != 0;
        self.file_content(path, executable)?;
        Ok(self)
    }

    /// Adds a named folder: every name below it, contents, link targets, execute bits.
    pub fn folder(self, name: &str, path: &Path) -> Result<Self, KeyError> {
        self.folder_where(name, path, |_| true)
    }

    /// Adds what `wanted` keeps of a folder; it is asked with paths relative to the folder.
    pub fn folder_where(
        mut self,
        name: &str,
        path: &Path,
        wanted: impl Fn(&str) -> bool,
    ) -> Result<Self, KeyError> {
        self.field("folder", name.as_bytes());
        let items = tree::walk(path).map_err(|source| KeyError::Folder {
            stage: self.stage.clone(),
            source,
        })?;
        for item in items.iter().filter(|item| wanted(&item.path)) {
            self.field("path", item.path.as_bytes());
            match &item.kind {
                Kind::Folder => self.field("kind", b"folder"),
                Kind::Link { target } => self.field("link", target.as_bytes()),
                Kind::File { .. } => {
                    self.file_content(&path.join(&item.path), item.mode & EXECUTE_BITS != 0)?;
                }
            }
        }
        self.field("end", b"");
        Ok(self)
    }

    /// Adds another entry: everything that went into it counts here too.
    #[must_use]
    pub fn entry(mut self, name: &str, entry: &Entry) -> Self {
        self.field(name, entry.key().stage.as_bytes());
        self.field("hash", entry.key().hash.as_bytes());
        self
    }

    /// The finished key.
    pub fn finish(self) -> Key {
        Key {
            stage: self.stage,
            hash: hex(&self.hasher.finalize()),
        }
    }

    fn file_content(&mut self, path: &Path, executable: bool) -> Result<(), KeyError> {
        // A fixed-length digest of its own, so that no content can imitate the next field.
        let mut content = Sha256::new();
        hash::feed_file(&mut content, path).map_err(|source| KeyError::File {
            stage: self.stage.clone(),
            source,
        })?;
        self.field("executable", if executable { b"yes" } else { b"no" });
        self.field("content", &content.finalize());
        Ok(())
    }

    /// Lengths go before the bytes, so that no two lists of fields look the same.
    fn field(&mut self, name: &str, value: &[u8]) {
        for part in [name.as_bytes(), value] {
            self.hasher.update(part.len().to_string().as_bytes());
            self.hasher.update(b":");
            self.hasher.update(part);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_cannot_run_into_each_other() {
        let one = Key::stage("s").text("a", "bc").finish();
        let other = Key::stage("s").text("ab", "c").finish();
        assert_ne!(one.hash(), other.hash());
    }

    #[test]
    fn order_and_stage_count() {
        let key = |stage: &str, names: [&str; 2]| {
            let builder = Key::stage(stage).text(names[0], "1");
            builder.text(names[1], "1").finish()
        };
        assert_ne!(key("s", ["a", "b"]).hash(), key("s", ["b", "a"]).hash());
        assert_ne!(key("s", ["a", "b"]).hash(), key("t", ["a", "b"]).hash());
        assert_eq!(key("s", ["a", "b"]), key("s", ["a", "b"]));
    }

    #[test]
    fn a_folder_counts_by_content_names_and_execute_bits() {
        let folder = tempfile::tempdir().unwrap();
        let hash = || {
            let key = Key::stage("s").folder("in", folder.path()).unwrap();
            key.finish().hash().to_owned()
        };
        let file = folder.path().join("file");
        fs::write(&file, "x").unwrap();
        let first = hash();
        assert_eq!(first, hash());
        fs::write(&file, "y").unwrap();
        let second = hash();
        assert_ne!(first, second);
        let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        fs::set_permissions(&file, executable).unwrap();
        let third = hash();
        assert_ne!(second, third);
        fs::rename(&file, folder.path().join("other")).unwrap();
        assert_ne!(third, hash());
    }

    #[test]
    fn a_missing_input_is_named() {
        let error = Key::stage("s").file("in", Path::new("gone")).unwrap_err();
        assert_eq!(
            error.to_string(),
            "input gone of stage s is not a readable file"
        );
    }
}
