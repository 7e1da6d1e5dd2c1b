//! Cargo's own tools: one version for everybody, built once into the cache, never installed.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::process::Command;

use keelson_cache::{Cache, Check, Key};

/// Runs the tests.
pub(crate) const NEXTEST: CargoTool = CargoTool {
    name: "cargo-nextest",
    version: "0.9.151",
    features: &["--no-default-features", "--features", "default-no-update"],
};

/// Says which dependencies may not enter.
pub(crate) const DENY: CargoTool = CargoTool {
    name: "cargo-deny",
    version: "0.20.2",
    features: &[],
};

/// How each is compiled: they start other programs and wait, so the time to build them counts.
const PROFILE: [&str; 4] = [
    "profile.release.lto=false",
    "profile.release.opt-level=0",
    "profile.release.codegen-units=16",
    "profile.release.debug=0",
];

/// A tool on the crate registry.
pub(crate) struct CargoTool {
    name: &'static str,
    version: &'static str,
    features: &'static [&'static str],
}

impl CargoTool {
    /// The program; builds it when the cache has none.
    pub(crate) fn program(&self, cache: &Cache, status: &dyn Fn(&str)) -> anyhow::Result<PathBuf> {
        let key = Key::stage(self.name)
            .text("version", self.version)
            .text("profile", &PROFILE.join(" "))
            .finish();
        let entry = cache.get_or_build(key, Check::Contents, status, |folder| {
            status(&format!(
                "cargo install {} (once, a minute or two)",
                self.name
            ));
            let target = folder.with_file_name("target");
            let mut command = Command::new("cargo");
            command
                .args(["install", self.name, "--version", self.version])
                .args(["--locked", "--quiet"])
                .args(self.features)
                .arg("--root")
                .arg(folder)
                .env("CARGO_TARGET_DIR", &target);
            for setting in PROFILE {
                command.args(["--config", setting]);
            }
            let output = command.output()?;
            let _ = fs::remove_dir_all(&target);
            if output.status.success() {
                return Ok(());
            }
            let words = String::from_utf8_lossy(&output.stderr).into_owned();
            Err(io::Error::other(words))
        })?;
        Ok(entry.path().join("bin").join(self.name))
    }
}
