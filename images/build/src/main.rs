//! The build program behind the Makefile: stages, cache keys, progress.
//!
//! `image` runs the stages in their order (see [`parts`]); every stage is an entry of the cache,
//! so a second run only looks. What people use is left under `out/`.

mod bundle;
mod cargo;
mod cargo_tool;
mod disk;
mod edition;
mod fuzz;
mod grub;
mod image;
mod key_command;
mod parts;
mod progress;
mod slot;
mod stage_error;
mod suite;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::{Parser, Subcommand};
use keelson_cache::{Cache, Removal, Scope};

/// Builds Keelson and runs its tests.
#[derive(Debug, Parser)]
#[command(version)]
struct Options {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Build the disk image and the update bundle into out/, with kubectl and keelsonctl in out/bin.
    Image,
    /// Make an update bundle: another version, a delta, or something that is wrong for tests.
    Bundle(bundle::Options),
    /// Compress what people download: out/keelson-amd64.raw.zst, .qcow2 and .keelson.
    Download,
    /// The keys that builds are signed with.
    #[command(subcommand)]
    Keys(key_command::Command),
    /// Run tests.
    Test {
        /// Which ones.
        #[command(subcommand)]
        suite: Suite,
    },
    /// Check licences and sources of what the workspace depends on.
    Dependencies,
    /// Write the generated reference pages again.
    Docs,
    /// Take the newest Debian packages of the series and write the lock.
    UpdateLock,
    /// Remove what the stages made and out/; downloads and compilers' caches stay.
    Clean,
    /// Remove everything of ours.
    Distclean,
}

#[derive(Debug, Subcommand)]
enum Suite {
    /// Make the bundles that the suites install, in out/bundles, and run nothing.
    Bundles,
    /// Throw odd input at everything that reads what others wrote.
    Fuzz(fuzz::Options),
    /// Everything that needs no VM.
    Unit,
    /// Build the image twice and compare the bytes.
    Reproducible,
    /// The suites that boot the image.
    Vm,
}

fn main() -> ExitCode {
    if let Some(code) = fuzz::rustc::stand_in() {
        return code;
    }
    match run(&Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("keelson-build: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> anyhow::Result<()> {
    let repo = repository()?;
    let cache = Cache::from_environment()?;
    match &options.command {
        Command::Image => image::build(&repo, &cache, bundle::Effort::Quick).map(drop),
        Command::Bundle(options) => bundle::run(&repo, &cache, options),
        Command::Download => image::download(&repo, &cache),
        Command::Keys(command) => key_command::run(command),
        Command::Test { suite } => match suite {
            Suite::Bundles => suite::bundles(&repo, &cache),
            Suite::Fuzz(options) => fuzz::run(&repo, options),
            Suite::Unit => suite::unit(&repo, &cache),
            Suite::Reproducible => image::compare(&repo, &cache),
            Suite::Vm => suite::vm(&repo, &cache),
        },
        Command::Dependencies => suite::dependencies(&repo, &cache),
        Command::Docs => cargo::docs(&repo),
        Command::UpdateLock => update_lock(&repo, &cache),
        Command::Clean => clean(&repo, &cache, Scope::Entries),
        Command::Distclean => clean(&repo, &cache, Scope::Everything),
    }
}

/// The folder that holds the workspace, from wherever in it this was called.
fn repository() -> anyhow::Result<PathBuf> {
    let here = std::env::current_dir().context("cannot tell the current folder")?;
    for folder in here.ancestors() {
        if folder.join("rootfs/components.yaml").is_file() && folder.join("Cargo.toml").is_file() {
            return Ok(folder.to_owned());
        }
    }
    bail!("{} is not inside a clone of Keelson", here.display())
}

fn update_lock(repo: &Path, cache: &Cache) -> anyhow::Result<()> {
    let differences = keelson_buildroot::update_lock(cache, repo, &|status| eprintln!("{status}"))?;
    for difference in &differences {
        println!("{difference}");
    }
    println!("{} packages differ from the old lock", differences.len());
    Ok(())
}

fn clean(repo: &Path, cache: &Cache, scope: Scope) -> anyhow::Result<()> {
    let say = |line: &str| println!("{line}");
    if let Some(out) = Removal::of(&repo.join("out")) {
        out.remove(&say)?;
    }
    cache.clean(scope, &say)?;
    Ok(())
}
