//! GRUB for machines that start by BIOS: its own tool, in the build root, makes the core image.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use keelson_buildroot::{Bind, BuildRoot, run};
use keelson_images::bios::{self, BOOT_CODE, CORE, CoreRecipe, MODULES_FOLDER};
use keelson_images::disk::DiskPlan;

/// Linking and compressing 200 KB takes a tenth of a second.
const DEADLINE: Duration = Duration::from_secs(60);

/// Adds GRUB to the plan of a disk that has a place for it; `folder` is for its work.
pub(crate) fn install(
    build_root: &BuildRoot,
    plan: &mut DiskPlan,
    folder: &Path,
) -> anyhow::Result<()> {
    if !bios::has_place(plan) {
        return Ok(());
    }
    let folder = folder.join("grub");
    fs::create_dir(&folder).context("cannot make a folder for GRUB's files")?;
    let recipe = CoreRecipe::new(plan)?;
    recipe
        .write_files(&folder)
        .context("cannot write the files for GRUB's core image")?;
    let modules = Path::new("/").join(MODULES_FOLDER);
    let mut mkimage = build_root.command("grub-mkimage", &[Bind::writable(&folder)]);
    mkimage.args(recipe.arguments(&folder, &modules));
    run(mkimage, DEADLINE)?;
    let core = fs::read(folder.join(CORE)).context("cannot read GRUB's core image")?;
    let boot_code = build_root.path().join(MODULES_FOLDER).join(BOOT_CODE);
    let boot_code =
        fs::read(&boot_code).with_context(|| format!("cannot read {}", boot_code.display()))?;
    bios::install(plan, &boot_code, &core)?;
    fs::remove_dir_all(&folder).context("cannot remove GRUB's files, which are now in the disk")
}
