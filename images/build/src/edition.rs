//! Which system is built: the real one, or one with another version or something wrong with it, for
//! tests.

use std::path::{Path, PathBuf};

use anyhow::Context;
use keelson_test_bundles::Variant;
use tempfile::TempDir;

/// All parts of Keelson have one version.
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// One system that can be built.
#[derive(Debug)]
pub(crate) struct Edition {
    pub(crate) version: String,
    pub(crate) variant: Variant,
    tree: Tree,
}

#[derive(Debug)]
enum Tree {
    Changed(TempDir),
    Real(PathBuf),
}

impl Edition {
    /// What people get.
    pub(crate) fn real(repo: &Path) -> Self {
        Self {
            version: VERSION.into(),
            variant: Variant::default(),
            tree: Tree::Real(repo.join("rootfs/tree")),
        }
    }

    /// With another version, and perhaps what `tests/bundles/variants` has under a name.
    pub(crate) fn of(
        repo: &Path,
        version: Option<&str>,
        variant: Option<&str>,
    ) -> anyhow::Result<Self> {
        let mut edition = Self::real(repo);
        if let Some(version) = version {
            version.clone_into(&mut edition.version);
        }
        if let Some(name) = variant {
            edition.variant = Variant::load(repo, name)?;
            if !edition.variant.root.is_empty() {
                let folder = tempfile::tempdir().context("no folder for a changed tree")?;
                edition.variant.write_tree(repo, folder.path())?;
                edition.tree = Tree::Changed(folder);
            }
        }
        Ok(edition)
    }

    /// The files that go into the root file system as they are.
    pub(crate) fn tree(&self) -> &Path {
        match &self.tree {
            Tree::Changed(folder) => folder.path(),
            Tree::Real(folder) => folder,
        }
    }

    /// The kernel's arguments after those of the platform.
    pub(crate) fn command_line(&self, platform: String) -> String {
        let mut words = vec![platform];
        words.extend(self.variant.kernel_arguments.iter().cloned());
        words.join(" ")
    }
}
