//! Emptying the cache: what would go and how large it is, then removing it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use thiserror::Error;

use crate::lock::{LockError, Mode};
use crate::tree;
use crate::{Cache, Progress, TAG, TAG_FILE};

/// Somebody who cleans does not want to wait for a kernel to be built first.
const DEADLINE: Duration = Duration::from_secs(10);

/// Which part of the cache goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// What the stages made. Downloads and compilers' caches stay, so making it again is quick.
    Entries,
    /// The whole cache.
    Everything,
}

/// Something that will be removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Removal {
    /// The file or folder.
    pub path: PathBuf,
    /// Bytes it takes on disk.
    pub bytes: u64,
}

impl Removal {
    /// A file or folder outside the cache that goes with it (`out/`), or `None` when it is not there.
    pub fn of(path: &Path) -> Option<Self> {
        fs::symlink_metadata(path).ok().map(|_| Self {
            path: path.to_owned(),
            bytes: tree::disk_usage(path),
        })
    }

    /// Removes it and says so.
    pub fn remove(&self, progress: Progress<'_>) -> Result<(), CleanError> {
        tree::remove(&self.path).map_err(|source| CleanError::Remove {
            path: self.path.clone(),
            source,
        })?;
        progress(&format!(
            "removed {} ({})",
            self.path.display(),
            size(self.bytes)
        ));
        Ok(())
    }
}

/// Why the cache could not be emptied.
#[derive(Debug, Error)]
pub enum CleanError {
    /// A build is running.
    #[error("the cache is in use")]
    InUse(#[source] LockError),
    /// The folder does not carry our mark.
    #[error("{path} does not look like our cache (no {TAG_FILE} of ours): nothing removed")]
    NotOurs {
        /// The folder.
        path: PathBuf,
    },
    /// The cache cannot be listed.
    #[error("cannot list {path}")]
    List {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Something could not be removed.
    #[error("cannot remove {path}")]
    Remove {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl Cache {
    /// Removes a part of the cache, says what and how much, and returns the bytes freed.
    pub fn clean(&self, scope: Scope, progress: Progress<'_>) -> Result<u64, CleanError> {
        let tag = fs::read_to_string(self.root().join(TAG_FILE)).unwrap_or_default();
        if tag != TAG {
            return Err(CleanError::NotOurs {
                path: self.root().to_owned(),
            });
        }
        let _lock = self
            .lock(Mode::Exclusive, DEADLINE, progress)
            .map_err(CleanError::InUse)?;
        let mut folders = match scope {
            Scope::Entries => {
                let mut entries = list(&self.entries())?;
                entries.extend(list(&self.temporary())?);
                entries
            }
            // The tag goes last: a removal that is cut short can be repeated.
            Scope::Everything => {
                let mut all = list(self.root())?;
                all.retain(|path| !path.ends_with(TAG_FILE) && !path.ends_with("locks"));
                all
            }
        };
        folders.sort();
        let mut freed = 0;
        for removal in folders.iter().filter_map(|path| Removal::of(path)) {
            removal.remove(progress)?;
            freed += removal.bytes;
        }
        if scope == Scope::Everything {
            let rest = [self.locks(), self.root().join(TAG_FILE)];
            for removal in rest.iter().filter_map(|path| Removal::of(path)) {
                removal.remove(&|_| ())?;
            }
            // Fails when somebody put a file of theirs there meanwhile: it is theirs to keep.
            let _ = fs::remove_dir(self.root());
        }
        progress(&format!(
            "{} freed in {}",
            size(freed),
            self.root().display()
        ));
        Ok(freed)
    }
}

fn list(folder: &Path) -> Result<Vec<PathBuf>, CleanError> {
    let fail = |source| CleanError::List {
        path: folder.to_owned(),
        source,
    };
    let entries = fs::read_dir(folder).map_err(fail)?;
    entries
        .map(|entry| entry.map(|entry| entry.path()).map_err(fail))
        .collect()
}

/// A size for people: whole mebibytes from one on, else kibibytes.
fn size(bytes: u64) -> String {
    const KIB: u64 = 1024;
    const MIB: u64 = KIB * KIB;
    if bytes >= MIB {
        format!("{} MiB", bytes / MIB)
    } else {
        format!("{} KiB", bytes.div_ceil(KIB))
    }
}
