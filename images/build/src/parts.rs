//! What a disk image is made of, and the last two stages: root file system and disk.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;
use keelson_buildroot::BuildRoot;
use keelson_cache::{Cache, Check, Entry, Key};
use keelson_images::disk::DiskSpec;
use keelson_images::uki::Uki;
use keelson_images::{Platform, initramfs, verity};
use keelson_kernel::{KernelArtifacts, Target};
use keelson_rootfs::{Components, Inputs, Kernel, Root};

use crate::cargo::{LOADER, NODE};
use crate::progress::Stages;

/// All parts of Keelson have one version.
const VERSION: &str = env!("CARGO_PKG_VERSION");
/// The platform that is built today.
const PLATFORM: &str = "images/platforms/amd64-uefi.yaml";
/// Name of the disk image, in the cache and under `out/`.
pub(crate) const RAW: &str = "keelson-amd64.raw";
/// Raised when the way the disk is put together changes in a way its inputs do not show.
const DISK_RECIPE: &str = "1";
const STUB: &str = "usr/lib/systemd/boot/efi/linuxx64.efi.stub";

/// How many stages [`Parts::gather`] runs.
pub(crate) const STAGES: usize = 5;

/// Everything that is built on its own.
#[derive(Debug)]
pub(crate) struct Parts<'a> {
    repo: &'a Path,
    pub(crate) build_root: BuildRoot,
    kernel: KernelArtifacts,
    pub(crate) components: Components,
    node: PathBuf,
    loader: PathBuf,
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
        let node = stages.run("node binary", |status| NODE.build(repo, status))?;
        let loader = stages.run("loader", |status| LOADER.build(repo, status))?;
        Ok(Self {
            repo,
            build_root,
            kernel,
            components,
            node,
            loader,
        })
    }

    /// The root file system of these parts.
    pub(crate) fn root(&self, cache: &Cache, status: &dyn Fn(&str)) -> anyhow::Result<Root> {
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
            version: VERSION,
            options: Default::default(),
        };
        Ok(keelson_rootfs::assemble(
            cache,
            &self.build_root,
            &inputs,
            status,
        )?)
    }

    /// The disk with that root in slot A.
    pub(crate) fn disk(
        &self,
        cache: &Cache,
        root: &Root,
        status: &dyn Fn(&str),
    ) -> anyhow::Result<Entry> {
        let platform = self.repo.join(PLATFORM);
        let stub = self.build_root.path().join(STUB);
        let key = Key::stage("disk")
            .text("recipe", DISK_RECIPE)
            .file("platform", &platform)?
            .file("stub", &stub)?
            .file("kernel", &self.kernel.image)?
            .file("node", &self.node)?
            .file("loader", &self.loader)?
            .file("root", &root.erofs)?
            .finish();
        Ok(cache.get_or_build(key, Check::Contents, status, |folder| {
            self.write_disk(&platform, &stub, root, folder, status)
                .map_err(|error| DiskError(error.into()))
        })?)
    }

    fn write_disk(
        &self,
        platform: &Path,
        stub: &Path,
        root: &Root,
        folder: &Path,
        status: &dyn Fn(&str),
    ) -> anyhow::Result<()> {
        let read =
            |path: &Path| fs::read(path).with_context(|| format!("cannot read {}", path.display()));
        let platform = Platform::load(platform)?;
        status("hash tree of the root file system");
        let root_image = folder.join("root.img");
        let sealed = verity::seal(&root.erofs, &root_image)?;
        status("unified kernel image");
        let (stub, linux) = (read(stub)?, read(&self.kernel.image)?);
        let initrd = initramfs::build(&self.node)?;
        let os_release = keelson_rootfs::os_release(VERSION, &root.build_id);
        let uki = Uki {
            stub: &stub,
            linux: &linux,
            initrd: &initrd,
            command_line: &platform.command_line(&sealed),
            uname: &self.kernel.release,
            os_release: os_release.as_bytes(),
        }
        .assemble()?;
        status("partitions");
        let loader = read(&self.loader)?;
        let spec = DiskSpec {
            platform: &platform,
            loader: &loader,
            payload: &uki,
            root: &root_image,
        };
        spec.plan()?.write_raw(&folder.join(RAW))?;
        // What each part weighs, for the boot report's sizes.
        let sizes = serde_json::json!({
            "build_id": root.build_id,
            "loader": loader.len(),
            "kernel": linux.len(),
            "initramfs": initrd.len(),
            "uki": uki.len(),
            "root_with_verity": sealed.size,
            "root": root.size,
        });
        fs::write(folder.join("sizes.json"), sizes.to_string())
            .context("cannot write sizes.json")?;
        fs::remove_file(&root_image).context("cannot remove the root image that is now in the disk")
    }
}

/// The cache wants an error type; the chain below it is anyhow's.
#[derive(Debug)]
struct DiskError(Box<dyn std::error::Error + Send + Sync>);

impl std::fmt::Display for DiskError {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("cannot write the disk image")
    }
}

impl std::error::Error for DiskError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&*self.0)
    }
}
