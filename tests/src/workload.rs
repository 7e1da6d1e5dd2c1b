//! The image the suites run: one static program, built here.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::Context;
use keelson_images::oci::{Entry, Image, Platform};
use keelson_qemu::run_within;

/// The registry in the image's name; it exists nowhere, nodes are told a mirror for it.
pub const IMAGE_HOST: &str = "test.keelson.dev";

/// The image's full name.
pub const IMAGE: &str = "test.keelson.dev/workload:1";

const TARGET: &str = "x86_64-unknown-linux-musl";

/// A small program with few dependencies, on a cold cache and a busy host.
const BUILD: Duration = Duration::from_secs(600);

/// Builds the program and writes the image; nothing is done again when nothing changed.
pub(crate) fn write_archive(archive: &Path) -> anyhow::Result<()> {
    let program = build()?;
    let image = Image {
        entrypoint: vec!["/keelson-workload".to_owned()],
        ..Image::new(IMAGE, Platform::amd64())
    };
    let entries = vec![
        Entry::file("/keelson-workload", 0o755, &program),
        // musl looks for its resolver here; kubelet mounts the real one over it.
        Entry::bytes("/etc/resolv.conf", 0o644, ""),
        Entry::directory("/tmp", 0o1777),
    ];
    image
        .write(entries, archive)
        .context("cannot write the workload image")?;
    Ok(())
}

fn build() -> anyhow::Result<PathBuf> {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.current_dir(&workspace).args([
        "build",
        "--quiet",
        "--package",
        "keelson-workload",
        "--target",
        TARGET,
    ]);
    run_within(&mut command, BUILD).context("cannot build the workload program")?;
    let target =
        env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace.join("target"), PathBuf::from);
    Ok(target.join(TARGET).join("debug/keelson-workload"))
}
