//! Update bundles: of the image, of the same parts under another version, of systems with something
//! wrong, and deltas between any two.

mod base;
mod for_tests;

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use keelson_bootstate::Slot;
use keelson_bundle::writer::{self, Level, Recipe, System};
use keelson_bundle::{Architecture, STATE_COMPONENT, STATE_FORMAT};
use keelson_cache::{Cache, Check, Entry};
use keelson_images::slot::InstalledBuild;
use keelson_rootfs::Root;
use keelson_test_bundles::{Damage, Variant};
use semver::Version;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use self::base::Base;
pub(crate) use self::for_tests::{NEXT, Which, prepare};
use crate::disk::RAW;
use crate::edition::Edition;
use crate::image::publish;
use crate::parts::{self, Parts};
use crate::progress::Stages;
use crate::stage_error::StageError;

/// Name of a bundle in the cache, and under `out/` of the one that belongs to the image.
pub(crate) const BUNDLE: &str = "keelson-amd64.keelson";

/// Raised when the way a bundle is made changes in a way its inputs do not show.
const RECIPE: &str = "1";
/// The kind of machine: every 64-bit PC and cloud takes the same one.
const PLATFORM: &str = "amd64";
/// The oldest version that an upgrade may start from: raised when a version cannot read what an
/// older one left on STATE or DATA.
const MINIMUM_VERSION: Version = Version::new(0, 1, 0);
/// Takes 7 MiB of memory to unpack, a delta 25; with 8 MiB that is 13 and 33, for a bundle that is
/// one hundredth smaller.
const BLOCK_SIZE: u32 = 4 * 1024 * 1024;

/// How much time a bundle may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Effort {
    /// Two seconds: what a developer installs once.
    Quick,
    /// A minute and a half: a fifth smaller for everybody who downloads it.
    Release,
}

/// What to pack.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Options {
    /// Version of the system instead of the project's own.
    #[arg(long, value_name = "VERSION")]
    version: Option<Version>,
    /// Make a delta against this bundle or raw image.
    #[arg(long, value_name = "FILE")]
    delta_from: Option<PathBuf>,
    /// Where to put it (default: out/keelson-VERSION[-VARIANT].keelson).
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Something that is wrong with it, for tests; a name that is not known lists them.
    #[arg(long, value_name = "NAME")]
    variant: Option<String>,
    /// As small as it gets, for people to download.
    #[arg(long)]
    release: bool,
}

/// Makes the bundle that was asked for.
pub(crate) fn run(repo: &Path, cache: &Cache, options: &Options) -> anyhow::Result<()> {
    let spoiled: Option<Damage> = options.variant.as_ref().and_then(|name| name.parse().ok());
    let variant = match (&options.variant, spoiled) {
        (Some(name), None) => Some(known(repo, name)?),
        _ => None,
    };
    let version = options.version.as_ref().map(ToString::to_string);
    let edition = Edition::of(repo, version.as_deref(), variant)?;

    let mut stages = Stages::new(parts::STAGES + 2);
    let parts = Parts::gather(repo, cache, &mut stages)?;
    let root = stages.run("root", |status| parts.root(cache, &edition, status))?;
    let order = Order {
        effort: if options.release {
            Effort::Release
        } else {
            Effort::Quick
        },
        base: options.delta_from.as_deref(),
    };
    let entry = stages.run("bundle", |status| {
        parts.bundle(cache, &root, &edition, order, status)
    })?;
    let target = options.output.clone().unwrap_or_else(|| {
        let suffix = options
            .variant
            .as_ref()
            .map_or_else(String::new, |name| format!("-{name}"));
        repo.join(format!("out/keelson-{}{suffix}.keelson", edition.version))
    });
    let bundle = entry.path().join(BUNDLE);
    match spoiled {
        Some(damage) => damage.apply(&bundle, &target, &parts.keys.release())?,
        None => publish(&bundle, &target)?,
    }
    let size = fs::metadata(&target)
        .with_context(|| format!("cannot look at {}", target.display()))?
        .len();
    println!("{} {size} bytes in {}", target.display(), stages.elapsed());
    Ok(())
}

fn known<'n>(repo: &Path, name: &'n str) -> anyhow::Result<&'n str> {
    let mut all = Variant::names(repo)?;
    if all.iter().any(|one| one == name) {
        return Ok(name);
    }
    all.extend(Damage::ALL.iter().map(|(name, _)| (*name).to_owned()));
    bail!("there is no variant {name}; variants: {}", all.join(", "))
}

