//! What a disk image is made of, and the stage that puts the root file system together.

use std::path::{Path, PathBuf};

use anyhow::Context;
use keelson_buildroot::BuildRoot;
use keelson_cache::Cache;
use keelson_images::keys::{self, Keys};
use keelson_kernel::{KernelArtifacts, Target};
use keelson_rootfs::{Components, Inputs, Kernel, Root};

use crate::cargo::{LOADER, NODE};
use crate::edition::Edition;
use crate::progress::Stages;

/// How many stages [`Parts::gather`] runs.
pub(crate) const STAGES: usize = 6;

/// Everything that is built on its own.
#[derive(Debug)]
pub(crate) struct Parts<'a> {
    pub(crate) repo: &'a Path,
    pub(crate) build_root: BuildRoot,
    pub(crate) kernel: KernelArtifacts,
    pub(crate) components: Components,
    pub(crate) keys: Keys,
    pub(crate) node: PathBuf,
    pub(crate) loader: PathBuf,
}

impl<'a> Parts<'a> {
    /// Builds what the cache does not hold.
    pub(crate) fn gather(
        repo: &'a Path,
        cache: &Cache,
        stages: &mut Stages,
    ) -> anyhow::Result<Self> {
        let build_root = stages.run("build root", |status| {
            Ok(keelson_buildroot::ensure(cache, repo, status)?)
        })?;
        let kernel = stages.run("kernel", |status| {
            let target = Target::new("amd64", "vm");
            Ok(keelson_kernel::ensure(
                cache,
                &build_root,
                repo,
                &target,
                status,
            )?)
        })?;
        let components = stages.run("components", |status| {
            Ok(keelson_rootfs::components(
                cache,
                &build_root,
                repo,
                status,
            )?)
        })?;
        let keys = stages.run("keys", |_| load_keys())?;
        let node = stages.run("node binary", |status| NODE.build(repo, &[], status))?;
        let trust = keys.trust_file();
        let loader = stages.run("loader", |status| {
            LOADER.build(repo, &[(LOADER_TRUST, &trust)], status)
        })?;
        Ok(Self {
            repo,
            build_root,
            kernel,
            components,
            keys,
            node,
            loader,
        })
    }

    /// The root file system of these parts.
    pub(crate) fn root(
        &self,
        cache: &Cache,
        edition: &Edition,
        status: &dyn Fn(&str),
    ) -> anyhow::Result<Root> {
        let modules = [
            self.kernel.modules_builtin.clone(),
            self.kernel.modules_builtin_modinfo.clone(),
        ];
        let inputs = Inputs {
            repo: self.repo,
            components: &self.components,
            node_program: &self.node,
            kernel: Kernel {
                release: &self.kernel.release,
                modules: &modules,
            },
            version: &edition.version,
            tree: edition.tree(),
            trust: &self.keys.trust_file(),
            options: Default::default(),
        };
        Ok(keelson_rootfs::assemble(
            cache,
            &self.build_root,
            &inputs,
            status,
        )?)
    }
}

/// The variable from which the loader's source takes the file to include.
const LOADER_TRUST: &str = "KEELSON_TRUST";

/// The builder's keys; the first build makes them.
pub(crate) fn load_keys() -> anyhow::Result<Keys> {
    let folder = keys::folder()?;
    Keys::ensure(&folder, &|line| eprintln!("{line}"))
        .with_context(|| format!("cannot use the keys in {}", folder.display()))
}
