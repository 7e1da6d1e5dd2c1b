//! What cargo builds for people: the node binary and the UEFI loader of the image, and keelsonctl, with paths of this
//! machine taken out.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};

/// One program built by cargo for a target of its own.
#[derive(Debug)]
pub(crate) struct Program {
    /// Package and binary name.
    package: &'static str,
    target: &'static str,
    profile: &'static str,
    features: Option<&'static str>,
    file: &'static str,
}

/// The node binary: static, so that the initramfs needs nothing else.
pub(crate) const NODE: Program = Program {
    package: "keelson",
    target: "x86_64-unknown-linux-musl",
    profile: "release",
    features: None,
    file: "keelson",
};

/// The operator's program, for this machine: with the C library of the host it finds names as every program here does.
pub(crate) const CTL: Program = Program {
    package: "keelsonctl",
    target: "x86_64-unknown-linux-gnu",
    profile: "release",
    features: None,
    file: "keelsonctl",
};

/// The UEFI program that starts a slot.
pub(crate) const LOADER: Program = Program {
    package: "keelson-loader",
    target: "x86_64-unknown-uefi",
    profile: "loader",
    features: Some("firmware"),
    file: "keelson-loader.efi",
};

/// What stands in front of the node binary in a test: as small, and as static.
pub(crate) const HANG: Program = Program {
    package: "keelson-hang",
    target: "x86_64-unknown-linux-musl",
    profile: "release",
    features: None,
    file: "keelson-hang",
};

impl Program {
    /// Builds it (cargo knows whether that is needed) and gives its path. Its source may ask for
    /// `files` by the names of variables, and cargo builds again when one is another.
    pub(crate) fn build(
        &self,
        repo: &Path,
        files: &[(&str, &Path)],
        status: &dyn Fn(&str),
    ) -> anyhow::Result<PathBuf> {
        status(&format!("cargo build {} for {}", self.package, self.target));
        let output = self
            .command(repo)
            .envs(files.iter().copied())
            .output()
            .context("could not start cargo; is Rust installed?")?;
        if !output.status.success() {
            bail!(
                "cargo could not build {}:\n{}",
                self.package,
                String::from_utf8_lossy(&output.stderr)
            );
        }
        let path = target_dir(repo)
            .join(self.target)
            .join(self.profile)
            .join(self.file);
        if !path.is_file() {
            bail!(
                "cargo built {} but {} is not there",
                self.package,
                path.display()
            );
        }
        Ok(path)
    }

    fn command(&self, repo: &Path) -> Command {
        let mut command = Command::new("cargo");
        command
            .current_dir(repo)
            .args(["build", "--quiet", "--locked", "--package", self.package])
            .args(["--target", self.target, "--profile", self.profile])
            // Panic messages name source files: keep this machine's folders out of the image.
            .env(
                format!(
                    "CARGO_TARGET_{}_RUSTFLAGS",
                    self.target.to_uppercase().replace('-', "_")
                ),
                format!(
                    "--remap-path-prefix={}=/cargo --remap-path-prefix={}=/keelson",
                    cargo_home().display(),
                    repo.display()
                ),
            )
            // ring and zstd have C files. They see the headers of this machine's C library, but use
            // of it only memory, strings and threads, which musl has in the same form; a function
            // that it has not would fail to link.
            .env("CC_x86_64_unknown_linux_musl", "cc");
        if let Some(features) = self.features {
            command.args(["--features", features]);
        }
        command
    }
}

/// Where cargo puts what it builds.
pub(crate) fn target_dir(repo: &Path) -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| repo.join("target"), PathBuf::from)
}

fn cargo_home() -> PathBuf {
    std::env::var_os("CARGO_HOME").map_or_else(
        || PathBuf::from(std::env::var_os("HOME").unwrap_or_default()).join(".cargo"),
        PathBuf::from,
    )
}

/// Writes the generated reference pages.
pub(crate) fn docs(repo: &Path) -> anyhow::Result<()> {
    for (package, generator) in [
        ("keelson-config", "keelson-config-docs"),
        ("keelsonctl", "keelsonctl-docs"),
    ] {
        let status = Command::new("cargo")
            .current_dir(repo)
            .args(["run", "--quiet", "--package", package])
            .args(["--features", "docs", "--bin", generator])
            .status()
            .context("could not start cargo")?;
        if !status.success() {
            bail!("the reference pages of {package} could not be written ({status})");
        }
    }
    // What the suite tests/tests/api.rs saw on a node, if it has run.
    let transcripts = repo.join("out/transcripts.md");
    if transcripts.is_file() {
        std::fs::copy(&transcripts, repo.join("docs/transcripts.md"))
            .context("cannot copy out/transcripts.md to docs/")?;
    }
    Ok(())
}
