//! Compiles tests/fuzz with coverage, by stable Rust alone.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};

use super::rustc;
use crate::cargo::target_dir;

/// Flags of rustc, and of LLVM behind it (its SanitizerCoverage pass): a counter for each edge
/// between basic blocks, and a call at each comparison, so that the fuzzer sees what is compared
/// with what.
const COVERAGE: [&str; 4] = [
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=3",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
];

const PROFILE: &str = "fuzz";

/// The programs of all targets.
#[derive(Debug)]
pub(crate) struct Programs {
    folder: PathBuf,
}

impl Programs {
    /// Compiles what is not compiled yet.
    pub(crate) fn compile(repo: &Path, status: &dyn Fn(&str)) -> anyhow::Result<Self> {
        status("cargo build in tests/fuzz (a few minutes the first time)");
        run(cargo(repo, "build")?.args(["--bins", "--features", "planted"]))?;
        Ok(Self {
            folder: folder(repo).join(host()).join(PROFILE),
        })
    }

    /// Runs the tests that tests/fuzz has for itself.
    pub(crate) fn test(repo: &Path) -> anyhow::Result<()> {
        // mozim's copy has no tests that are ours, and does not link without the engine.
        let packages = ["--workspace", "--exclude", "keelson-fuzz-mozim"];
        run(cargo(repo, "test")?
            .args(packages)
            .args(["--lib", "--bin", "api-messages"]))
    }

    /// A program, to be given its arguments.
    pub(crate) fn command(&self, target: &str) -> Command {
        Command::new(self.folder.join(target))
    }
}

/// Cargo with the flags, working in tests/fuzz.
fn cargo(repo: &Path, subcommand: &str) -> anyhow::Result<Command> {
    let this = env::current_exe().context("cannot tell the path of this program")?;
    let mut command = Command::new("cargo");
    command
        .current_dir(repo.join("tests/fuzz"))
        .args([subcommand, "--quiet", "--profile", PROFILE])
        // With a target, build scripts and macros are compiled without the flags.
        .args(["--target", &host()])
        .env("CARGO_TARGET_DIR", folder(repo))
        .env("CARGO_ENCODED_RUSTFLAGS", COVERAGE.join("\x1f"))
        .env("RUSTC_WRAPPER", this)
        .env(rustc::STAND_IN, "1");
    Ok(command)
}

fn run(command: &mut Command) -> anyhow::Result<()> {
    let output = command
        .output()
        .context("could not start cargo; is Rust installed?")?;
    if !output.status.success() {
        bail!(
            "cargo failed in tests/fuzz:\n{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(())
}

/// Whether rustc gets this flag for coverage.
pub(crate) fn is_coverage(flag: &str) -> bool {
    COVERAGE.contains(&flag)
}

/// Its own: the same crates with other flags would push those of everyday builds out.
fn folder(repo: &Path) -> PathBuf {
    target_dir(repo).join("fuzz")
}

/// Rust's name of this machine.
fn host() -> String {
    format!("{}-unknown-linux-gnu", env::consts::ARCH)
}
