//! Where the kernel's files are, and how they are read.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use thiserror::Error;

/// Longest file that is read whole. The largest here is mountinfo, with a few hundred bytes for
/// each of a few thousand mounts.
const MAX_BYTES: u64 = 8 * 1024 * 1024;

/// Where `/proc`, `/sys`, `/dev` and all else is: `/` but for tests.
#[derive(Clone, Debug)]
pub struct Root {
    path: PathBuf,
}

/// A file of the kernel cannot be read.
#[derive(Debug, Error)]
#[error("cannot read {}", path.display())]
pub struct ReadError {
    /// The file.
    pub path: PathBuf,
    /// Cause.
    pub source: io::Error,
}

impl Root {
    /// This machine.
    #[must_use]
    pub fn machine() -> Self {
        Self::at("/")
    }

    /// A tree that stands for a machine.
    #[must_use]
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// The root itself.
    pub(crate) fn as_path(&self) -> &Path {
        &self.path
    }

    /// An absolute path, below this root.
    pub(crate) fn path(&self, absolute: impl AsRef<Path>) -> PathBuf {
        let absolute = absolute.as_ref();
        self.path
            .join(absolute.strip_prefix("/").unwrap_or(absolute))
    }

    /// A whole file, up to 8 MiB.
    ///
    /// # Errors
    /// It cannot be read, or is longer.
    pub fn bytes(&self, absolute: &str) -> Result<Vec<u8>, ReadError> {
        let path = self.path(absolute);
        read(&path, MAX_BYTES).map_err(|source| ReadError { path, source })
    }

    /// A whole text file; what is no UTF-8 becomes U+FFFD.
    pub(crate) fn text(&self, absolute: &str) -> Result<String, ReadError> {
        let bytes = self.bytes(absolute)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
}

/// A file that must not be longer than `limit`.
pub(crate) fn read(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(limit + 1).read_to_end(&mut bytes)?;
    if u64::try_from(bytes.len()).is_ok_and(|length| length > limit) {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    Ok(bytes)
}

/// A small file of a folder (an attribute in /sys, a file of a process or a cgroup) as text
/// without the newline at its end; `None` when it is not there or cannot be read.
pub(crate) fn attribute(folder: &Path, name: &str) -> Option<String> {
    let bytes = read(&folder.join(name), MAX_BYTES).ok()?;
    Some(String::from_utf8_lossy(&bytes).trim_end().to_owned())
}

/// A small file that holds one value.
pub(crate) fn value<T: FromStr>(folder: &Path, name: &str) -> Option<T> {
    attribute(folder, name)?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_root_holds_everything() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("proc")).unwrap();
        std::fs::write(dir.path().join("proc/version"), b"Linux \xff\n").unwrap();
        let root = Root::at(dir.path());
        assert_eq!(root.text("/proc/version").unwrap(), "Linux \u{fffd}\n");
        let error = root.text("/proc/none").unwrap_err();
        assert_eq!(error.path, dir.path().join("proc/none"));
        assert_eq!(error.source.kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn a_file_without_end_is_an_error() {
        let error = read(Path::new("/dev/zero"), 4096).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::FileTooLarge);
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("exact"), [b'7'; 3]).unwrap();
        assert!(read(&dir.path().join("exact"), 3).is_ok());
        assert_eq!(value::<u64>(dir.path(), "exact"), Some(777));
    }
}
