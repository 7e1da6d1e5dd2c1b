//! The one layer: an uncompressed tar of sorted entries with fixed times.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufWriter};
use std::path::{Path, PathBuf};

use tar::{Builder, EntryType, Header};

use super::WriteArchiveError;
use crate::digest::{HashingWriter, Sha256Digest};

/// One file, folder or link of an image.
#[derive(Debug, Clone)]
pub struct Entry {
    path: String,
    mode: u32,
    owner: (u64, u64),
    content: Content,
}

/// What an [`Entry`] holds.
#[derive(Debug, Clone)]
pub enum Content {
    /// These bytes.
    Bytes(Vec<u8>),
    /// A folder.
    Directory,
    /// The content of this file on the host; its mode and times are not looked at.
    File(PathBuf),
    /// A symbolic link to this text.
    Symlink(String),
}

impl Entry {
    /// An entry owned by root.
    pub fn new(path: impl Into<String>, mode: u32, content: Content) -> Self {
        Self {
            path: path.into(),
            mode,
            owner: (0, 0),
            content,
        }
    }

    /// A file with the content of a file on the host.
    pub fn file(path: impl Into<String>, mode: u32, source: &Path) -> Self {
        Self::new(path, mode, Content::File(source.to_owned()))
    }

    /// A file with these bytes.
    pub fn bytes(path: impl Into<String>, mode: u32, bytes: impl Into<Vec<u8>>) -> Self {
        Self::new(path, mode, Content::Bytes(bytes.into()))
    }

    /// A folder; needed only when its mode or owner matters or when it stays empty.
    pub fn directory(path: impl Into<String>, mode: u32) -> Self {
        Self::new(path, mode, Content::Directory)
    }

    /// A symbolic link.
    pub fn symlink(path: impl Into<String>, target: impl Into<String>) -> Self {
        Self::new(path, 0o777, Content::Symlink(target.into()))
    }

    /// The same entry with another owner.
    pub fn owned_by(mut self, uid: u32, gid: u32) -> Self {
        self.owner = (uid.into(), gid.into());
        self
    }
}

/// What was written.
#[derive(Debug, Clone, Copy)]
pub(super) struct Layer {
    pub(super) digest: Sha256Digest,
    pub(super) size: u64,
}

/// Sorts entries by path and adds missing parents.
pub(super) fn plan(entries: Vec<Entry>) -> Result<BTreeMap<String, Entry>, WriteArchiveError> {
    let mut sorted = BTreeMap::new();
    for entry in entries {
        let path = normal(&entry.path)?;
        if sorted.insert(path.clone(), entry).is_some() {
            return Err(WriteArchiveError::Duplicate { path });
        }
    }
    let parents: Vec<String> = sorted
        .keys()
        .flat_map(|path| {
            path.match_indices('/')
                .map(|(at, _)| path[..at].to_owned())
                .collect::<Vec<_>>()
        })
        .collect();
    for parent in parents {
        sorted
            .entry(parent.clone())
            .or_insert_with(|| Entry::directory(parent, 0o755));
    }
    Ok(sorted)
}

/// Writes the tar to `file`; `archive` only names it in errors.
pub(super) fn write(
    entries: &BTreeMap<String, Entry>,
    file: &File,
    archive: &Path,
) -> Result<Layer, WriteArchiveError> {
    let failed = |source| WriteArchiveError::Write {
        path: archive.to_owned(),
        source,
    };
    let mut tar = Builder::new(BufWriter::new(HashingWriter::new(file)));
    for (path, entry) in entries {
        append(&mut tar, path, entry, archive)?;
    }
    let buffered = tar.into_inner().map_err(failed)?;
    let hashing = buffered.into_inner().map_err(|e| failed(e.into_error()))?;
    let (_, digest, size) = hashing.finish();
    Ok(Layer { digest, size })
}

/// A header with everything fixed but kind, mode and size.
pub(super) fn header(kind: EntryType, mode: u32, size: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(size);
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    header
}

fn append(
    tar: &mut Builder<impl io::Write>,
    path: &str,
    entry: &Entry,
    archive: &Path,
) -> Result<(), WriteArchiveError> {
    let failed = |source| WriteArchiveError::Write {
        path: archive.to_owned(),
        source,
    };
    let owned = |mut header: Header| {
        header.set_uid(entry.owner.0);
        header.set_gid(entry.owner.1);
        header
    };
    match &entry.content {
        Content::Bytes(bytes) => {
            let size = u64::try_from(bytes.len()).map_err(|e| failed(io::Error::other(e)))?;
            let mut header = owned(header(EntryType::Regular, entry.mode, size));
            tar.append_data(&mut header, path, bytes.as_slice())
                .map_err(failed)
        }
        Content::Directory => {
            let mut header = owned(header(EntryType::Directory, entry.mode, 0));
            tar.append_data(&mut header, format!("{path}/"), io::empty())
                .map_err(failed)
        }
        Content::File(source_path) => {
            let unreadable = |source| WriteArchiveError::Add {
                source_path: source_path.clone(),
                source,
            };
            let body = File::open(source_path).map_err(unreadable)?;
            let size = body.metadata().map_err(unreadable)?.len();
            let mut header = owned(header(EntryType::Regular, entry.mode, size));
            tar.append_data(&mut header, path, body).map_err(unreadable)
        }
        Content::Symlink(target) => {
            let mut header = owned(header(EntryType::Symlink, entry.mode, 0));
            tar.append_link(&mut header, path, target).map_err(failed)
        }
    }
}

/// The path as a layer holds it: no leading slash, no empty, "." or ".." parts.
fn normal(path: &str) -> Result<String, WriteArchiveError> {
    let parts: Vec<&str> = path
        .split('/')
        .filter(|part| !part.is_empty() && *part != ".")
        .collect();
    if parts.is_empty() || parts.contains(&"..") {
        return Err(WriteArchiveError::Path { path: path.into() });
    }
    Ok(parts.join("/"))
}
