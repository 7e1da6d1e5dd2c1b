//! Makes the root's tree: every package unpacked, checked against its hash first, then the missing links.

use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use keelson_cache::{HashFileError, file_sha256};
use thiserror::Error;

use crate::packages::Link;
use crate::run::{RunError, run};

/// The largest package takes seconds; a dead disk must not hold the build for ever.
const DEADLINE: Duration = Duration::from_secs(10 * 60);

/// Top-level names that are links into /usr; packages rely on them without shipping them.
const MERGED: [&str; 4] = ["bin", "lib", "lib64", "sbin"];

/// Where the root is put together when it is entered; Debian's packages bring the other folders.
const MOUNT_POINT: &str = "mnt";

/// Accounts that programs in the root look up; Debian makes them in a maintainer script.
const PASSWD: &str =
    "root:x:0:0:root:/root:/bin/bash\nnobody:x:65534:65534:nobody:/:/usr/sbin/nologin\n";
const GROUP: &str = "root:x:0:\nnogroup:x:65534:\n";

/// A package file and the hash it must have.
#[derive(Debug)]
pub(crate) struct Deb {
    pub(crate) path: PathBuf,
    pub(crate) sha256: String,
}

/// Why the tree could not be made.
#[derive(Debug, Error)]
pub enum UnpackError {
    /// A package cannot be read.
    #[error("cannot check a downloaded package")]
    Hash(#[source] HashFileError),
    /// A package is not what the lock or the signed index says.
    #[error(
        "{path}: SHA-256 is {found}, expected {expected}; the file has been removed, try again"
    )]
    WrongHash {
        /// The package.
        path: PathBuf,
        /// As it is.
        found: String,
        /// As it should be.
        expected: String,
    },
    /// dpkg-deb failed.
    #[error("cannot unpack {path}")]
    Unpack {
        /// The package.
        path: PathBuf,
        /// Why.
        source: RunError,
    },
    /// A link or file cannot be made.
    #[error("cannot make {path}")]
    Create {
        /// The link or file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// Fills the empty folder `tree`.
pub(crate) fn unpack(debs: &[Deb], links: &[Link], tree: &Path) -> Result<(), UnpackError> {
    for name in MERGED {
        let path = tree.join("usr").join(name);
        fs::create_dir_all(&path).map_err(create_error(&path))?;
        link(Path::new(&format!("usr/{name}")), &tree.join(name))?;
    }
    unpack_all(debs, tree)?;
    let path = tree.join(MOUNT_POINT);
    fs::create_dir_all(&path).map_err(create_error(&path))?;
    for Link { path, target } in links {
        link(target, &tree.join(path))?;
    }
    for (name, text) in [("etc/passwd", PASSWD), ("etc/group", GROUP)] {
        let path = tree.join(name);
        fs::write(&path, text).map_err(create_error(&path))?;
    }
    Ok(())
}

/// Takes packages from a common list with as many threads as there are processors.
fn unpack_all(debs: &[Deb], tree: &Path) -> Result<(), UnpackError> {
    let next = AtomicUsize::new(0);
    let work = || {
        while let Some(deb) = debs.get(next.fetch_add(1, Ordering::Relaxed)) {
            unpack_one(deb, tree)?;
        }
        Ok(())
    };
    let threads = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        for worker in workers {
            match worker.join() {
                Ok(result) => result?,
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        Ok(())
    })
}

fn unpack_one(deb: &Deb, tree: &Path) -> Result<(), UnpackError> {
    let found = file_sha256(&deb.path).map_err(UnpackError::Hash)?;
    if found != deb.sha256 {
        // Else apt would take the same file again. If it cannot be removed, the same error says so next time.
        let _ = fs::remove_file(&deb.path);
        return Err(UnpackError::WrongHash {
            path: deb.path.clone(),
            found,
            expected: deb.sha256.clone(),
        });
    }
    let mut command = Command::new("dpkg-deb");
    command.arg("-x").arg(&deb.path).arg(tree);
    match run(command, DEADLINE) {
        Ok(_) => Ok(()),
        Err(source) => Err(UnpackError::Unpack {
            path: deb.path.clone(),
            source,
        }),
    }
}

fn link(target: &Path, path: &Path) -> Result<(), UnpackError> {
    match symlink(target, path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        result => result.map_err(create_error(path)),
    }
}

fn create_error(path: &Path) -> impl FnOnce(io::Error) -> UnpackError {
    let path = path.to_owned();
    move |source| UnpackError::Create { path, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_package_with_other_bytes_is_refused_and_removed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("make_4_amd64.deb");
        fs::write(&path, "not what the lock says").unwrap();
        let deb = Deb {
            path: path.clone(),
            sha256: "0".repeat(64),
        };
        let result = unpack(&[deb], &[], &folder.path().join("tree"));
        assert!(
            matches!(result, Err(UnpackError::WrongHash { .. })),
            "{result:?}"
        );
        assert!(!path.exists());
    }
}
