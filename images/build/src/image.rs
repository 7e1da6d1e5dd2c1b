//! The stages from source to disk image.
//!
//! build root → kernel → components → node binary → root file system → disk image. Each stage
//! names what goes into it; the cache decides whether there is anything to do.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::Context;
use keelson_buildroot::BuildRoot;
use keelson_cache::{Cache, Check, Entry, Key};
use keelson_images::disk::DiskSpec;
use keelson_images::uki::Uki;
use keelson_images::{Platform, initramfs, qcow2, sparse, verity};
use keelson_kernel::{KernelArtifacts, Target};
use keelson_rootfs::{Inputs, Kernel, Root};

use crate::cargo::{LOADER, NODE};
use crate::progress::Stages;

/// All parts of Keelson have one version.
const VERSION: &str = env!("CARGO_PKG_VERSION");
/// The platform that is built today.
const PLATFORM: &str = "amd64-uefi";
const RAW: &str = "keelson-amd64.raw";
const QCOW2: &str = "keelson-amd64.qcow2";
/// Raised when the way the disk is put together changes in a way its inputs do not show.
const DISK_RECIPE: &str = "1";
const STUB: &str = "usr/lib/systemd/boot/efi/linuxx64.efi.stub";

/// What a finished build consists of.
#[derive(Debug)]
pub(crate) struct Built {
    pub(crate) build_root: BuildRoot,
    /// The raw disk image under `out/`.
    pub(crate) raw: PathBuf,
}

