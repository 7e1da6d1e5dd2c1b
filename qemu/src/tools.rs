//! QEMU, its image tools and its firmware, from the build root.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use keelson_buildroot::{Bind, BuildRoot, BuildRootError};
use keelson_cache::{Cache, OpenError};
use thiserror::Error;

/// Why QEMU cannot be had.
#[derive(Debug, Error)]
pub enum ToolsError {
    /// The build root.
    #[error("cannot prepare the build root, which holds QEMU")]
    BuildRoot(#[source] Box<BuildRootError>),
    /// The cache.
    #[error("cannot open the build cache")]
    Cache(#[from] OpenError),
    /// Not the top of the repository.
    #[error("{} is not the top of the Keelson repository: run this from there", path.display())]
    Repository {
        /// The folder.
        path: PathBuf,
    },
}

/// Programs and files of the build root.
#[derive(Clone, Debug)]
pub struct Tools {
    root: BuildRoot,
    visible: Vec<Bind>,
}

impl Tools {
    /// Prepares the build root (downloads it, the first time). Its programs see the cache, the
    /// folder for temporary files and the folders in `visible`, at the same paths.
    pub fn open(
        cache: &Cache,
        repository: &Path,
        visible: &[PathBuf],
        progress: &dyn Fn(&str),
    ) -> Result<Self, ToolsError> {
        if !repository.join("rootfs/buildroot").is_dir() {
            return Err(ToolsError::Repository {
                path: repository.to_owned(),
            });
        }
        let root = keelson_buildroot::ensure(cache, repository, progress)
            .map_err(|error| ToolsError::BuildRoot(Box::new(error)))?;
        let mut visible: Vec<Bind> = visible.iter().map(|path| Bind::writable(path)).collect();
        visible.push(Bind::writable(cache.root()));
        visible.push(Bind::writable(&env::temp_dir()));
        Ok(Self { root, visible })
    }

    /// A command that runs `program` of the build root.
    pub fn command(&self, program: &str) -> Command {
        self.root.command(program, &self.visible)
    }

    /// A file of the build root, as the host sees it.
    pub fn file(&self, path: &str) -> PathBuf {
        self.root.path().join(path)
    }

    /// UEFI code, as QEMU sees the path.
    pub fn firmware_code(&self) -> PathBuf {
        "/usr/share/OVMF/OVMF_CODE_4M.fd".into()
    }

    /// Empty UEFI variables, as QEMU sees the path.
    pub fn firmware_variables(&self) -> PathBuf {
        "/usr/share/OVMF/OVMF_VARS_4M.fd".into()
    }
}
