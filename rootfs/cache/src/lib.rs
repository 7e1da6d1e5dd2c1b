//! The build cache: folders made once, named by the hash of what went into them, checked before every use.
//!
//! An entry is built in a temporary folder, described by a manifest and renamed into
//! place, so a half-made one is never seen. Before an entry is used it is compared
//! with its manifest; a wrong one is thrown away, aloud, and built again.

mod clean;
mod entry;
mod hash;
mod key;
mod lock;
mod manifest;
mod tree;

use std::env;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

pub use clean::{CleanError, Removal, Scope};
pub use entry::{Check, Entry, GetError};
pub use hash::{HashFileError, file_sha256, hex};
pub use key::{Key, KeyBuilder, KeyError};
pub use lock::LockError;
pub use manifest::{ManifestError, Wrong};
pub use tree::TreeError;

/// Takes one status line for the person who waits: what is being done, not how.
pub type Progress<'a> = &'a dyn Fn(&str);

/// The variable that moves the cache away from `~/.cache/keelson`.
pub const CACHE_VARIABLE: &str = "KEELSON_CACHE";

/// The file that marks a folder as ours: without it nothing is ever removed there.
/// The first line is the signature of the cache folder tagging convention.
const TAG_FILE: &str = "CACHEDIR.TAG";
const TAG: &str = "Signature: 8a477f597d28d172789f06886806bc55\n# Build cache of Keelson; `make distclean` removes it.\n";

/// One cache folder.
#[derive(Debug, Clone)]
pub struct Cache {
    root: PathBuf,
}

/// Why the cache folder cannot be used.
#[derive(Debug, Error)]
pub enum OpenError {
    /// Neither the variable nor a home folder says where the cache is.
    #[error("no place for the build cache: set {CACHE_VARIABLE} or HOME")]
    NoPlace,
    /// A folder could not be made.
    #[error("cannot make the cache folder {path}; set {CACHE_VARIABLE} to one you may write to")]
    Create {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The path has bytes that are not UTF-8, which manifests and tools cannot name.
    #[error("the cache folder's path {path:?} is not UTF-8")]
    NotUtf8 {
        /// The folder.
        path: PathBuf,
    },
}

impl Cache {
    /// Opens the cache that the environment names, or `~/.cache/keelson`.
    pub fn from_environment() -> Result<Self, OpenError> {
        let set = |name: &str| env::var_os(name).filter(|value| !value.is_empty());
        let root = match (set(CACHE_VARIABLE), set("HOME")) {
            (Some(root), _) => PathBuf::from(root),
            (None, Some(home)) => Path::new(&home).join(".cache/keelson"),
            (None, None) => return Err(OpenError::NoPlace),
        };
        Self::open(&root)
    }

    /// Opens a cache folder and makes it when it does not exist.
    pub fn open(root: &Path) -> Result<Self, OpenError> {
        let create_error = |source| OpenError::Create {
            path: root.to_owned(),
            source,
        };
        let root = std::path::absolute(root).map_err(create_error)?;
        if root.to_str().is_none() {
            return Err(OpenError::NotUtf8 { path: root });
        }
        let cache = Self { root };
        for folder in [cache.entries(), cache.temporary(), cache.locks()] {
            fs::create_dir_all(&folder).map_err(create_error)?;
        }
        let tag = cache.root.join(TAG_FILE);
        if !tag.exists() {
            fs::write(tag, TAG).map_err(create_error)?;
        }
        Ok(cache)
    }

    /// The cache folder itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// A folder for a tool that keeps a cache of its own (compilers, downloads); made when missing.
    pub fn folder(&self, name: &str) -> Result<PathBuf, OpenError> {
        let path = self.root.join(name);
        match fs::create_dir_all(&path) {
            Ok(()) => Ok(path),
            Err(source) => Err(OpenError::Create { path, source }),
        }
    }

    /// A place for one stage's work in progress: not made yet, perhaps left by an interrupted build; `clean` removes it.
    pub fn scratch(&self, name: &str) -> PathBuf {
        self.temporary().join(name)
    }

    fn entries(&self) -> PathBuf {
        self.root.join("entries")
    }

    fn temporary(&self) -> PathBuf {
        self.root.join("tmp")
    }

    fn locks(&self) -> PathBuf {
        self.root.join("locks")
    }
}
