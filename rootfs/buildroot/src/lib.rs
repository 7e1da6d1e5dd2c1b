//! The build root: one Debian release, unpacked in the cache, that holds every tool which is neither Rust nor Go.
//!
//! Nothing is installed on the host and nobody has to be root: a private apt downloads the
//! packages that `debian.lock` names, their hashes are checked, they are unpacked, and
//! programs run inside through namespaces.

mod apt;
mod enter;
mod index;
mod lock;
mod packages;
mod resolve;
mod run;
mod sources;
mod unpack;

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use keelson_cache::{Cache, Check, Entry, GetError, Key, KeyError, OpenError, Progress};
use thiserror::Error;

use crate::apt::Apt;
use crate::enter::Entrance;
use crate::index::Archive;
use crate::unpack::Deb;

pub use apt::AptError;
pub use enter::{Bind, EnterError};
pub use index::IndexError;
pub use lock::{Architecture, LineError, LockFile, LockFileError, Package};
pub use packages::{Link, Packages, PackagesError};
pub use resolve::{Difference, ResolveError};
pub use run::{RunError, run, run_watched};
pub use sources::{Mirrors, NoMirror};
pub use unpack::UnpackError;

/// Folder of the lists and the lock in the repository.
const FOLDER: &str = "rootfs/buildroot";
/// Raised when the way the tree is made changes: older entries are built again.
const FORMAT: &str = "2";
/// Beside the tree's folders: what was really used, in the form of the lock.
const USED: &str = "used.lock";
/// The same for the packages that make boot loaders, which are not in the other one.
const USED_FOR_LOADERS: &str = "used-for-loaders.lock";

/// An unpacked root that can be entered.
#[derive(Debug, Clone)]
pub struct BuildRoot {
    entry: Entry,
    entrance: Entrance,
    used: PathBuf,
}

