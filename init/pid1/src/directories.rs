//! Makes the directories a service wants, without being led astray by links.
//!
//! A path is walked one part at a time, each opened without following a symbolic link. Parents
//! are made for root; an existing parent is left as it is. Only the last part gets the wanted
//! owner and mode, through its descriptor, so nothing can be swapped in between.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use rustix::process::{Gid, Uid};

/// Makes a directory with its parents.
pub(crate) fn make(path: &Path, mode: u32, uid: u32, gid: u32) -> io::Result<()> {
    let mut parts = path
        .strip_prefix("/")
        .map_err(io::Error::other)?
        .components()
        .peekable();
    let mut folder = rustix::fs::open(
        "/",
        OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    while let Some(part) = parts.next() {
        let part: &Path = part.as_ref();
        let last = parts.peek().is_none();
        match rustix::fs::mkdirat(&folder, part, Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(Errno::EXIST) => {}
            // A read-only file system says so even for what exists.
            Err(Errno::ROFS) => {}
            Err(error) => return Err(error.into()),
        }
        folder = open_folder(&folder, part, last)?;
    }
    let (owner, group) = (Uid::from_raw(uid), Gid::from_raw(gid));
    rustix::fs::fchown(&folder, Some(owner), Some(group))?;
    // After the owner: changing that clears set-id bits.
    rustix::fs::fchmod(&folder, Mode::from_raw_mode(mode))?;
    Ok(())
}

/// Gives a socket that a program has just made to another user. The program's own group keeps
/// access, or the checks of the service, which run as its user, could not ask it any more.
pub(crate) fn give_socket(path: &Path, uid: u32) -> io::Result<()> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let socket = rustix::fs::openat2(
        rustix::fs::CWD,
        path,
        flags,
        Mode::empty(),
        ResolveFlags::NO_SYMLINKS,
    )?;
    let kind = rustix::fs::FileType::from_raw_mode(rustix::fs::fstat(&socket)?.st_mode);
    if kind != rustix::fs::FileType::Socket {
        return Err(io::Error::other("it is not a socket"));
    }
    let flags = rustix::fs::AtFlags::EMPTY_PATH;
    rustix::fs::chownat(&socket, c"", Some(Uid::from_raw(uid)), None, flags)?;
    // A descriptor opened for its place only takes a mode through /proc.
    let own_name = format!("/proc/self/fd/{}", socket.as_raw_fd());
    Ok(rustix::fs::chmod(own_name, Mode::from_raw_mode(0o660))?)
}

fn open_folder(parent: impl AsFd, name: &Path, last: bool) -> io::Result<OwnedFd> {
    let access = if last { OFlags::RDONLY } else { OFlags::PATH };
    let flags = access | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let resolve = ResolveFlags::NO_SYMLINKS | ResolveFlags::BENEATH;
    Ok(rustix::fs::openat2(
        parent,
        name,
        flags,
        Mode::empty(),
        resolve,
    )?)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
    use std::os::unix::net::UnixListener;

    use super::*;

    fn own_ids() -> (u32, u32) {
        (
            rustix::process::getuid().as_raw(),
            rustix::process::getgid().as_raw(),
        )
    }

    #[test]
    fn the_last_part_gets_owner_and_mode() {
        let dir = tempfile::tempdir().unwrap();
        let base = dir.path().canonicalize().unwrap();
        let (uid, gid) = own_ids();
        let path = base.join("a/b");
        make(&path, 0o700, uid, gid).unwrap();
        make(&path, 0o710, uid, gid).unwrap();
        let metadata = fs::metadata(&path).unwrap();
        assert_eq!(metadata.permissions().mode() & 0o7777, 0o710);
        assert_eq!((metadata.uid(), metadata.gid()), (uid, gid));
        let parent = fs::metadata(base.join("a")).unwrap().permissions().mode();
        assert_eq!(parent & 0o7777, 0o755);
    }

    #[test]
    fn a_given_socket_stays_open_to_its_group_and_nobody_else() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().canonicalize().unwrap().join("s");
        let _listener = UnixListener::bind(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        give_socket(&path, own_ids().0).unwrap();
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o660);
    }

    #[test]
    fn links_are_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let base = dir.path().canonicalize().unwrap();
        let (uid, gid) = own_ids();
        fs::create_dir(base.join("secret")).unwrap();
        symlink(base.join("secret"), base.join("link")).unwrap();
        assert!(make(&base.join("link"), 0o777, uid, gid).is_err());
        assert!(make(&base.join("link/inner"), 0o777, uid, gid).is_err());
        assert_eq!(fs::read_dir(base.join("secret")).unwrap().count(), 0);
        fs::write(base.join("file"), "").unwrap();
        assert!(give_socket(&base.join("file"), uid).is_err());
    }
}
