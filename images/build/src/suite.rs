//! Runs the test suites, and the check of what the workspace depends on.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, bail};
use keelson_cache::Cache;

use crate::bundle::{self, Effort, Which};
use crate::cargo_tool::{DENY, NEXTEST};
use crate::image;
use crate::progress::Stages;

/// Modules of ours with Go code worth testing.
const GO_TESTS: [(&str, &str); 1] = [("rootfs/go/containerd", "./imageimport")];

/// The project and what fuzzes it.
const WORKSPACES: [&str; 2] = ["Cargo.toml", "tests/fuzz/Cargo.toml"];

/// Everything that needs no VM.
pub(crate) fn unit(repo: &Path, cache: &Cache) -> anyhow::Result<()> {
    let mut stages = Stages::new(2);
    let build_root = stages.run("build root", |status| {
        Ok(keelson_buildroot::ensure(cache, repo, status)?)
    })?;
    let runner = stages.run("nextest", |status| NEXTEST.program(cache, status))?;
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
    let built = image::build(repo, cache, Effort::Quick)?;
    let bundles = bundle::prepare(&built.parts, cache, &built.pristine, Which::Next)?;
    let mut stages = Stages::new(1);
    let runner = stages.run("nextest", |status| NEXTEST.program(cache, status))?;
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
        .env("KEELSON_BUILDROOT", built.parts.build_root.path())
        .env("KEELSON_IMAGE", &built.raw)
        .env("KEELSON_NEXT", bundles.join(bundle::NEXT)))
}

/// What the suites install on a node, without running them.
pub(crate) fn bundles(repo: &Path, cache: &Cache) -> anyhow::Result<()> {
    let built = image::build(repo, cache, Effort::Quick)?;
    let folder = bundle::prepare(&built.parts, cache, &built.pristine, Which::All)?;
    println!("{}", folder.display());
    Ok(())
}

/// Licences, sources and forbidden crates. Advisories are left out: their database lives outside
/// of every package registry.
pub(crate) fn dependencies(repo: &Path, cache: &Cache) -> anyhow::Result<()> {
    let mut stages = Stages::new(1);
    let deny = stages.run("cargo-deny", |status| DENY.program(cache, status))?;
    for manifest in WORKSPACES {
        // cargo-deny looks at crates for every system; building here brings only those for this one.
        run(Command::new("cargo").current_dir(repo).args([
            "fetch",
            "--quiet",
            "--locked",
            "--manifest-path",
            manifest,
        ]))?;
        run(Command::new(&deny)
            .current_dir(repo)
            .args(["--offline", "--locked", "--log-level", "error"])
            .args(["--manifest-path", manifest, "--config", "deny.toml"])
            .args(["--all-features", "check", "bans", "licenses", "sources"]))?;
    }
    Ok(())
}

fn run(command: &mut Command) -> anyhow::Result<()> {
    let program = command.get_program().to_string_lossy().into_owned();
    let status = command
        .status()
        .with_context(|| format!("could not start {program}"))?;
    if !status.success() {
        bail!("{program} failed ({status})");
    }
    Ok(())
}
