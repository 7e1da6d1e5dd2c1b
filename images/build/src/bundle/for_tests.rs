//! The bundles that suites install, each under its name in `out/bundles`.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use anyhow::Context;
use keelson_cache::Cache;
use keelson_test_bundles::Variant;

use super::{BUNDLE, Effort, Order};
use crate::edition::Edition;
use crate::parts::Parts;
use crate::progress::Stages;

/// Newer than the project's own version, for an upgrade.
const NEXT_VERSION: &str = "0.2.0";
/// Older, for a downgrade.
const OLDER_VERSION: &str = "0.0.1";

/// The file of a system with nothing wrong and a newer version.
pub(crate) const NEXT: &str = "next.keelson";

/// Which of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Which {
    /// `next.keelson`, `next-delta.keelson` against the image, `older.keelson`, and the variants
    /// with the newer version: four minutes of work.
    All,
    /// The first one: what `make test` installs.
    Next,
}

/// Makes all that the cache does not hold and gives their folder.
pub(crate) fn prepare(
    parts: &Parts<'_>,
    cache: &Cache,
    image: &Path,
    which: Which,
) -> anyhow::Result<PathBuf> {
    let folder = parts.repo.join("out/bundles");
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let whole = None;
    let mut wanted = vec![
        ("next".to_owned(), NEXT_VERSION, None, whole),
        ("next-delta".to_owned(), NEXT_VERSION, None, Some(image)),
        ("older".to_owned(), OLDER_VERSION, None, whole),
    ];
    for name in Variant::names(parts.repo)? {
        wanted.push((name.clone(), NEXT_VERSION, Some(name), whole));
    }
    if which == Which::Next {
        wanted.truncate(1);
    }
    let mut stages = Stages::new(wanted.len());
    for (name, version, variant, base) in wanted {
        let edition = Edition::of(parts.repo, Some(version), variant.as_deref())?;
        let entry = stages.run(&name, |status| {
            let root = parts.root(cache, &edition, status)?;
            let order = Order {
                effort: Effort::Quick,
                base,
            };
            parts.bundle(cache, &root, &edition, order, status)
        })?;
        // Suites only read them: a copy of each would be another gigabyte.
        let link = folder.join(format!("{name}.keelson"));
        let _ = fs::remove_file(&link);
        symlink(entry.path().join(BUNDLE), &link)
            .with_context(|| format!("cannot make {}", link.display()))?;
    }
    Ok(folder)
}
