//! Files that appear whole or not at all.

use std::fs::{File, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use tempfile::NamedTempFile;

/// Moves a finished temporary file (made in the same folder) to its place; returns its size.
pub(crate) fn publish(file: NamedTempFile, path: &Path) -> io::Result<u64> {
    let size = file.as_file().metadata()?.len();
    // Temporary files are 0600; what people and other stages read is not secret.
    file.as_file()
        .set_permissions(Permissions::from_mode(0o644))?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    File::open(folder_of(path))?.sync_all()?;
    Ok(size)
}

/// The folder a path is in; "." for a bare file name.
pub(crate) fn folder_of(path: &Path) -> &Path {
    path.parent()
        .filter(|p| !p.as_os_str().is_empty())
        .unwrap_or(Path::new("."))
}