/// Why there is no build root.
#[derive(Debug, Error)]
pub enum BuildRootError {
    /// We have no packages for this machine.
    #[error("building on a {machine} machine is not supported: amd64, arm64 and armhf are")]
    Machine {
        /// The machine's name for itself.
        machine: &'static str,
    },
    /// packages.yaml.
    #[error("cannot use the list of packages")]
    Packages(#[source] PackagesError),
    /// debian.lock.
    #[error("cannot use the lock of packages")]
    LockFile(#[source] LockFileError),
    /// The lock has nothing for this machine.
    #[error("{path} names no packages for {}: run `make update-lock` on such a machine", architecture.name())]
    NotLocked {
        /// The lock.
        path: PathBuf,
        /// This machine's.
        architecture: Architecture,
    },
    /// The key of the cache entry.
    #[error("cannot tell which build root is wanted")]
    Key(#[source] KeyError),
    /// The cache folder.
    #[error("cannot use the cache")]
    Cache(#[source] OpenError),
    /// The cache entry.
    #[error("there is no build root")]
    Get(#[source] Box<GetError<MakeError>>),
    /// Entering it.
    #[error("cannot use the build root")]
    Enter(#[source] EnterError),
    /// Making the list of packages for the lock.
    #[error("cannot find the newest packages")]
    Newest(#[source] Box<MakeError>),
    /// Writing the lock.
    #[error("cannot write {path}")]
    Write {
        /// The lock.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// Why the tree could not be made.
#[derive(Debug, Error)]
pub enum MakeError {
    /// apt.
    #[error("apt in its private folder failed")]
    Apt(#[source] AptError),
    /// The package indexes.
    #[error("cannot use the package indexes")]
    Index(#[source] IndexError),
    /// What to ask for.
    #[error("cannot choose the packages")]
    Resolve(#[source] ResolveError),
    /// Unpacking.
    #[error("cannot unpack the packages")]
    Unpack(#[source] UnpackError),
    /// Writing down what was used.
    #[error("cannot write {path}")]
    Record {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// The build root for the repository's lists: from the cache, or downloaded and unpacked.
pub fn ensure(
    cache: &Cache,
    repository: &Path,
    progress: Progress<'_>,
) -> Result<BuildRoot, BuildRootError> {
    let architecture = host_architecture()?;
    let folder = repository.join(FOLDER);
    let packages =
        Packages::read(&folder.join("packages.yaml")).map_err(BuildRootError::Packages)?;
    let lock_path = folder.join("debian.lock");
    let lock = LockFile::read(&lock_path).map_err(BuildRootError::LockFile)?;
    if lock.root(architecture).is_empty() {
        return Err(BuildRootError::NotLocked {
            path: lock_path,
            architecture,
        });
    }
    let key = Key::stage("buildroot")
        .text("format", FORMAT)
        .text("architecture", architecture.name())
        .file("packages", &folder.join("packages.yaml"))
        .and_then(|builder| builder.file("lock", &lock_path))
        .map_err(BuildRootError::Key)?
        .finish();
    let downloads = cache.folder("apt").map_err(BuildRootError::Cache)?;
    let entry = cache
        .get_or_build(key, Check::Stamps, progress, |tree| {
            let locked = lock.root(architecture);
            make(&downloads, &packages, locked, architecture, tree, progress)
        })
        .map_err(|error| BuildRootError::Get(Box::new(error)))?;
    let entrance = enter::find_entrance(entry.path()).map_err(BuildRootError::Enter)?;
    let used = entry.path().join(USED);
    Ok(BuildRoot {
        entry,
        entrance,
        used,
    })
}

/// Rewrites this machine's part of debian.lock with the newest versions of the series; returns what changed.
pub fn update_lock(
    cache: &Cache,
    repository: &Path,
    progress: Progress<'_>,
) -> Result<Vec<Difference>, BuildRootError> {
    let architecture = host_architecture()?;
    let folder = repository.join(FOLDER);
    let packages =
        Packages::read(&folder.join("packages.yaml")).map_err(BuildRootError::Packages)?;
    let lock_path = folder.join("debian.lock");
    let mut lock = match LockFile::read(&lock_path) {
        Err(LockFileError::Read { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
            LockFile::default()
        }
        result => result.map_err(BuildRootError::LockFile)?,
    };
    let downloads = cache.folder("apt").map_err(BuildRootError::Cache)?;
    let newest = newest(&downloads, &packages, architecture, progress)
        .map_err(|error| BuildRootError::Newest(Box::new(error)))?;
    let differences = resolve::differences(lock.root(architecture), &newest);
    lock.set_root(architecture, newest);
    replace(&lock_path, &lock.text()).map_err(|source| BuildRootError::Write {
        path: lock_path,
        source,
    })?;
    Ok(differences)
}

impl BuildRoot {
    /// The unpacked tree, for picking files from it. Nobody may write to it.
    pub fn path(&self) -> &Path {
        self.entry.path()
    }

    /// The cache entry, as an input of other stages' keys.
    pub fn entry(&self) -> &Entry {
        &self.entry
    }

    /// What was really used, in the form of the lock: an input for stages whose result depends on the tools' versions.
    pub fn used_lock(&self) -> &Path {
        &self.used
    }

    /// The same for the packages that make boot loaders, which are not in [`BuildRoot::used_lock`].
    pub fn used_for_loaders(&self) -> PathBuf {
        self.path().join(USED_FOR_LOADERS)
    }

    /// A command that runs `program` inside the root; append its arguments and set its environment as usual.
    ///
    /// The environment is empty but for PATH, HOME and LC_ALL. The child's process id is the
    /// program's own, so signals reach it. Its current folder stays when a bind makes it visible.
    pub fn command(&self, program: impl AsRef<Path>, binds: &[Bind]) -> Command {
        enter::command(self.path(), self.entrance, program.as_ref(), binds)
    }
}

fn host_architecture() -> Result<Architecture, BuildRootError> {
    Architecture::host().ok_or(BuildRootError::Machine {
        machine: std::env::consts::ARCH,
    })
}

/// Downloads, checks and unpacks.
fn make(
    downloads: &Path,
    packages: &Packages,
    locked: &[Package],
    architecture: Architecture,
    tree: &Path,
    progress: Progress<'_>,
) -> Result<(), MakeError> {
    let apt = Apt::prepare(downloads, &packages.series, architecture).map_err(MakeError::Apt)?;
    let used = if apt.has_all(locked, architecture) {
        // Making the root again, after its entry was found wrong, needs no network.
        locked.to_vec()
    } else {
        let archive = update(&apt, progress)?;
        let used = choose(&apt, &archive, packages, locked, progress)?;
        progress(&format!("downloading {} Debian packages", used.len()));
        apt.download(&used).map_err(MakeError::Apt)?;
        used
    };
    let debs = used.iter().map(|package| {
        Ok(Deb {
            path: apt.file(package, architecture)?,
            sha256: package.sha256.clone(),
        })
    });
    let debs: Vec<_> = debs.collect::<Result<_, _>>().map_err(MakeError::Apt)?;
    progress(&format!("unpacking {} Debian packages", used.len()));
    unpack::unpack(&debs, &packages.links, tree).map_err(MakeError::Unpack)?;
    let (loaders, others) = packages.split_loaders(used);
    for (name, packages) in [(USED, others), (USED_FOR_LOADERS, loaders)] {
        let mut record = LockFile::default();
        record.set_root(architecture, packages);
        let path = tree.join(name);
        fs::write(&path, record.text()).map_err(|source| MakeError::Record { path, source })?;
    }
    Ok(())
}

/// Fetches and reads the package indexes.
fn update(apt: &Apt, progress: Progress<'_>) -> Result<Archive, MakeError> {
    progress("fetching Debian's package indexes");
    apt.update().map_err(MakeError::Apt)?;
    Archive::read(&apt.lists()).map_err(MakeError::Index)
}

/// The locked packages, or what comes nearest when the archive has moved on.
fn choose(
    apt: &Apt,
    archive: &Archive,
    packages: &Packages,
    locked: &[Package],
    progress: Progress<'_>,
) -> Result<Vec<Package>, MakeError> {
    let wanted = packages.wanted();
    let request = resolve::request(&wanted, locked, archive).map_err(MakeError::Resolve)?;
    let simulation = match apt.simulate(&request.packages) {
        // Packages built together want each other's exact versions: one that moved takes the others along.
        Err(_) if !request.exact => {
            progress(
                "locked and newer Debian packages do not go together: taking the newest of all",
            );
            apt.simulate(&resolve::newest(&wanted).packages)
        }
        result => result,
    };
    let used = resolve::chosen(&simulation.map_err(MakeError::Apt)?, archive)
        .map_err(MakeError::Resolve)?;
    for difference in resolve::differences(locked, &used) {
        progress(&format!("Debian has moved on from the lock: {difference}"));
    }
    Ok(used)
}

fn newest(
    downloads: &Path,
    packages: &Packages,
    architecture: Architecture,
    progress: Progress<'_>,
) -> Result<Vec<Package>, MakeError> {
    let apt = Apt::prepare(downloads, &packages.series, architecture).map_err(MakeError::Apt)?;
    let archive = update(&apt, progress)?;
    let request = resolve::newest(&packages.wanted());
    let simulation = apt.simulate(&request.packages).map_err(MakeError::Apt)?;
    resolve::chosen(&simulation, &archive).map_err(MakeError::Resolve)
}

/// Writes a file so that a reader, or a power cut, sees the old or the new content.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    let temporary = path.with_extension("new");
    let mut file = File::create(&temporary)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&temporary, path)
}
