//! Files for support: lists and opens what is in the table of readable folders, nothing else.
//!
//! The caller is root and could read everything, so the path alone decides. It is walked one part
//! at a time from the folder of the table, each part opened relative to the one before, never
//! through a symbolic link, a magic link or a mount. A symbolic link's target is a new path that has
//! to be in the table as well. Devices and pipes are never opened, only looked at.

mod table;
mod walk;

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Take};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use keelson_api::v1alpha1::FileEntry;
use rustix::fs::{Dir, FileType, Mode, OFlags, Stat};
use thiserror::Error;

use crate::names::Names;
use crate::root::Root;
use crate::text::printable;
use crate::timestamp::rfc3339;

/// Most entries of a folder: with 200 bytes each they stay below the longest message of the API.
const MAX_ENTRIES: usize = 10_000;

/// Most bytes of a file whose size the kernel does not say. The longest in the table,
/// /proc/interrupts of a machine with hundreds of processors, has about one MiB.
const ENDLESS_BYTES: u64 = 4 * 1024 * 1024;

/// Why a file or folder cannot be had.
#[derive(Debug, Error)]
pub enum FilesError {
    /// It cannot be opened or read: no such file, or no folder.
    #[error("cannot open {}", path.display())]
    Open {
        /// The path.
        path: PathBuf,
        /// Cause.
        source: io::Error,
    },
    /// The path is not one this module takes.
    #[error("{path:?} is no path: it must begin with / and have no ..")]
    Path {
        /// As given.
        path: String,
    },
    /// It is not for support.
    #[error(
        "{} is out of reach: readable is what everyone on the node may read in {}",
        path.display(),
        table::summary()
    )]
    Refused {
        /// The path, or where a symbolic link led.
        path: PathBuf,
    },
    /// It has more entries than fit into an answer.
    #[error("{} has more than {MAX_ENTRIES} entries", path.display())]
    TooMany {
        /// The folder.
        path: PathBuf,
    },
    /// Symbolic links lead on and on.
    #[error("{} leads through too many symbolic links", path.display())]
    TooManyLinks {
        /// The path.
        path: PathBuf,
    },
    /// It is a folder, a device, a pipe or a socket.
    #[error("{} is no regular file", path.display())]
    WrongKind {
        /// The path.
        path: PathBuf,
    },
}

/// A file that may be read to its end.
#[derive(Debug)]
pub struct ReadableFile {
    file: Take<File>,
    size: Option<u64>,
}

impl ReadableFile {
    /// Passes over all but the last `bytes` of a file whose size is known; tells how many.
    ///
    /// # Errors
    /// It cannot be read there.
    pub fn skip_to_last(&mut self, bytes: u64) -> io::Result<u64> {
        let Some(skipped) = self
            .size
            .map(|size| size.saturating_sub(bytes))
            .filter(|skipped| *skipped > 0)
        else {
            return Ok(0);
        };
        self.file.get_mut().seek(SeekFrom::Start(skipped))?;
        self.file.set_limit(bytes);
        Ok(skipped)
    }
}

impl Read for ReadableFile {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.file.read(buffer)
    }
}

/// Opens a regular file. What is read ends where the file ended when it was opened, or at 4 MiB
/// for those of the kernel.
///
/// # Errors
/// It is not there, not for support, or no regular file.
pub fn open_for_reading(root: &Root, path: &str) -> Result<ReadableFile, FilesError> {
    let path = absolute(path)?;
    let place = walk::to(root, &path)?;
    match place.kind() {
        FileType::RegularFile if place.may_be_read() => {}
        FileType::RegularFile => return Err(FilesError::Refused { path }),
        _ => return Err(FilesError::WrongKind { path }),
    }
    let size = place.size();
    // The same file again, now for reading: by name it might be another one by now.
    let again = format!("/proc/self/fd/{}", place.fd.as_raw_fd());
    let file = File::open(again).map_err(|source| FilesError::Open { path, source })?;
    Ok(ReadableFile {
        file: file.take(size.unwrap_or(ENDLESS_BYTES)),
        size,
    })
}

