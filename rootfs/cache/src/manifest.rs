//! The list of everything in an entry, written when it is made and compared before it is used.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, BufReader, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::entry::Check;
use crate::hash::{HashFileError, file_sha256};
use crate::key::Key;
use crate::tree::{self, Item, Kind, TreeError};

/// Raised when the manifest's form changes: entries of another form are built again.
const FORMAT: u32 = 1;

/// What an entry holds and which inputs it was made from.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Manifest {
    format: u32,
    stage: String,
    key: String,
    check: Check,
    items: Vec<Record>,
}

#[derive(Debug, Serialize, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
struct Record {
    path: String,
    mode: u32,
    what: What,
}

#[derive(Debug, Serialize, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields, rename_all = "lowercase")]
enum What {
    Folder,
    Link {
        target: String,
    },
    /// Compared by content.
    Content {
        size: u64,
        sha256: String,
    },
    /// Compared by size and time of change.
    Stamp {
        size: u64,
        seconds: i64,
        nanoseconds: i64,
    },
}

/// A manifest that could not be made or written.
#[derive(Debug, Error)]
pub enum ManifestError {
    /// The finished folder could not be walked.
    #[error("cannot list the finished entry")]
    Walk(#[source] TreeError),
    /// A file of it could not be hashed.
    #[error("cannot hash the finished entry")]
    Hash(#[source] HashFileError),
    /// The manifest could not be written.
    #[error("cannot write {path}")]
    Write {
        /// The manifest.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// What is wrong with an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wrong {
    /// There is no manifest: it was never finished.
    NoManifest,
    /// The manifest cannot be read as one.
    BadManifest(String),
    /// It was made from other inputs, or by another version of the cache.
    OtherInputs,
    /// A listed name is not there.
    Missing(String),
    /// A name is there that is not listed.
    Unexpected(String),
    /// A file, link, mode or size is not what it was.
    Changed(String),
    /// Something in it cannot be read.
    Unreadable(String),
}

impl fmt::Display for Wrong {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoManifest => write!(formatter, "it was never finished (no manifest)"),
            Self::BadManifest(why) => write!(formatter, "its manifest is damaged ({why})"),
            Self::OtherInputs => write!(formatter, "its manifest belongs to other inputs"),
            Self::Missing(path) => write!(formatter, "{path} is missing"),
            Self::Unexpected(path) => write!(formatter, "{path} does not belong there"),
            Self::Changed(path) => write!(formatter, "{path} has changed"),
            Self::Unreadable(why) => write!(formatter, "{why}"),
        }
    }
}

impl Manifest {
    /// Lists the folder `tree`.
    pub(crate) fn make(key: &Key, check: Check, tree: &Path) -> Result<Self, ManifestError> {
        let items = tree::walk(tree).map_err(ManifestError::Walk)?;
        let records = items.into_iter().map(|item| record(tree, check, item));
        Ok(Self {
            format: FORMAT,
            stage: key.stage_name().to_owned(),
            key: key.hash().to_owned(),
            check,
            items: records
                .collect::<Result<_, _>>()
                .map_err(ManifestError::Hash)?,
        })
    }

    /// Writes it and waits until it is on disk.
    pub(crate) fn write(&self, path: &Path) -> Result<(), ManifestError> {
        let fail = |source| ManifestError::Write {
            path: path.to_owned(),
            source,
        };
        let text = serde_json::to_vec(self).map_err(|error| fail(error.into()))?;
        let mut file = File::create(path).map_err(fail)?;
        file.write_all(&text).map_err(fail)?;
        file.sync_all().map_err(fail)
    }

    /// Compares the folder `tree` with the manifest at `path`.
    pub(crate) fn verify(path: &Path, key: &Key, check: Check, tree: &Path) -> Result<(), Wrong> {
        let file = match File::open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(Wrong::NoManifest),
            Err(error) => return Err(Wrong::BadManifest(error.to_string())),
            Ok(file) => file,
        };
        let manifest: Self = serde_json::from_reader(BufReader::new(file))
            .map_err(|error| Wrong::BadManifest(error.to_string()))?;
        if manifest.format != FORMAT || manifest.key != key.hash() || manifest.check != check {
            return Err(Wrong::OtherInputs);
        }
        let items = tree::walk(tree).map_err(|error| unreadable(&error))?;
        manifest.compare(tree, items)
    }

    /// Both lists are sorted by path, so one walk over the two finds every difference.
    fn compare(&self, tree: &Path, items: Vec<Item>) -> Result<(), Wrong> {
        let mut expected = self.items.iter();
        for item in items {
            let Some(wanted) = expected.next() else {
                return Err(Wrong::Unexpected(item.path));
            };
            if wanted.path < item.path {
                return Err(Wrong::Missing(wanted.path.clone()));
            }
            if wanted.path > item.path {
                return Err(Wrong::Unexpected(item.path));
            }
            wanted.matches(tree, item, self.check)?;
        }
        match expected.next() {
            Some(wanted) => Err(Wrong::Missing(wanted.path.clone())),
            None => Ok(()),
        }
    }
}

impl Record {
    fn matches(&self, tree: &Path, item: Item, check: Check) -> Result<(), Wrong> {
        // The cheap comparison first: a wrong size needs no hash.
        if let (What::Content { size: wanted, .. }, Kind::File { size, .. }) =
            (&self.what, &item.kind)
            && wanted != size
        {
            return Err(Wrong::Changed(item.path));
        }
        let found = record(tree, check, item).map_err(|error| unreadable(&error))?;
        if found == *self {
            Ok(())
        } else {
            Err(Wrong::Changed(found.path))
        }
    }
}

fn record(tree: &Path, check: Check, item: Item) -> Result<Record, HashFileError> {
    let what = match (item.kind, check) {
        (Kind::Folder, _) => What::Folder,
        (Kind::Link { target }, _) => What::Link { target },
        (Kind::File { size, .. }, Check::Contents) => What::Content {
            size,
            sha256: file_sha256(&tree.join(&item.path))?,
        },
        (Kind::File { size, modified }, Check::Stamps) => What::Stamp {
            size,
            seconds: modified.0,
            nanoseconds: modified.1,
        },
    };
    // The mode of a symbolic link means nothing and differs between file systems.
    let mode = match what {
        What::Link { .. } => 0,
        _ => item.mode,
    };
    Ok(Record {
        path: item.path,
        mode,
        what,
    })
}

fn unreadable(error: &dyn std::error::Error) -> Wrong {
    let cause = error.source().map(|source| format!(": {source}"));
    Wrong::Unreadable(format!("{error}{}", cause.unwrap_or_default()))
}

/// Waits until a folder's own list of names is on disk.
pub(crate) fn sync_folder(folder: &Path) -> io::Result<()> {
    fs::File::open(folder)?.sync_all()
}
