//! Copies of keys, each in a folder only its reader can enter.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use keelson_durable::{Owner, ReplaceError};
use rustix::fs::{Mode, OFlags};

/// One secret and who reads it.
#[derive(Clone, PartialEq, Eq)]
pub struct Delivery {
    /// The user that reads it; also the folder's name.
    pub user: &'static str,
    /// File name in the user's folder.
    pub file: String,
    /// The secret.
    pub content: String,
}

/// A secret could not be handed over.
#[derive(Debug, thiserror::Error)]
pub enum DeliverError {
    /// The folder could not be made or given away.
    #[error("cannot prepare the secrets folder {path}")]
    Folder {
        /// The folder.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The file could not be written.
    #[error("cannot hand over a secret")]
    Write(#[from] ReplaceError),
}

/// Puts a secret into the folder of its reader under `root`. A file that has this content already
/// stays as it is, so that its reader does not reload.
///
/// # Errors
/// When folder or file cannot be made.
pub fn deliver(root: &Path, delivery: &Delivery, owner: Owner) -> Result<(), DeliverError> {
    let folder = root.join(delivery.user);
    prepare(&folder, owner).map_err(|source| DeliverError::Folder {
        path: folder.clone(),
        source,
    })?;
    let path = folder.join(&delivery.file);
    if read_regular(&path).is_ok_and(|present| present == delivery.content.as_bytes()) {
        return Ok(());
    }
    keelson_durable::replace_owned(&path, delivery.content.as_bytes(), 0o400, owner)?;
    Ok(())
}

/// The folder's owner may have put anything there: no link is followed and no FIFO waited for.
fn read_regular(path: &Path) -> io::Result<Vec<u8>> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = File::from(rustix::fs::open(path, flags, Mode::empty())?);
    if !file.metadata()?.is_file() {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut content = Vec::new();
    file.take(MAX_SECRET_BYTES).read_to_end(&mut content)?;
    Ok(content)
}

/// Far more than a certificate with its key.
const MAX_SECRET_BYTES: u64 = 64 * 1024;

fn prepare(folder: &Path, owner: Owner) -> io::Result<()> {
    match std::fs::DirBuilder::new().mode(0o700).create(folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o700))?;
    chown(folder, Some(owner.uid), Some(owner.gid))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn secrets_are_readable_by_their_owner_alone_and_rewritten_only_when_changed() {
        let root = tempfile::tempdir().unwrap();
        let own = std::fs::metadata(root.path()).unwrap();
        let owner = Owner {
            uid: own.uid(),
            gid: own.gid(),
        };
        let mut delivery = Delivery {
            user: "kube-scheduler",
            file: "client.pem".to_owned(),
            content: "one".to_owned(),
        };
        deliver(root.path(), &delivery, owner).unwrap();
        let folder = root.path().join("kube-scheduler");
        let path = folder.join("client.pem");
        let first = std::fs::metadata(&path).unwrap();
        assert_eq!(first.mode() & 0o7777, 0o400);
        assert_eq!(std::fs::metadata(&folder).unwrap().mode() & 0o7777, 0o700);
        deliver(root.path(), &delivery, owner).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().ino(), first.ino());
        delivery.content = "two".to_owned();
        deliver(root.path(), &delivery, owner).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"two");
    }
}