/// What a folder holds, by name. Above the readable folders, the way to them is shown.
///
/// # Errors
/// It is not there, not for support, or no folder.
pub fn list(root: &Root, path: &str) -> Result<Vec<FileEntry>, FilesError> {
    let path = absolute(path)?;
    let names = Names::read(root);
    let known = table::below(&path);
    if !known.is_empty() {
        return Ok(listed(root, &path, known, &names));
    }
    let place = walk::to(root, &path)?;
    if place.kind() != FileType::Directory {
        let source = io::Error::from(io::ErrorKind::NotADirectory);
        return Err(FilesError::Open { path, source });
    }
    let mut entries = Vec::new();
    let open_error = |source: io::Error| FilesError::Open {
        path: path.clone(),
        source,
    };
    for name in names_in(&place.fd).map_err(open_error)? {
        if entries.len() == MAX_ENTRIES {
            return Err(FilesError::TooMany { path });
        }
        // One that has gone meanwhile is left out.
        if let Some(found) = walk::part(&place.fd, &name) {
            entries.push(entry(&name, &found, &names));
        }
    }
    entries.sort_unstable_by(|one, other| one.name.cmp(&other.name));
    Ok(entries)
}

/// The parts of the table that lie directly in a folder.
fn listed(root: &Root, folder: &Path, known: Vec<String>, names: &Names) -> Vec<FileEntry> {
    known
        .into_iter()
        .filter_map(|name| match walk::to(root, &folder.join(&name)) {
            Ok(place) => {
                let found = walk::Part::Here(place.fd, place.stat);
                Some(entry(Path::new(&name), &found, names))
            }
            // On the way to something readable.
            Err(FilesError::Refused { .. }) => Some(FileEntry {
                name,
                kind: "directory".to_owned(),
                ..FileEntry::default()
            }),
            Err(_) => None,
        })
        .collect()
}

fn absolute(path: &str) -> Result<PathBuf, FilesError> {
    walk::normal(Path::new("/"), Path::new(path))
        .filter(|_| path.starts_with('/') && !path.split('/').any(|part| part == ".."))
        .ok_or_else(|| FilesError::Path {
            path: path.to_owned(),
        })
}

fn names_in(folder: &OwnedFd) -> io::Result<Vec<PathBuf>> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let folder = rustix::fs::openat(folder, ".", flags, Mode::empty())?;
    let mut names = Vec::new();
    for entry in Dir::new(folder)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if !matches!(name, b"." | b"..") {
            names.push(walk::path_of(name));
        }
        // One more than may be shown is enough to know.
        if names.len() > MAX_ENTRIES {
            break;
        }
    }
    Ok(names)
}

fn entry(name: &Path, found: &walk::Part, names: &Names) -> FileEntry {
    let name = printable(name.as_os_str().as_encoded_bytes());
    let (fd, stat) = match found {
        walk::Part::Here(fd, stat) => (fd, stat),
        // What is mounted there does not belong to the folder.
        walk::Part::Elsewhere => {
            return FileEntry {
                name,
                kind: "other".to_owned(),
                ..FileEntry::default()
            };
        }
    };
    FileEntry {
        name,
        kind: match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => "file",
            FileType::Directory => "directory",
            FileType::Symlink => "symlink",
            _ => "other",
        }
        .to_owned(),
        size_bytes: u64::try_from(stat.st_size).unwrap_or(0),
        mode: format!("{:04o}", stat.st_mode & 0o7777),
        user: names.user(stat.st_uid),
        group: names.group(stat.st_gid),
        modified: modified(stat),
        target: target(fd.as_fd(), stat),
    }
}

fn modified(stat: &Stat) -> String {
    let seconds = u64::try_from(stat.st_mtime).unwrap_or(0);
    let nanoseconds = u32::try_from(stat.st_mtime_nsec).unwrap_or(0);
    rfc3339(UNIX_EPOCH + Duration::new(seconds, nanoseconds.min(999_999_999)))
}

fn target(fd: impl AsFd, stat: &Stat) -> String {
    if FileType::from_raw_mode(stat.st_mode) != FileType::Symlink {
        return String::new();
    }
    rustix::fs::readlinkat(fd, "", Vec::new())
        .map(|target| printable(target.to_bytes()))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests;
