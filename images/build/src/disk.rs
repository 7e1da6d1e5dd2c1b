//! The stage that writes the disk image.

use std::fs;
use std::path::Path;

use anyhow::Context;
use keelson_cache::{Cache, Check, Entry};
use keelson_images::disk::DiskSpec;
use keelson_rootfs::Root;

use crate::edition::Edition;
use crate::grub;
use crate::parts::Parts;
use crate::slot::read;
use crate::stage_error::StageError;

/// Name of the disk image, in the cache and under `out/`.
pub(crate) const RAW: &str = "keelson-amd64.raw";
/// What each part of the image weighs.
pub(crate) const SIZES: &str = "sizes.json";
/// Raised when the way the disk is put together changes in a way its inputs do not show.
const RECIPE: &str = "2";

impl Parts<'_> {
    /// The disk with that root in slot A.
    pub(crate) fn disk(
        &self,
        cache: &Cache,
        root: &Root,
        status: &dyn Fn(&str),
    ) -> anyhow::Result<Entry> {
        let edition = Edition::real(self.repo);
        let key = self
            .key("disk", root, &edition)?
            .text("recipe", RECIPE)
            .file("loader", &self.loader)?
            .file("grub", &self.build_root.used_for_loaders())?
            .finish();
        Ok(cache.get_or_build(key, Check::Contents, status, |folder| {
            self.write_disk(root, &edition, folder, status)
                .map_err(|error| StageError::new("cannot write the disk image", error))
        })?)
    }

    fn write_disk(
        &self,
        root: &Root,
        edition: &Edition,
        folder: &Path,
        status: &dyn Fn(&str),
    ) -> anyhow::Result<()> {
        let made = self.build(root, edition, folder, status)?;
        let loader = read(&self.loader)?;
        let spec = DiskSpec {
            platform: &made.platform,
            loader: &loader,
            build: &made.build,
        };
        let mut plan = spec.plan()?;
        grub::install(&self.build_root, &mut plan, folder)?;
        status("partitions");
        plan.write_raw(&folder.join(RAW))?;
        // What each part weighs, for the boot report's sizes.
        let sizes = serde_json::json!({
            "build_id": root.build_id,
            "loader": loader.len(),
            "kernel": made.kernel,
            "initramfs": made.initramfs,
            "uki": made.build.payload().len(),
            "root_with_verity": made.build.header().root_len(),
            "root": root.size,
        });
        fs::write(folder.join(SIZES), sizes.to_string())
            .with_context(|| format!("cannot write {SIZES}"))?;
        fs::remove_file(made.build.root())
            .context("cannot remove the root image that is now in the disk")
    }
}
