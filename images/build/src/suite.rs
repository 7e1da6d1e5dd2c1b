//! Runs the test suites through nextest, which it builds once into the cache.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};
use keelson_cache::{Cache, Check, Key};

use crate::image;
use crate::progress::Stages;

/// The runner is a tool like QEMU: one version for everybody.
const NEXTEST: &str = "0.9.151";

/// Modules of ours with Go code worth testing.
const GO_TESTS: [(&str, &str); 1] = [("rootfs/go/containerd", "./imageimport")];

/// Everything that needs no VM.
pub(crate) fn unit(repo: &Path, cache: &Cache) -> anyhow::Result<()> {
    let mut stages = Stages::new(2);
    let build_root = stages.run("build root", |status| {
        Ok(keelson_buildroot::ensure(cache, repo, status)?)
    })?;
    let runner = stages.run("nextest", |status| nextest(cache, status))?;
    run(Command::new(runner)
        .current_dir(repo)
        .args([
            "nextest",
            "run",
            "--workspace",
            "--exclude",
            "keelson-tests",
        ])
        .env("KEELSON_BUILDROOT", build_root.path()))?;
    for (module, package) in GO_TESTS {
        run(Command::new("go")
            .current_dir(repo.join(module))
            .args(["test", package])
            .env("GOCACHE", cache.folder("go/build")?)
            .env("GOMODCACHE", cache.folder("go/mod")?))?;
    }
    Ok(())
}

/// The suites that boot the image.
pub(crate) fn vm(repo: &Path, cache: &Cache) -> anyhow::Result<()> {
    let built = image::build(repo, cache)?;
    let mut stages = Stages::new(1);
    let runner = stages.run("nextest", |status| nextest(cache, status))?;
    run(Command::new(runner)
        .current_dir(repo)
        .args([
            "nextest",
            "run",
            "--package",
            "keelson-tests",
            "--profile",
            "vm",
        ])
        .env("KEELSON_BUILDROOT", built.build_root.path())
        .env("KEELSON_IMAGE", &built.raw))
}

fn run(command: &mut Command) -> anyhow::Result<()> {
    let status = command.status().context("could not start nextest")?;
    if !status.success() {
        bail!(
            "{} failed ({status})",
            command.get_program().to_string_lossy()
        );
    }
    Ok(())
}

/// Builds cargo-nextest unless the cache has it: it is used from there, never installed.
fn nextest(cache: &Cache, status: &dyn Fn(&str)) -> anyhow::Result<PathBuf> {
    let key = Key::stage("nextest").text("version", NEXTEST).finish();
    let entry = cache.get_or_build(key, Check::Contents, status, |folder| {
        status("cargo install cargo-nextest (once, about four minutes)");
        let target = folder.with_file_name("target");
        let output = Command::new("cargo")
            .args([
                "install",
                "cargo-nextest",
                "--version",
                NEXTEST,
                "--locked",
                "--quiet",
            ])
            .args(["--no-default-features", "--features", "default-no-update"])
            // A runner needs no fat LTO: this halves the time to build it.
            .args(["--config", "profile.release.lto=false"])
            .args(["--config", "profile.release.opt-level=1"])
            .args(["--config", "profile.release.codegen-units=16"])
            .arg("--root")
            .arg(folder)
            .env("CARGO_TARGET_DIR", &target)
            .output()?;
        let _ = std::fs::remove_dir_all(&target);
        if !output.status.success() {
            return Err(std::io::Error::other(
                String::from_utf8_lossy(&output.stderr).into_owned(),
            ));
        }
        Ok(())
    })?;
    Ok(entry.path().join("bin/cargo-nextest"))
}
