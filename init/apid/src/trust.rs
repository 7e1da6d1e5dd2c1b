//! The files that say whom to trust, read again when they change.
//!
//! What changed and cannot be used is said once and changes nothing: what held before goes on.

use std::cell::RefCell;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use keelson_control::chain;
use keelson_tls::TlsError;
use rustls::ServerConfig;
use rustls::server::danger::ClientCertVerifier;
use rustls::sign::CertifiedKey;

use crate::Paths;
use crate::access_file::{Access, AccessError, Mode};
use crate::identity::Revoked;
use crate::limits;
use crate::verifier::Callers;

/// What holds at one moment.
#[derive(Debug)]
pub(crate) struct Snapshot {
    pub(crate) mode: Mode,
    pub(crate) revoked: Arc<Revoked>,
    pub(crate) authorities: Authorities,
    /// For new connections.
    pub(crate) tls: Arc<ServerConfig>,
}

/// Checks certificates; none on a node that has no authority yet.
pub(crate) type Authorities = Option<Arc<dyn ClientCertVerifier>>;

/// A file cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TrustError {
    #[error(transparent)]
    Access(#[from] AccessError),
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// The files and what they say.
#[derive(Debug)]
pub(crate) struct Trust {
    files: RefCell<Files>,
}

#[derive(Debug)]
struct Files {
    looked_at: Instant,
    access: Watched<Access, AccessError>,
    authorities: Watched<Authorities, TlsError>,
    pair: Watched<Arc<CertifiedKey>, TlsError>,
    snapshot: Rc<Snapshot>,
}

impl Trust {
    /// Reads everything for the first time.
    pub(crate) fn open(paths: &Paths) -> Result<Self, TrustError> {
        let access = Watched::open(&paths.access, Access::read)?;
        let authorities = match access.value.mode {
            Mode::Normal => Watched::open(&paths.authorities, verifier)?,
            // A node without a configuration may have no authority yet.
            Mode::Maintenance => Watched::open_later(&paths.authorities, verifier, None),
        };
        let pair = Watched::open(&paths.pair, keelson_tls::serving_pair)?;
        let snapshot = snapshot(&access, &authorities, &pair)?;
        Ok(Self {
            files: RefCell::new(Files {
                looked_at: Instant::now(),
                access,
                authorities,
                pair,
                snapshot,
            }),
        })
    }

    /// What holds now; looks at the files at most once in [`limits::LOOK`].
    pub(crate) fn now(&self) -> Rc<Snapshot> {
        let mut files = self.files.borrow_mut();
        if files.looked_at.elapsed() >= limits::LOOK {
            files.look();
        }
        Rc::clone(&files.snapshot)
    }
}

impl Files {
    fn look(&mut self) {
        self.looked_at = Instant::now();
        let changed = [
            self.access.refresh(),
            self.authorities.refresh(),
            self.pair.refresh(),
        ];
        if !changed.contains(&true) {
            return;
        }
        match snapshot(&self.access, &self.authorities, &self.pair) {
            Ok(snapshot) => self.snapshot = snapshot,
            Err(error) => tracing::error!("changed keys stay unused: {}", chain(&error)),
        }
    }
}

fn verifier(path: &Path) -> Result<Authorities, TlsError> {
    keelson_tls::client_verifier(path).map(Some)
}

fn snapshot(
    access: &Watched<Access, AccessError>,
    authorities: &Watched<Authorities, TlsError>,
    pair: &Watched<Arc<CertifiedKey>, TlsError>,
) -> Result<Rc<Snapshot>, TrustError> {
    let mode = access.value.mode;
    let revoked = Arc::new(access.value.revoked.clone());
    let authorities = authorities.value.clone();
    let callers = Callers {
        authorities: authorities.clone(),
        revoked: Arc::clone(&revoked),
        mode,
        algorithms: keelson_tls::provider().signature_verification_algorithms,
    };
    let pair = Arc::clone(&pair.value);
    let tls = keelson_tls::server_config(pair, Arc::new(callers), &[b"h2"])?;
    Ok(Rc::new(Snapshot {
        mode,
        revoked,
        authorities,
        tls: Arc::new(tls),
    }))
}

/// A file and what it said when it could last be used.
#[derive(Debug)]
struct Watched<T, E> {
    path: PathBuf,
    load: fn(&Path) -> Result<T, E>,
    stamp: Option<Stamp>,
    value: T,
}

impl<T, E: std::error::Error> Watched<T, E> {
    fn open(path: &Path, load: fn(&Path) -> Result<T, E>) -> Result<Self, E> {
        let stamp = Stamp::of(path).ok();
        let value = load(path)?;
        Ok(Self {
            path: path.to_owned(),
            load,
            stamp,
            value,
        })
    }

    /// As [`Watched::open`], with `value` as long as the file cannot be used.
    fn open_later(path: &Path, load: fn(&Path) -> Result<T, E>, value: T) -> Self {
        Self::open(path, load).unwrap_or_else(|_| Self {
            path: path.to_owned(),
            load,
            stamp: Stamp::of(path).ok(),
            value,
        })
    }

    /// Reads the file if it is another than before; true when it now says something new.
    fn refresh(&mut self) -> bool {
        let stamp = Stamp::of(&self.path).ok();
        if stamp == self.stamp {
            return false;
        }
        // Taken before it is read: a change in between is seen the next time.
        self.stamp = stamp;
        match (self.load)(&self.path) {
            Ok(value) => {
                self.value = value;
                tracing::info!("{} was read again", self.path.display());
                true
            }
            Err(error) => {
                tracing::error!(
                    "{} changed and cannot be used, what it said before still holds: {}",
                    self.path.display(),
                    chain(&error)
                );
                false
            }
        }
    }
}

/// What tells one version of a file from the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
}

impl Stamp {
    fn of(path: &Path) -> io::Result<Self> {
        let metadata = std::fs::metadata(path)?;
        Ok(Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
        })
    }
}
