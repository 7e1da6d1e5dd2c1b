//! Walks a path part by part, never leaving the table.

use std::collections::VecDeque;
use std::ffi::OsStr;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, Stat, fstat, openat2};
use rustix::io::Errno;

use super::FilesError;
use super::table::{self, Rule};
use crate::root::Root;

/// Most symbolic links on a path: the longest chains in the image and in /sys have three.
const MAX_LINKS: usize = 16;

/// Longest path, as for the kernel (PATH_MAX).
const MAX_PATH: usize = 4096;

/// Looked at, not opened: a device would notice that.
const LOOK: OFlags = OFlags::PATH.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Where a path leads.
pub(super) struct Place {
    pub(super) fd: OwnedFd,
    pub(super) stat: Stat,
    rule: Rule,
    name: Option<PathBuf>,
    /// Whether every user may enter the folders on the way.
    way_open: bool,
}

/// What a name in a folder stands for.
pub(super) enum Part {
    /// Something of the folder's own file system.
    Here(OwnedFd, Stat),
    /// Another file system is mounted there.
    Elsewhere,
}

impl Place {
    pub(super) fn kind(&self) -> FileType {
        FileType::from_raw_mode(self.stat.st_mode)
    }

    pub(super) fn may_be_read(&self) -> bool {
        table::may_be_read(self.rule, self.name.as_deref(), &self.stat, self.way_open)
    }

    /// `None` where the kernel makes the content while it is read.
    pub(super) fn size(&self) -> Option<u64> {
        match self.rule {
            Rule::Logs | Rule::Public => u64::try_from(self.stat.st_size)
                .ok()
                .filter(|size| *size > 0),
            Rule::Attributes | Rule::Named(_) => None,
        }
    }
}

/// Walks an absolute path without `..`.
pub(super) fn to(root: &Root, path: &Path) -> Result<Place, FilesError> {
    let mut wanted = path.to_owned();
    for _ in 0..=MAX_LINKS {
        match walk(root, &wanted)? {
            Outcome::There(place) => return Ok(place),
            Outcome::Link(target) => wanted = target,
        }
    }
    Err(FilesError::TooManyLinks {
        path: path.to_owned(),
    })
}

/// A path seen from a folder, without `.` and `..`; `None` when it is too long.
pub(super) fn normal(from: &Path, path: &Path) -> Option<PathBuf> {
    let mut parts = PathBuf::from("/");
    // A path that begins with / replaces where it is seen from.
    for component in from.join(path).components() {
        match component {
            Component::Normal(part) => parts.push(part),
            // What comes before may be a link: then this is not where the kernel would go. It
            // is checked like any other path.
            Component::ParentDir => {
                parts.pop();
            }
            Component::CurDir | Component::Prefix(_) | Component::RootDir => {}
        }
    }
    (parts.as_os_str().len() < MAX_PATH).then_some(parts)
}

pub(super) fn path_of(name: &[u8]) -> PathBuf {
    PathBuf::from(OsStr::from_bytes(name))
}

/// Looks at one name in a folder; `None` when it is not there.
pub(super) fn part(folder: &OwnedFd, name: &Path) -> Option<Part> {
    match look(folder, name) {
        Ok((fd, stat)) => Some(Part::Here(fd, stat)),
        Err(Errno::XDEV) => Some(Part::Elsewhere),
        Err(_) => None,
    }
}

enum Outcome {
    There(Place),
    /// A symbolic link on the way leads here.
    Link(PathBuf),
}

fn walk(root: &Root, path: &Path) -> Result<Outcome, FilesError> {
    let refused = || FilesError::Refused {
        path: path.to_owned(),
    };
    let failed = |errno: Errno| match errno {
        // Another mount lies on the way.
        Errno::XDEV => refused(),
        errno => FilesError::Open {
            path: path.to_owned(),
            source: io::Error::from(errno),
        },
    };
    let (folder, rest) = table::find(path).ok_or_else(refused)?;
    let start = enter(root, folder.path).map_err(failed)?;
    let name = rest.file_name().map(PathBuf::from);
    let place = |fd, stat, way_open| Place {
        fd,
        stat,
        rule: folder.rule,
        name,
        way_open,
    };
    if let Rule::Named(_) = folder.rule {
        let (fd, stat) = follow(&start, rest).map_err(failed)?;
        return Ok(Outcome::There(place(fd, stat, true)));
    }
    let stat = fstat(&start).map_err(failed)?;
    let (mut here, mut way_open) = ((start, stat), true);
    let mut parts: VecDeque<&OsStr> = rest.iter().collect();
    let mut walked = PathBuf::from(folder.path);
    while let Some(part) = parts.pop_front() {
        way_open &= here.1.st_mode & 0o001 != 0;
        here = look(&here.0, Path::new(part)).map_err(failed)?;
        if FileType::from_raw_mode(here.1.st_mode) == FileType::Symlink {
            let target = rustix::fs::readlinkat(&here.0, "", Vec::new()).map_err(failed)?;
            let mut target = path_of(target.to_bytes());
            target.extend(parts);
            return normal(&walked, &target)
                .map(Outcome::Link)
                .ok_or_else(refused);
        }
        walked.push(part);
    }
    Ok(Outcome::There(place(here.0, here.1, way_open)))
}

/// Opens a folder of the table. It may lie on a mount of its own.
fn enter(root: &Root, folder: &str) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let start = rustix::fs::open(root.as_path(), flags, Mode::empty())?;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_SYMLINKS;
    let below = folder.trim_start_matches('/');
    openat2(start, below, flags, Mode::empty(), resolve)
}

/// One part, without following anything.
fn look(folder: &OwnedFd, part: &Path) -> rustix::io::Result<(OwnedFd, Stat)> {
    let resolve = ResolveFlags::BENEATH
        | ResolveFlags::NO_MAGICLINKS
        | ResolveFlags::NO_SYMLINKS
        | ResolveFlags::NO_XDEV;
    let fd = openat2(folder, part, LOOK, Mode::empty(), resolve)?;
    let stat = fstat(&fd)?;
    Ok((fd, stat))
}

/// A file of /proc by its name in the table; the kernel's links (mounts -> self/mounts) lead to
/// other places in /proc, and nobody else can make any there.
fn follow(folder: &OwnedFd, rest: &Path) -> rustix::io::Result<(OwnedFd, Stat)> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_XDEV;
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let fd = openat2(folder, rest, flags, Mode::empty(), resolve)?;
    let stat = fstat(&fd)?;
    Ok((fd, stat))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_seen_from_their_folder() {
        for (from, target, expected) in [
            ("/etc", "../run/keelson/etc/hosts", "/run/keelson/etc/hosts"),
            ("/etc", "/usr/lib/x", "/usr/lib/x"),
            ("/etc", "./a//b/.", "/etc/a/b"),
            ("/etc", "../../../../x", "/x"),
            ("/etc", "", "/etc"),
        ] {
            assert_eq!(
                normal(Path::new(from), Path::new(target)).unwrap(),
                PathBuf::from(expected)
            );
        }
        assert_eq!(
            normal(Path::new("/"), Path::new(&"a/".repeat(MAX_PATH))),
            None
        );
    }
}