/// Builds whatever is missing and leaves the image and kubectl under `out/`.
pub(crate) fn build(repo: &Path, cache: &Cache) -> anyhow::Result<Built> {
    let mut stages = Stages::new(7);
    let build_root = stages.run("build root", |status| {
        Ok(keelson_buildroot::ensure(cache, repo, status)?)
    })?;
    let kernel = stages.run("kernel", |status| {
        Ok(keelson_kernel::ensure(
            cache,
            &build_root,
            repo,
            &Target::new("amd64", "vm"),
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
    let modules = [
        kernel.modules_builtin.clone(),
        kernel.modules_builtin_modinfo.clone(),
    ];
    let root = stages.run("root", |status| {
        let inputs = Inputs {
            repo,
            components: &components,
            node_program: &node,
            kernel: Kernel {
                release: &kernel.release,
                modules: &modules,
            },
            version: VERSION,
            options: Default::default(),
        };
        Ok(keelson_rootfs::assemble(
            cache,
            &build_root,
            &inputs,
            status,
        )?)
    })?;
    let parts = Parts {
        repo,
        build_root: &build_root,
        kernel: &kernel,
        node,
        loader,
        root,
    };
    let disk = stages.run("disk image", |status| parts.disk(cache, status))?;

    let out = repo.join("out");
    fs::create_dir_all(out.join("bin")).context("cannot make out/bin")?;
    let raw = out.join(RAW);
    publish(&disk.path().join(RAW), &raw)?;
    let kubernetes = components
        .get("kubernetes")
        .context("no component \"kubernetes\"")?;
    publish(&kubernetes.program("kube"), &out.join("bin/kubectl"))?;
    eprintln!(
        "image {} (build {}) in {}",
        raw.display(),
        parts.root.build_id,
        stages.elapsed()
    );
    Ok(Built { build_root, raw })
}

/// Makes the file that people download.
pub(crate) fn download(repo: &Path, cache: &Cache) -> anyhow::Result<()> {
    let built = build(repo, cache)?;
    let mut stages = Stages::new(1);
    let target = repo.join("out").join(QCOW2);
    let key = Key::stage("download").file("raw", &built.raw)?.finish();
    let entry = stages.run("compress", |status| {
        Ok(cache.get_or_build(key, Check::Contents, status, |folder| {
            qcow2::convert(&built.raw, &folder.join(QCOW2)).map(drop)
        })?)
    })?;
    publish(&entry.path().join(QCOW2), &target)?;
    let size = fs::metadata(&target)
        .context("cannot look at the compressed image")?
        .len();
    println!("{} {:.1} MiB", target.display(), mebibytes(size));
    Ok(())
}

/// Everything the disk is made of.
struct Parts<'a> {
    repo: &'a Path,
    build_root: &'a BuildRoot,
    kernel: &'a KernelArtifacts,
    node: PathBuf,
    loader: PathBuf,
    root: Root,
}

impl Parts<'_> {
    fn disk(&self, cache: &Cache, status: &dyn Fn(&str)) -> anyhow::Result<Entry> {
        let platform = self.platform_file();
        let stub = self.build_root.path().join(STUB);
        let key = Key::stage("disk")
            .text("recipe", DISK_RECIPE)
            .file("platform", &platform)?
            .file("stub", &stub)?
            .file("kernel", &self.kernel.image)?
            .file("node", &self.node)?
            .file("loader", &self.loader)?
            .file("root", &self.root.erofs)?
            .finish();
        Ok(cache.get_or_build(key, Check::Contents, status, |folder| {
            self.write_disk(&platform, &stub, folder, status)
                .map_err(|error| DiskError(error.into()))
        })?)
    }

    fn write_disk(
        &self,
        platform: &Path,
        stub: &Path,
        folder: &Path,
        status: &dyn Fn(&str),
    ) -> anyhow::Result<()> {
        let read =
            |path: &Path| fs::read(path).with_context(|| format!("cannot read {}", path.display()));
        let platform = Platform::load(platform)?;
        status("hash tree of the root file system");
        let root = folder.join("root.img");
        let sealed = verity::seal(&self.root.erofs, &root)?;
        status("unified kernel image");
        let (stub, linux) = (read(stub)?, read(&self.kernel.image)?);
        let initrd = initramfs::build(&self.node)?;
        let os_release = keelson_rootfs::os_release(VERSION, &self.root.build_id);
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
            root: &root,
        };
        spec.plan()?.write_raw(&folder.join(RAW))?;
        // What each part weighs, for the boot report's sizes.
        let sizes = serde_json::json!({
            "build_id": self.root.build_id,
            "loader": loader.len(),
            "kernel": linux.len(),
            "initramfs": initrd.len(),
            "uki": uki.len(),
            "root_with_verity": sealed.size,
            "root": self.root.size,
        });
        fs::write(folder.join("sizes.json"), sizes.to_string())
            .context("cannot write sizes.json")?;
        fs::remove_file(&root).context("cannot remove the root image that is now in the disk")
    }

    fn platform_file(&self) -> PathBuf {
        self.repo
            .join("images/platforms")
            .join(format!("{PLATFORM}.yaml"))
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

/// Puts a file of the cache under `out/`: a sparse copy, for what is there may be changed
/// (a configuration on the ESP) and the cache must not.
fn publish(from: &Path, to: &Path) -> anyhow::Result<()> {
    let same = match (fs::metadata(from), fs::metadata(to)) {
        (Ok(from), Ok(to)) => from.len() == to.len() && from.modified()? <= to.modified()?,
        _ => false,
    };
    if same && marker(to) == Some(from.to_owned()) {
        return Ok(());
    }
    let temporary = to.with_extension("new");
    sparse::copy(from, &temporary)
        .with_context(|| format!("cannot copy {} to out/", from.display()))?;
    // Programs stay programs; the owner may write, for a configuration goes onto the image.
    let mode = fs::metadata(from)?.permissions().mode() | 0o200;
    fs::set_permissions(&temporary, Permissions::from_mode(mode))?;
    fs::rename(&temporary, to).with_context(|| format!("cannot replace {}", to.display()))?;
    fs::write(marker_path(to), from.to_string_lossy().as_bytes()).context("cannot write to out/")
}

fn marker_path(to: &Path) -> PathBuf {
    let name = to.file_name().unwrap_or_default().to_string_lossy();
    to.with_file_name(format!(".{name}.from"))
}

fn marker(to: &Path) -> Option<PathBuf> {
    fs::read_to_string(marker_path(to)).ok().map(PathBuf::from)
}

fn mebibytes(bytes: u64) -> f64 {
    // Exact for every size below 2^32 KiB, and only shown.
    f64::from(u32::try_from(bytes / 1024).unwrap_or(u32::MAX)) / 1024.0
}