/// How a bundle is packed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Order<'a> {
    pub(crate) effort: Effort,
    /// What a delta is made against.
    pub(crate) base: Option<&'a Path>,
}

impl Parts<'_> {
    /// A bundle of these parts that no disk image holds.
    fn bundle(
        &self,
        cache: &Cache,
        root: &Root,
        edition: &Edition,
        order: Order<'_>,
        status: &dyn Fn(&str),
    ) -> anyhow::Result<Entry> {
        let recipe = self.recipe(order.effort)?;
        let mut key = self
            .key("bundle", root, edition)?
            .text("recipe", RECIPE)
            .text("packed", &format!("{recipe:?}"));
        if let Some(base) = order.base {
            key = key.file("base", base)?;
        }
        Ok(
            cache.get_or_build(key.finish(), Check::Contents, status, |folder| {
                let make = || {
                    let made = self.build(root, edition, folder, status)?;
                    let root_part =
                        File::open(made.build.root()).context("cannot open the root part")?;
                    let payload = made.build.payload().to_vec();
                    let system = System {
                        header: made.build.page().as_bytes(),
                        boot: &payload,
                        root: &root_part,
                    };
                    self.pack(system, order, &recipe, folder, status)?;
                    fs::remove_file(made.build.root()).context("cannot remove the root part")
                };
                make().map_err(|error| StageError::new("cannot make the bundle", error))
            })?,
        )
    }

    /// The bundle of what slot A of a finished disk holds.
    pub(crate) fn bundle_of_disk(
        &self,
        cache: &Cache,
        disk: &Entry,
        effort: Effort,
        status: &dyn Fn(&str),
    ) -> anyhow::Result<Entry> {
        let recipe = self.recipe(effort)?;
        let key = keelson_cache::Key::stage("bundle")
            .text("recipe", RECIPE)
            .text("packed", &format!("{recipe:?}"))
            .file("certificates", &self.keys.certificate_file())?
            .entry("disk", disk)
            .finish();
        Ok(cache.get_or_build(key, Check::Contents, status, |folder| {
            let make = || {
                let installed = InstalledBuild::open(&disk.path().join(RAW), Slot::A)?;
                let order = Order { effort, base: None };
                self.pack(installed.system(), order, &recipe, folder, status)
            };
            make().map_err(|error| StageError::new("cannot make the bundle", error))
        })?)
    }

    fn pack(
        &self,
        system: System<'_>,
        order: Order<'_>,
        recipe: &Recipe,
        folder: &Path,
        status: &dyn Fn(&str),
    ) -> anyhow::Result<()> {
        let base = order
            .base
            .map(|path| Base::open(path, self.keys.trust(), folder))
            .transpose()?;
        status("compressing");
        let path = folder.join(BUNDLE);
        let mut to =
            File::create(&path).with_context(|| format!("cannot make {}", path.display()))?;
        let base = base.as_ref().map(Base::system);
        writer::write(system, base, recipe, &self.keys.release(), &mut to)?;
        Ok(())
    }

    fn recipe(&self, effort: Effort) -> anyhow::Result<Recipe> {
        let components = self.components.iter();
        let state = (STATE_COMPONENT.to_owned(), STATE_FORMAT.to_string());
        Ok(Recipe {
            architecture: Architecture::Amd64,
            platform: PLATFORM.into(),
            minimum_version: MINIMUM_VERSION,
            components: components
                .map(|built| (built.component.name.clone(), built.version.number.clone()))
                .chain([state])
                .collect(),
            created: created()?,
            block_size: BLOCK_SIZE,
            level: match effort {
                Effort::Quick => Level(3),
                Effort::Release => Level(19),
            },
        })
    }
}

/// The time that the convention for reproducible builds gives, else that of all our files.
fn created() -> anyhow::Result<String> {
    let seconds = match std::env::var("SOURCE_DATE_EPOCH") {
        Ok(text) => text
            .parse()
            .context("SOURCE_DATE_EPOCH is not a number of seconds")?,
        Err(_) => i64::try_from(keelson_rootfs::Options::default().time)?,
    };
    let time = OffsetDateTime::from_unix_timestamp(seconds)
        .context("SOURCE_DATE_EPOCH is not a time of ours")?;
    Ok(time.format(&Rfc3339)?)
}
