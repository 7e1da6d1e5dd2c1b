//! The kernel: its configuration as fragments by purpose, and the build of it in the build root.
//!
//! `fragments/` holds what is wanted and why, `architectures/` which fragments make which
//! kernel. A fragment line that the kernel's own rules throw out is an error that names it.

mod compile;
mod fragment;
mod plan;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use keelson_buildroot::BuildRoot;
use keelson_cache::{Cache, Check, Entry, GetError, Key, KeyError, OpenError, Progress};
use thiserror::Error;

use crate::compile::{BUILTIN, BUILTIN_INFO, Build, CONFIG, IMAGE, RELEASE};

pub use compile::CompileError;
pub use fragment::{Conflict, Fragment, FragmentError, Lost, Setting, Value, lost, merge};
pub use plan::{Plan, PlanError, Target, variants};

/// Raised when the way the kernel is built changes: older entries are built again.
const FORMAT: &str = "1";
/// The work folder of [`check`].
const CHECK: &str = "kernel.check";

/// A finished kernel and what belongs to it.
#[derive(Debug, Clone)]
pub struct KernelArtifacts {
    /// The cache entry, as an input of other stages' keys.
    pub entry: Entry,
    /// The bootable image (bzImage on amd64).
    pub image: PathBuf,
    /// Its configuration.
    pub config: PathBuf,
    /// Names of the drivers that are built in, for `/lib/modules/RELEASE/`.
    pub modules_builtin: PathBuf,
    /// What those drivers say of themselves, for the same folder.
    pub modules_builtin_modinfo: PathBuf,
    /// What `uname -r` says.
    pub release: String,
}

/// Why there is no kernel.
#[derive(Debug, Error)]
pub enum KernelError {
    /// The lists and fragments.
    #[error("cannot tell what kernel {target} is made of")]
    Plan {
        /// Which one.
        target: Target,
        /// Why.
        source: Box<PlanError>,
    },
    /// The key of the cache entry.
    #[error("cannot tell which kernel {target} is wanted")]
    Key {
        /// Which one.
        target: Target,
        /// Why.
        source: Box<KeyError>,
    },
    /// The cache folder.
    #[error("cannot use the cache")]
    Cache(#[source] OpenError),
    /// The cache entry.
    #[error("there is no kernel {target}")]
    Get {
        /// Which one.
        target: Target,
        /// Why.
        source: Box<GetError<CompileError>>,
    },
    /// Configuring alone.
    #[error("kernel {target} cannot be configured")]
    Configure {
        /// Which one.
        target: Target,
        /// Why.
        source: Box<CompileError>,
    },
    /// A result cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// The kernel of a target: from the cache, or compiled.
pub fn ensure(
    cache: &Cache,
    root: &BuildRoot,
    repository: &Path,
    target: &Target,
    progress: Progress<'_>,
) -> Result<KernelArtifacts, KernelError> {
    let plan = read_plan(repository, target)?;
    let key = key(&plan, root).map_err(|source| KernelError::Key {
        target: target.clone(),
        source: Box::new(source),
    })?;
    let build = prepare(cache, &plan, root)?;
    let entry = cache
        .get_or_build(key, Check::Contents, progress, |folder| {
            build.unpack(progress)?;
            build.configure(progress)?;
            build.compile(folder, progress)
        })
        .map_err(|source| KernelError::Get {
            target: target.clone(),
            source: Box::new(source),
        })?;
    artifacts(entry)
}

/// Configures without compiling: seconds instead of minutes to learn whether every fragment line survives.
pub fn check(
    cache: &Cache,
    root: &BuildRoot,
    repository: &Path,
    targets: &[Target],
    progress: Progress<'_>,
) -> Result<(), KernelError> {
    let mut unpacked = false;
    for target in targets {
        let plan = read_plan(repository, target)?;
        let mut build = prepare(cache, &plan, root)?;
        // One folder for all, and not the one in which the same kernel may be compiling right now.
        build.work = cache.scratch(CHECK);
        let unpack = if unpacked {
            Ok(())
        } else {
            build.unpack(progress)
        };
        let result = unpack.and_then(|()| build.configure(progress));
        result.map_err(|source| KernelError::Configure {
            target: target.clone(),
            source: Box::new(source),
        })?;
        unpacked = true;
    }
    // Only space is at stake: the next check and `clean` remove it too.
    let _ = fs::remove_dir_all(cache.scratch(CHECK));
    Ok(())
}

fn read_plan(repository: &Path, target: &Target) -> Result<Plan, KernelError> {
    Plan::read(repository, target).map_err(|source| KernelError::Plan {
        target: target.clone(),
        source: Box::new(source),
    })
}

/// The tools' versions count and the merged settings do; comments in fragments do not.
fn key(plan: &Plan, root: &BuildRoot) -> Result<Key, KeyError> {
    let builder = Key::stage("kernel")
        .text("format", FORMAT)
        .text("make", &plan.make)
        .text("compiler", &plan.compiler)
        .text("image", &plan.image)
        .text("settings", &plan.merged)
        .file("build root", root.used_lock())?;
    Ok(builder.finish())
}

fn prepare<'a>(
    cache: &Cache,
    plan: &'a Plan,
    root: &'a BuildRoot,
) -> Result<Build<'a>, KernelError> {
    Ok(Build {
        plan,
        root,
        work: cache.scratch(&format!("kernel.{}", plan.target)),
        ccache: cache.folder("ccache").map_err(KernelError::Cache)?,
    })
}

fn artifacts(entry: Entry) -> Result<KernelArtifacts, KernelError> {
    let at = |name: &str| entry.path().join(name);
    let path = at(RELEASE);
    let release = match fs::read_to_string(&path) {
        Ok(text) => text.trim().to_owned(),
        Err(source) => return Err(KernelError::Read { path, source }),
    };
    Ok(KernelArtifacts {
        image: at(IMAGE),
        config: at(CONFIG),
        modules_builtin: at(BUILTIN),
        modules_builtin_modinfo: at(BUILTIN_INFO),
        release,
        entry,
    })
}
