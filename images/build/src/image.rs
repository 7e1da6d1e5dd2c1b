//! The image as people get it: built into `out/`, compressed for download, and proven to be
//! the same when it is built again.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use keelson_cache::{Cache, Check, Key, file_sha256};
use keelson_images::{qcow2, sparse};

use crate::bundle::{BUNDLE, Effort};
use crate::cargo::CTL;
use crate::disk::{RAW, SIZES};
use crate::edition::Edition;
use crate::parts::{self, Parts};
use crate::progress::Stages;

const QCOW2: &str = "keelson-amd64.qcow2";
const RAW_ZST: &str = "keelson-amd64.raw.zst";

/// What a finished build consists of.
#[derive(Debug)]
pub(crate) struct Built<'a> {
    pub(crate) parts: Parts<'a>,
    /// The raw disk image under `out/`; people may have put a configuration on it.
    pub(crate) raw: PathBuf,
    /// The same as it was built.
    pub(crate) pristine: PathBuf,
}

/// Builds whatever is missing and leaves the image, its bundle, kubectl and keelsonctl under
/// `out/`.
pub(crate) fn build<'a>(
    repo: &'a Path,
    cache: &Cache,
    effort: Effort,
) -> anyhow::Result<Built<'a>> {
    let mut stages = Stages::new(parts::STAGES + 4);
    let parts = Parts::gather(repo, cache, &mut stages)?;
    let edition = Edition::real(repo);
    let root = stages.run("root", |status| parts.root(cache, &edition, status))?;
    let disk = stages.run("disk image", |status| parts.disk(cache, &root, status))?;
    let bundle = stages.run("bundle", |status| {
        parts.bundle_of_disk(cache, &disk, effort, status)
    })?;
    let ctl = stages.run("keelsonctl", |status| CTL.build(repo, &[], status))?;

    let out = repo.join("out");
    fs::create_dir_all(out.join("bin")).context("cannot make out/bin")?;
    let (raw, pristine) = (out.join(RAW), disk.path().join(RAW));
    publish(&pristine, &raw)?;
    publish(&disk.path().join(SIZES), &out.join(SIZES))?;
    publish(&bundle.path().join(BUNDLE), &out.join(BUNDLE))?;
    publish(&parts.keys.trust_file(), &out.join(TRUST))?;
    let kubernetes = parts
        .components
        .get("kubernetes")
        .context("no component \"kubernetes\"")?;
    publish(&kubernetes.program("kube"), &out.join("bin/kubectl"))?;
    publish(&ctl, &out.join("bin/keelsonctl"))?;
    eprintln!(
        "image {} (build {}) in {}",
        raw.display(),
        root.build_id,
        stages.elapsed()
    );
    Ok(Built {
        parts,
        raw,
        pristine,
    })
}

/// Makes the files that people download: one to flash, one for virtual machines, one for nodes that
/// run already.
pub(crate) fn download(repo: &Path, cache: &Cache) -> anyhow::Result<()> {
    let built = build(repo, cache, Effort::Release)?;
    let mut stages = Stages::new(1);
    let key = Key::stage("download")
        .text("recipe", DOWNLOAD_RECIPE)
        .file("raw", &built.pristine)?
        .finish();
    let entry = stages.run("compress", |status| {
        Ok(cache.get_or_build(key, Check::Contents, status, |folder| {
            status(QCOW2);
            qcow2::convert(&built.pristine, &folder.join(QCOW2)).map_err(io::Error::other)?;
            status(RAW_ZST);
            compress(&built.pristine, &folder.join(RAW_ZST))
        })?)
    })?;
    for name in [RAW_ZST, QCOW2] {
        publish(&entry.path().join(name), &repo.join("out").join(name))?;
    }
    for name in [RAW_ZST, QCOW2, BUNDLE] {
        let target = repo.join("out").join(name);
        let size = fs::metadata(&target)
            .with_context(|| format!("cannot look at {}", target.display()))?
            .len();
        println!("{} {:.1} MiB", target.display(), mebibytes(size));
    }
    Ok(())
}

