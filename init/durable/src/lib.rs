//! Replaces a file so that a power cut leaves either the old or the new content, never a mixture.
//!
//! The content goes to a temporary file in the same folder, is synced, renamed over the old file,
//! and the folder is synced: after [`replace`] returns, the new content survives a power cut.
//! The temporary name is fixed, so a leftover of an interrupted attempt is overwritten by the
//! next one; a file must therefore have a single writer at a time.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use rustix::fs::{Gid, Mode, OFlags, Uid};

/// Who a file belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
}

/// A file could not be replaced; the old content, if any, is still there.
#[derive(Debug, thiserror::Error)]
pub enum ReplaceError {
    /// The path has no folder or no file name.
    #[error("{path} does not name a file in a folder")]
    NotAFile {
        /// What was to be written.
        path: PathBuf,
    },
    /// One of the steps failed.
    #[error("cannot {step} {path}")]
    Step {
        /// The step, as a verb.
        step: &'static str,
        /// The file it failed on.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// Replaces `path` with `content`; the file belongs to the calling user.
///
/// # Errors
/// When a step fails; the old file is then untouched.
pub fn replace(path: &Path, content: &[u8], mode: u32) -> Result<(), ReplaceError> {
    replace_file(path, content, mode, None)
}

/// Replaces `path` with `content` and gives the file to `owner` before it gets its final name.
///
/// # Errors
/// When a step fails; the old file is then untouched.
pub fn replace_owned(
    path: &Path,
    content: &[u8],
    mode: u32,
    owner: Owner,
) -> Result<(), ReplaceError> {
    replace_file(path, content, mode, Some(owner))
}

/// Removes `path` if it exists, and makes the removal survive a power cut.
///
/// # Errors
/// When the file cannot be removed or its folder cannot be synced.
pub fn remove(path: &Path) -> Result<(), ReplaceError> {
    let (folder, _) = split(path)?;
    match std::fs::remove_file(path) {
        Ok(()) => sync_folder(folder),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(source) => Err(ReplaceError::Step {
            step: "remove",
            path: path.to_owned(),
            source,
        }),
    }
}

/// Syncs a folder, so that names made in it survive a power cut.
///
/// # Errors
/// When the folder cannot be opened or synced.
pub fn sync_folder(folder: &Path) -> Result<(), ReplaceError> {
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(|source| ReplaceError::Step {
            step: "sync the folder",
            path: folder.to_owned(),
            source,
        })
}

fn replace_file(
    path: &Path,
    content: &[u8],
    mode: u32,
    owner: Option<Owner>,
) -> Result<(), ReplaceError> {
    let (folder, name) = split(path)?;
    let temporary = folder.join(name);
    let step = |step, path: &Path| {
        let path = path.to_owned();
        move |source: io::Error| ReplaceError::Step { step, path, source }
    };
    // Secrets folders belong to unprivileged users, who could leave a link or a FIFO there:
    // whatever has the temporary name goes, and only a file made here is written to.
    match std::fs::remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(step("remove the left-over", &temporary)(error));
        }
        _ => {}
    }
    let file = rustix::fs::open(
        &temporary,
        OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC,
        Mode::from_raw_mode(0o600),
    )
    .map_err(io::Error::from)
    .map_err(step("create", &temporary))?;
    let mut file = File::from(file);
    file.write_all(content).map_err(step("write", &temporary))?;
    if let Some(Owner { uid, gid }) = owner {
        rustix::fs::fchown(&file, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))
            .map_err(io::Error::from)
            .map_err(step("give away", &temporary))?;
    }
    rustix::fs::fchmod(&file, Mode::from_raw_mode(mode))
        .map_err(io::Error::from)
        .map_err(step("set the mode of", &temporary))?;
    file.sync_all().map_err(step("sync", &temporary))?;
    std::fs::rename(&temporary, path).map_err(step("rename into place", path))?;
    sync_folder(folder)
}

/// The folder of `path` and the temporary name beside it.
fn split(path: &Path) -> Result<(&Path, OsString), ReplaceError> {
    let not_a_file = || ReplaceError::NotAFile {
        path: path.to_owned(),
    };
    let folder = path.parent().ok_or_else(not_a_file)?;
    let name = path.file_name().ok_or_else(not_a_file)?;
    let folder = if folder.as_os_str().is_empty() {
        Path::new(".")
    } else {
        folder
    };
    let mut temporary = OsString::from(".");
    temporary.push(name);
    temporary.push(".new");
    Ok((folder, temporary))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn replaces_content_and_mode_and_leaves_no_temporary_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key.pem");
        replace(&path, b"old", 0o644).unwrap();
        replace(&path, b"new", 0o400).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"new");
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o400);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_leftover_of_an_interrupted_attempt_is_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(".key.pem.new"), b"half of it and more").unwrap();
        let path = folder.path().join("key.pem");
        replace(&path, b"whole", 0o600).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"whole");
    }

    #[test]
    fn a_link_planted_at_the_temporary_name_is_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        let victim = folder.path().join("victim");
        std::fs::write(&victim, b"untouched").unwrap();
        std::os::unix::fs::symlink(&victim, folder.path().join(".key.pem.new")).unwrap();
        let path = folder.path().join("key.pem");
        replace(&path, b"secret", 0o400).unwrap();
        assert_eq!(std::fs::read(&victim).unwrap(), b"untouched");
        assert_eq!(std::fs::read(&path).unwrap(), b"secret");
    }

    #[test]
    fn removing_what_is_not_there_is_no_error() {
        let folder = tempfile::tempdir().unwrap();
        remove(&folder.path().join("absent")).unwrap();
    }
}
