//! Walking, measuring and removing folders: sorted, symbolic links not followed.

use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use thiserror::Error;

/// A folder that could not be walked.
#[derive(Debug, Error)]
pub enum TreeError {
    /// The system refused.
    #[error("cannot list {path}")]
    List {
        /// The folder or file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A name or a link's target has bytes that are not UTF-8.
    #[error("the name or link target of {path:?} is not UTF-8")]
    NotUtf8 {
        /// The file.
        path: PathBuf,
    },
    /// Something that is neither file, folder nor symbolic link.
    #[error("{path} is neither a file, a folder nor a symbolic link")]
    Special {
        /// The odd one.
        path: PathBuf,
    },
}

/// What a name in a folder stands for.
#[derive(Debug)]
pub(crate) enum Kind {
    Folder,
    File { size: u64, modified: Modified },
    Link { target: String },
}

/// Time of the last change: seconds and nanoseconds since 1970.
pub(crate) type Modified = (i64, i64);

/// One name below the walked folder.
#[derive(Debug)]
pub(crate) struct Item {
    /// Relative to the walked folder, `/` between the parts.
    pub(crate) path: String,
    /// Permission bits.
    pub(crate) mode: u32,
    pub(crate) kind: Kind,
}

/// Everything below `root`, sorted by path.
pub(crate) fn walk(root: &Path) -> Result<Vec<Item>, TreeError> {
    let mut items = Vec::new();
    let mut folders = vec![(root.to_owned(), String::new())];
    while let Some((folder, prefix)) = folders.pop() {
        let list_error = |source| TreeError::List {
            path: folder.clone(),
            source,
        };
        for entry in fs::read_dir(&folder).map_err(list_error)? {
            let entry = entry.map_err(list_error)?;
            let path = entry.path();
            let name = entry.file_name();
            let Some(name) = name.to_str() else {
                return Err(TreeError::NotUtf8 { path });
            };
            let relative = format!("{prefix}{name}");
            let metadata = entry.metadata().map_err(list_error)?;
            let kind = kind_of(&path, &metadata)?;
            if matches!(kind, Kind::Folder) {
                folders.push((path, format!("{relative}/")));
            }
            items.push(Item {
                path: relative,
                mode: metadata.permissions().mode() & 0o7777,
                kind,
            });
        }
    }
    items.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(items)
}

fn kind_of(path: &Path, metadata: &Metadata) -> Result<Kind, TreeError> {
    let file_type = metadata.file_type();
    if file_type.is_dir() {
        Ok(Kind::Folder)
    } else if file_type.is_file() {
        Ok(Kind::File {
            size: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
        })
    } else if file_type.is_symlink() {
        let target = fs::read_link(path).map_err(|source| TreeError::List {
            path: path.to_owned(),
            source,
        })?;
        match target.to_str() {
            Some(target) => Ok(Kind::Link {
                target: target.to_owned(),
            }),
            None => Err(TreeError::NotUtf8 {
                path: path.to_owned(),
            }),
        }
    } else {
        Err(TreeError::Special {
            path: path.to_owned(),
        })
    }
}

/// Bytes that a file or folder takes on disk; what cannot be read counts nothing.
pub(crate) fn disk_usage(path: &Path) -> u64 {
    // stat's unit for blocks, whatever the file system's own is.
    const BLOCK: u64 = 512;
    let Ok(metadata) = fs::symlink_metadata(path) else {
        return 0;
    };
    let mut total = metadata.blocks() * BLOCK;
    if metadata.is_dir() {
        for entry in fs::read_dir(path).into_iter().flatten().flatten() {
            total += disk_usage(&entry.path());
        }
    }
    total
}

/// Removes a file or a whole folder, also one whose folders are write-protected (Go's module cache).
pub(crate) fn remove(path: &Path) -> io::Result<()> {
    let metadata = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        result => result?,
    };
    if !metadata.is_dir() {
        return fs::remove_file(path);
    }
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            make_writable(path)?;
            fs::remove_dir_all(path)
        }
        result => result,
    }
}

fn make_writable(folder: &Path) -> io::Result<()> {
    let mode = fs::symlink_metadata(folder)?.permissions().mode();
    fs::set_permissions(folder, fs::Permissions::from_mode(mode | 0o700))?;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            make_writable(&entry.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn walk_is_sorted_and_keeps_links_as_links() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("b/c")).unwrap();
        fs::write(folder.path().join("b/c/file"), "x").unwrap();
        fs::write(folder.path().join("a"), "").unwrap();
        symlink("b", folder.path().join("link")).unwrap();
        let items = walk(folder.path()).unwrap();
        let paths: Vec<_> = items.iter().map(|item| item.path.as_str()).collect();
        assert_eq!(paths, ["a", "b", "b/c", "b/c/file", "link"]);
        assert!(matches!(&items[4].kind, Kind::Link { target } if target == "b"));
    }

    #[test]
    fn write_protected_folders_are_removed() {
        let folder = tempfile::tempdir().unwrap();
        let inner = folder.path().join("inner");
        fs::create_dir(&inner).unwrap();
        fs::write(inner.join("file"), "x").unwrap();
        fs::set_permissions(&inner, fs::Permissions::from_mode(0o555)).unwrap();
        remove(&inner).unwrap();
        assert!(!inner.exists());
        remove(&inner).unwrap();
    }

    #[test]
    fn a_socket_is_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(folder.path().join("s")).unwrap();
        assert!(matches!(
            walk(folder.path()),
            Err(TreeError::Special { .. })
        ));
    }
}
