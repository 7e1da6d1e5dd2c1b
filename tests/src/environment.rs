//! Where image, tools and results are.

use std::env;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, bail};
use keelson_cache::Cache;
use keelson_qemu::{BaseImage, Tools, fingerprint};

/// What every suite needs before it can start a machine.
#[derive(Clone, Debug)]
pub struct Environment {
    /// QEMU.
    pub tools: Tools,
    /// Folder in the cache for images and saved machines.
    pub cache: PathBuf,
    /// `out/` of the repository.
    pub out: PathBuf,
    /// One machine at a time: two would make each other miss their deadlines.
    _lock: Arc<File>,
}

impl Environment {
    /// Waits until no other suite runs a machine, then prepares the tools.
    pub fn prepare() -> anyhow::Result<Self> {
        let repository = repository()?;
        let out = repository.join("out");
        fs::create_dir_all(&out)?;
        let cache = Cache::from_environment()?;
        let folder = cache.folder("vm")?;
        let lock = File::create(folder.join("lock"))?;
        lock.lock()
            .context("cannot take the lock for running machines")?;
        let tools = Tools::open(&cache, &repository, std::slice::from_ref(&out), &|line| {
            println!("{line}");
        })?;
        Ok(Self {
            tools,
            cache: folder,
            out,
            _lock: Arc::new(lock),
        })
    }

    /// The image under test.
    pub fn image(&self) -> anyhow::Result<PathBuf> {
        let path = match env::var_os("KEELSON_IMAGE") {
            Some(path) => PathBuf::from(path),
            None => self.out.join("keelson-amd64.raw"),
        };
        if !path.is_file() {
            bail!(
                "there is no image {}: build one with `make image` or name one in KEELSON_IMAGE",
                path.display()
            );
        }
        Ok(path)
    }

    /// The image under test as a base for overlays, and its fingerprint. Bases of other images
    /// are removed.
    pub fn base(&self) -> anyhow::Result<(BaseImage, String)> {
        let image = self.image()?;
        let fingerprint = fingerprint(&image)?;
        let name = format!("base-{}", &fingerprint[..16]);
        let folder = self.cache.join(&name);
        if let Some(base) = BaseImage::find(&folder) {
            return Ok((base, fingerprint));
        }
        self.remove_others("base-", &name)?;
        fs::create_dir_all(&folder)?;
        let base = BaseImage::import(&image, &folder)?;
        Ok((base, fingerprint))
    }

    /// Removes folders of the cache that begin with `prefix`, except `keep`.
    pub(crate) fn remove_others(&self, prefix: &str, keep: &str) -> anyhow::Result<()> {
        for entry in fs::read_dir(&self.cache)? {
            let entry = entry?;
            let name = entry.file_name();
            if name.to_string_lossy().starts_with(prefix) && name != keep {
                fs::remove_dir_all(entry.path())?;
            }
        }
        Ok(())
    }

    /// The host build of kubectl that comes with the image.
    pub(crate) fn kubectl(&self) -> anyhow::Result<PathBuf> {
        self.program("kubectl")
    }

    /// The host build of keelsonctl that comes with the image.
    pub(crate) fn keelsonctl(&self) -> anyhow::Result<PathBuf> {
        self.program("keelsonctl")
    }

    fn program(&self, name: &str) -> anyhow::Result<PathBuf> {
        let path = self.out.join("bin").join(name);
        if !path.is_file() {
            bail!(
                "there is no {}: `make image` leaves it there",
                path.display()
            );
        }
        Ok(path)
    }
}

/// A number that whoever runs a suite may set.
pub fn number_in(variable: &str) -> Option<u64> {
    env::var(variable).ok()?.parse().ok()
}

/// The top of the repository these suites were built from.
fn repository() -> anyhow::Result<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    Ok(folder
        .parent()
        .context("this package lies at the top of nowhere")?
        .to_owned())
}
