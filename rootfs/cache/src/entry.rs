//! Getting an entry: the checked one from disk, or a new one, built aside and renamed into place.

use std::error::Error as StdError;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::key::Key;
use crate::lock::{self, Lock, LockError, Mode};
use crate::manifest::{Manifest, ManifestError, sync_folder};
use crate::tree;
use crate::{Cache, Progress};

const MANIFEST: &str = "manifest.json";
const TREE: &str = "tree";

/// How an entry is compared with its manifest before it is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Check {
    /// Every file is hashed: for what is shipped.
    Contents,
    /// Sizes and times of change only: for trees of tens of thousands of files.
    Stamps,
}

/// A finished, checked entry.
#[derive(Debug, Clone)]
pub struct Entry {
    key: Key,
    tree: PathBuf,
}

impl Entry {
    /// The folder that the build filled. Nobody may write to it.
    pub fn path(&self) -> &Path {
        &self.tree
    }

    /// What it was made from.
    pub fn key(&self) -> &Key {
        &self.key
    }
}

/// Why an entry could not be had.
#[derive(Debug, Error)]
pub enum GetError<E: StdError + 'static> {
    /// Another build holds it.
    #[error("stage {stage} cannot start")]
    Lock {
        /// The stage.
        stage: String,
        /// Who holds it.
        source: LockError,
    },
    /// Something in the cache folder could not be removed, made or renamed.
    #[error("cannot {action} {path}")]
    Folder {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The build itself failed.
    #[error("stage {stage} failed")]
    Build {
        /// The stage.
        stage: String,
        /// Why.
        source: E,
    },
    /// The finished entry could not be described.
    #[error("cannot finish the entry of stage {stage}")]
    Manifest {
        /// The stage.
        stage: String,
        /// Why.
        source: ManifestError,
    },
}

impl Cache {
    /// The entry for `key`: from the cache when it is there and right, else made by `build` in the folder it is given.
    pub fn get_or_build<E: StdError + 'static>(
        &self,
        key: Key,
        check: Check,
        progress: Progress<'_>,
        build: impl FnOnce(&Path) -> Result<(), E>,
    ) -> Result<Entry, GetError<E>> {
        let name = key.folder_name();
        let lock_error = |source| GetError::Lock {
            stage: key.stage_name().to_owned(),
            source,
        };
        let _cache_lock = self
            .lock(Mode::Shared, lock::DEADLINE, progress)
            .map_err(lock_error)?;
        let path = self.locks().join(format!("{name}.lock"));
        let _lock = Lock::take(&path, &name, Mode::Exclusive, lock::DEADLINE, progress)
            .map_err(lock_error)?;

        let folder = self.entries().join(&name);
        if !self.usable(&folder, &key, check, progress)? {
            self.remove_leftovers(&name, progress)?;
            self.build_entry(&folder, &key, check, build)?;
        }
        Ok(Entry {
            tree: folder.join(TREE),
            key,
        })
    }

    /// The lock over the whole cache: shared by builds, exclusive for those who remove.
    pub(crate) fn lock(
        &self,
        mode: Mode,
        deadline: std::time::Duration,
        progress: Progress<'_>,
    ) -> Result<Lock, LockError> {
        let path = self.locks().join("cache.lock");
        Lock::take(&path, "the whole cache", mode, deadline, progress)
    }

    /// Whether the entry is there and right; a wrong one is removed.
    fn usable<E: StdError>(
        &self,
        folder: &Path,
        key: &Key,
        check: Check,
        progress: Progress<'_>,
    ) -> Result<bool, GetError<E>> {
        if fs::symlink_metadata(folder).is_err() {
            return Ok(false);
        }
        let verdict = Manifest::verify(&folder.join(MANIFEST), key, check, &folder.join(TREE));
        let Err(wrong) = verdict else {
            return Ok(true);
        };
        progress(&format!(
            "cache entry {key} thrown away: {wrong}; building it again"
        ));
        // Renamed first: a removal that is cut short must not leave a half-removed entry in place.
        let aside = self.temporary().join(temporary_name(&key.folder_name()));
        fs::rename(folder, &aside).map_err(folder_error("move away", folder))?;
        tree::remove(&aside).map_err(folder_error("remove", &aside))?;
        Ok(false)
    }

    /// Removes what an interrupted build of the same entry left; nobody else can be using it while we hold the lock.
    fn remove_leftovers<E: StdError>(
        &self,
        name: &str,
        progress: Progress<'_>,
    ) -> Result<(), GetError<E>> {
        let temporary = self.temporary();
        let list = fs::read_dir(&temporary).map_err(folder_error("list", &temporary))?;
        let prefix = format!("{name}.");
        for entry in list.flatten() {
            if entry.file_name().to_string_lossy().starts_with(&prefix) {
                progress(&format!(
                    "removing what an interrupted build of {name} left"
                ));
                let path = entry.path();
                tree::remove(&path).map_err(folder_error("remove", &path))?;
            }
        }
        Ok(())
    }

    fn build_entry<E: StdError>(
        &self,
        folder: &Path,
        key: &Key,
        check: Check,
        build: impl FnOnce(&Path) -> Result<(), E>,
    ) -> Result<(), GetError<E>> {
        let temporary = self.temporary().join(temporary_name(&key.folder_name()));
        let tree = temporary.join(TREE);
        fs::create_dir_all(&tree).map_err(folder_error("make", &tree))?;
        let stage = || key.stage_name().to_owned();
        if let Err(source) = build(&tree) {
            // The build's own error is the one to report; a leftover is removed by the next attempt.
            let _ = tree::remove(&temporary);
            return Err(GetError::Build {
                stage: stage(),
                source,
            });
        }
        let manifest_error = |source| GetError::Manifest {
            stage: stage(),
            source,
        };
        let manifest = Manifest::make(key, check, &tree).map_err(manifest_error)?;
        if check == Check::Stamps {
            // A power cut can leave files of the right size and time but without content,
            // which only hashes would notice: here everything is on disk before the rename.
            let synced = fs::File::open(&tree)
                .and_then(|handle| rustix::fs::syncfs(&handle).map_err(io::Error::from));
            synced.map_err(folder_error("write to disk", &tree))?;
        }
        let path = temporary.join(MANIFEST);
        manifest.write(&path).map_err(manifest_error)?;
        sync_folder(&temporary).map_err(folder_error("write to disk", &temporary))?;
        fs::rename(&temporary, folder).map_err(folder_error("rename", &temporary))?;
        let entries = self.entries();
        sync_folder(&entries).map_err(folder_error("write to disk", &entries))
    }
}

fn temporary_name(name: &str) -> String {
    format!("{name}.{}", process::id())
}

fn folder_error<E: StdError>(
    action: &'static str,
    path: &Path,
) -> impl FnOnce(io::Error) -> GetError<E> {
    let path = path.to_owned();
    move |source| GetError::Folder {
        action,
        path,
        source,
    }
}
