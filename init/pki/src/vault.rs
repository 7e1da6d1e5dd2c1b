//! Where the PKI is kept.

use std::io;
use std::path::PathBuf;

use keelson_durable::ReplaceError;

/// Named files that are whole or absent, also after a power cut.
pub trait Vault {
    /// The content of a file; none when there is no such file.
    ///
    /// # Errors
    /// When the file exists but cannot be read.
    fn read(&self, name: &str) -> Result<Option<Vec<u8>>, VaultError>;

    /// Makes or replaces a file; once this returns the content survives a power cut.
    ///
    /// # Errors
    /// When it cannot be written; an old file is then untouched.
    fn replace(&mut self, name: &str, content: &[u8]) -> Result<(), VaultError>;
}

/// The vault could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum VaultError {
    /// Reading failed.
    #[error("cannot read {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Writing failed.
    #[error(transparent)]
    Replace(#[from] ReplaceError),
}

/// A folder only root can enter.
pub struct DirectoryVault {
    folder: PathBuf,
}

impl DirectoryVault {
    /// Uses a folder that exists.
    #[must_use]
    pub fn new(folder: PathBuf) -> Self {
        Self { folder }
    }
}

/// Keys on STATE are for root alone.
const MODE: u32 = 0o600;

impl Vault for DirectoryVault {
    fn read(&self, name: &str) -> Result<Option<Vec<u8>>, VaultError> {
        let path = self.folder.join(name);
        match std::fs::read(&path) {
            Ok(content) => Ok(Some(content)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(VaultError::Read { path, source }),
        }
    }

    fn replace(&mut self, name: &str, content: &[u8]) -> Result<(), VaultError> {
        keelson_durable::replace(&self.folder.join(name), content, MODE)?;
        Ok(())
    }
}
