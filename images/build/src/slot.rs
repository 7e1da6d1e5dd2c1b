//! One build out of its parts: root file system with its hash tree, unified kernel image, the
//! signed page. Disk images and bundles are made of it.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use anyhow::Context;
use keelson_cache::{Key, KeyBuilder, KeyError};
use keelson_images::digest::Sha256Digest;
use keelson_images::slot::{Build, BuildSpec};
use keelson_images::uki::Uki;
use keelson_images::verity::Sealed;
use keelson_images::{Platform, initramfs, verity};
use keelson_rootfs::Root;
use keelson_test_bundles::Program;

use crate::cargo::HANG;
use crate::edition::Edition;
use crate::parts::Parts;

/// The platform that is built today.
const PLATFORM: &str = "images/platforms/amd64.yaml";
const STUB: &str = "usr/lib/systemd/boot/efi/linuxx64.efi.stub";
/// Raised when the way a build is made changes in a way its inputs do not show.
const RECIPE: &str = "1";

/// A build with what is known about its making.
#[derive(Debug)]
pub(crate) struct Made {
    pub(crate) platform: Platform,
    pub(crate) build: Build,
    /// Bytes of the kernel.
    pub(crate) kernel: usize,
    /// Bytes of the initramfs.
    pub(crate) initramfs: usize,
}

impl Parts<'_> {
    /// A cache key over everything that makes a build.
    pub(crate) fn key(
        &self,
        stage: &str,
        root: &Root,
        edition: &Edition,
    ) -> Result<KeyBuilder, KeyError> {
        Key::stage(stage)
            .text("build recipe", RECIPE)
            .text("grub", &keelson_images::bios::CoreRecipe::scripts())
            .text("version", &edition.version)
            .text("variant", &format!("{:?}", edition.variant))
            .file("platform", &self.platform_file())?
            .file("stub", &self.build_root.path().join(STUB))?
            .file("kernel", &self.kernel.image)?
            .file("node", &self.node)?
            .file("root", &root.erofs)?
            .file("certificates", &self.keys.certificate_file())
    }

    /// Makes the build; its root part is a file in `folder`.
    pub(crate) fn build(
        &self,
        root: &Root,
        edition: &Edition,
        folder: &Path,
        status: &dyn Fn(&str),
    ) -> anyhow::Result<Made> {
        let platform = Platform::load(&self.platform_file())?;
        status("hash tree of the root file system");
        let root_part = folder.join("root.img");
        let mut sealed = verity::seal(&root.erofs, &root_part)?;
        if edition.variant.flip_root_bit {
            flip(&root_part, &mut sealed).context("cannot flip a bit")?;
        }
        status("unified kernel image");
        let (stub, linux) = (
            read(&self.build_root.path().join(STUB))?,
            read(&self.kernel.image)?,
        );
        let initrd = initramfs::build(&self.programs(edition, status)?)?;
        let os_release = keelson_rootfs::os_release(&edition.version, &root.build_id);
        let uki = Uki {
            stub: &stub,
            linux: &linux,
            initrd: &initrd,
            command_line: &edition.command_line(platform.command_line(&sealed)),
            uname: &self.kernel.release,
            os_release: os_release.as_bytes(),
        }
        .assemble()?;
        let build = BuildSpec {
            platform: &platform,
            payload: &uki,
            root: &root_part,
            sealed: &sealed,
            version: &edition.version,
            keys: &self.keys.release(),
        }
        .seal()?;
        Ok(Made {
            platform,
            build,
            kernel: linux.len(),
            initramfs: initrd.len(),
        })
    }

    fn platform_file(&self) -> PathBuf {
        self.repo.join(PLATFORM)
    }

    fn programs(
        &self,
        edition: &Edition,
        status: &dyn Fn(&str),
    ) -> anyhow::Result<Vec<initramfs::Program>> {
        let program = |name: &str, file| initramfs::Program {
            name: name.into(),
            file,
        };
        let Some(other) = &edition.variant.initramfs else {
            return Ok(vec![program("init", self.node.clone())]);
        };
        other
            .iter()
            .map(|(name, kind)| {
                let file = match kind {
                    Program::Hang => HANG.build(self.repo, &[], status)?,
                    Program::Node => self.node.clone(),
                };
                Ok(program(name, file))
            })
            .collect()
    }
}

/// Of a block in the middle, and tells nobody but the hash of the whole.
fn flip(root_part: &Path, sealed: &mut Sealed) -> std::io::Result<()> {
    let file = OpenOptions::new().read(true).write(true).open(root_part)?;
    let at = sealed.data_blocks / 2 * 4096;
    let mut byte = [0];
    file.read_exact_at(&mut byte, at)?;
    let [byte] = byte;
    file.write_all_at(&[byte ^ 1], at)?;
    sealed.sha256 = Sha256Digest::of_file(root_part)?;
    Ok(())
}

pub(crate) fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}