/// Raised when the compression changes.
const DOWNLOAD_RECIPE: &str = "2";
/// Made once for each release and downloaded many times: a minute of work for a tenth of the size.
const ZSTD_LEVEL: i32 = 19;
/// 128 MiB, the largest window every zstd decodes without being asked: the programs of the image
/// share code that lies far apart.
const ZSTD_WINDOW_LOG: u32 = 27;

fn compress(raw: &Path, target: &Path) -> io::Result<()> {
    let mut encoder = zstd::Encoder::new(fs::File::create(target)?, ZSTD_LEVEL)?;
    encoder.window_log(ZSTD_WINDOW_LOG)?;
    encoder.long_distance_matching(true)?;
    encoder.include_checksum(true)?;
    // The number of threads changes the bytes, so it is fixed.
    encoder.multithread(2)?;
    io::copy(&mut fs::File::open(raw)?, &mut encoder)?;
    encoder.finish()?.sync_all()
}

/// Makes root file system, disk and bundle a second time, in a cache of their own, and compares.
pub(crate) fn compare(repo: &Path, cache: &Cache) -> anyhow::Result<()> {
    let mut stages = Stages::new(parts::STAGES + 6);
    let parts = Parts::gather(repo, cache, &mut stages)?;
    let edition = Edition::real(repo);
    let scratch = cache.scratch("again");
    // What an interrupted run left.
    let _ = fs::remove_dir_all(&scratch);
    let again = Cache::open(&scratch)?;
    let mut hashes = Vec::new();
    for (name, cache) in [("first", cache), ("second", &again)] {
        let root = stages.run(&format!("root, {name}"), |status| {
            parts.root(cache, &edition, status)
        })?;
        let disk = stages.run(&format!("disk, {name}"), |status| {
            parts.disk(cache, &root, status)
        })?;
        let bundle = stages.run(&format!("bundle, {name}"), |status| {
            parts.bundle_of_disk(cache, &disk, Effort::Quick, status)
        })?;
        hashes.push([
            file_sha256(&root.erofs)?,
            file_sha256(&disk.path().join(RAW))?,
            file_sha256(&bundle.path().join(BUNDLE))?,
        ]);
    }
    fs::remove_dir_all(&scratch).context("cannot remove the second build")?;
    let [first, second] = &hashes[..] else {
        bail!("two builds were meant to be made")
    };
    if first != second {
        bail!("the same inputs gave other bytes: root, disk and bundle {first:?}, then {second:?}");
    }
    let [root, disk, bundle] = first;
    println!("built twice, same bytes: root {root} disk {disk} bundle {bundle}");
    Ok(())
}

/// The keys whose builds the image takes, for `keelsonctl image verify`.
const TRUST: &str = "keelson.trust";

/// Puts a file of the cache under `out/`: a sparse copy, for what is there may be changed
/// (a configuration on the ESP) and the cache must not.
pub(crate) fn publish(from: &Path, to: &Path) -> anyhow::Result<()> {
    let same = match (fs::metadata(from), fs::metadata(to)) {
        (Ok(from), Ok(to)) => from.len() == to.len() && from.modified()? <= to.modified()?,
        _ => false,
    };
    if same && marker(to) == Some(from.to_owned()) {
        return Ok(());
    }
    let temporary = to.with_extension("new");
    sparse::copy(from, &temporary)
        .with_context(|| format!("cannot copy {} to out/", from.display()))?;
    // Programs stay programs; the owner may write, for a configuration goes onto the image.
    let mode = fs::metadata(from)?.permissions().mode() | 0o200;
    fs::set_permissions(&temporary, Permissions::from_mode(mode))?;
    fs::rename(&temporary, to).with_context(|| format!("cannot replace {}", to.display()))?;
    fs::write(marker_path(to), from.to_string_lossy().as_bytes()).context("cannot write to out/")
}

fn marker_path(to: &Path) -> PathBuf {
    let name = to.file_name().unwrap_or_default().to_string_lossy();
    to.with_file_name(format!(".{name}.from"))
}

fn marker(to: &Path) -> Option<PathBuf> {
    fs::read_to_string(marker_path(to)).ok().map(PathBuf::from)
}

fn mebibytes(bytes: u64) -> f64 {
    // Exact for every size below 2^32 KiB, and only shown.
    f64::from(u32::try_from(bytes / 1024).unwrap_or(u32::MAX)) / 1024.0
}
