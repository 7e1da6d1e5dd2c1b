//! The cache as a build uses it: wrong entries are noticed, interrupted builds leave nothing behind.
// Helpers outside of #[test] functions unwrap as the tests do.
#![allow(clippy::unwrap_used)]

use std::cell::{Cell, RefCell};
use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use keelson_cache::{Cache, Check, CleanError, Entry, GetError, Key, Scope};

/// A cache in a temporary folder, counting how often its one stage was built.
struct Bench {
    folder: tempfile::TempDir,
    cache: Cache,
    builds: Cell<u32>,
    said: RefCell<Vec<String>>,
}

impl Bench {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::open(&folder.path().join("cache")).unwrap();
        Self {
            folder,
            cache,
            builds: Cell::new(0),
            said: RefCell::default(),
        }
    }

    fn get(&self, check: Check) -> Entry {
        let progress = |line: &str| self.said.borrow_mut().push(line.to_owned());
        let key = Key::stage("demo").text("version", "1").finish();
        let result = self.cache.get_or_build(key, check, &progress, |folder| {
            self.builds.set(self.builds.get() + 1);
            fill(folder)
        });
        result.unwrap()
    }

    /// Spoils an entry, gets it again, and expects it to be noticed, said and repaired.
    fn expect_rebuilt(check: Check, said: &str, spoil: impl FnOnce(&Path)) {
        let bench = Self::new();
        let entry = bench.get(check);
        assert_eq!(bench.get(check).path(), entry.path());
        assert_eq!(bench.builds.get(), 1, "a right entry is used as it is");
        spoil(entry.path());
        let again = bench.get(check);
        assert_eq!(bench.builds.get(), 2, "a wrong entry is built again");
        assert_eq!(fs::read(again.path().join("bin/tool")).unwrap(), b"content");
        let lines = bench.said.borrow();
        assert!(lines.iter().any(|line| line.contains(said)), "{lines:?}");
    }
}

fn fill(folder: &Path) -> io::Result<()> {
    fs::create_dir(folder.join("bin"))?;
    fs::write(folder.join("bin/tool"), "content")?;
    fs::set_permissions(folder.join("bin/tool"), fs::Permissions::from_mode(0o755))?;
    symlink("tool", folder.join("bin/alias"))
}

#[test]
fn a_flipped_byte_is_noticed_even_when_the_time_stamp_is_kept() {
    Bench::expect_rebuilt(Check::Contents, "bin/tool has changed", |tree| {
        let path = tree.join("bin/tool");
        let modified = fs::metadata(&path).unwrap().modified().unwrap();
        fs::write(&path, "cOntent").unwrap();
        let file = fs::File::options().write(true).open(&path).unwrap();
        file.set_modified(modified).unwrap();
    });
}

#[test]
fn a_flipped_byte_is_noticed_by_its_time_stamp() {
    Bench::expect_rebuilt(Check::Stamps, "bin/tool has changed", |tree| {
        fs::write(tree.join("bin/tool"), "cOntent").unwrap();
    });
}

#[test]
fn a_truncated_file_is_noticed() {
    for check in [Check::Contents, Check::Stamps] {
        Bench::expect_rebuilt(check, "bin/tool has changed", |tree| {
            fs::write(tree.join("bin/tool"), "cont").unwrap();
        });
    }
}

#[test]
fn missing_added_and_redirected_names_are_noticed() {
    Bench::expect_rebuilt(Check::Contents, "bin/tool is missing", |tree| {
        fs::remove_file(tree.join("bin/tool")).unwrap();
    });
    Bench::expect_rebuilt(Check::Contents, "bin/other does not belong there", |tree| {
        fs::write(tree.join("bin/other"), "").unwrap();
    });
    Bench::expect_rebuilt(Check::Contents, "bin/alias has changed", |tree| {
        fs::remove_file(tree.join("bin/alias")).unwrap();
        symlink("elsewhere", tree.join("bin/alias")).unwrap();
    });
    Bench::expect_rebuilt(Check::Stamps, "bin/tool has changed", |tree| {
        let mode = fs::Permissions::from_mode(0o644);
        fs::set_permissions(tree.join("bin/tool"), mode).unwrap();
    });
}

#[test]
fn a_half_written_or_missing_manifest_is_noticed() {
    let manifest = |tree: &Path| tree.with_file_name("manifest.json");
    Bench::expect_rebuilt(Check::Contents, "never finished", |tree| {
        fs::remove_file(manifest(tree)).unwrap();
    });
    Bench::expect_rebuilt(Check::Contents, "manifest is damaged", |tree| {
        let text = fs::read(manifest(tree)).unwrap();
        fs::write(manifest(tree), &text[..text.len() / 2]).unwrap();
    });
    Bench::expect_rebuilt(Check::Contents, "other inputs", |tree| {
        let text = fs::read_to_string(manifest(tree)).unwrap();
        fs::write(
            manifest(tree),
            text.replacen("\"key\":\"", "\"key\":\"0", 1),
        )
        .unwrap();
    });
}

#[test]
fn what_an_interrupted_build_left_is_removed() {
    let bench = Bench::new();
    let entry = bench.get(Check::Contents);
    let name = entry.key().to_string();
    fs::remove_dir_all(entry.path().parent().unwrap()).unwrap();
    let leftover = bench
        .folder
        .path()
        .join("cache/tmp")
        .join(format!("{name}.1"));
    fs::create_dir_all(leftover.join("tree/half")).unwrap();
    bench.get(Check::Contents);
    assert!(!leftover.exists());
    assert!(
        bench
            .said
            .borrow()
            .iter()
            .any(|line| line.contains("interrupted"))
    );
}

#[test]
fn a_failed_build_leaves_nothing_and_reports_its_cause() {
    let bench = Bench::new();
    let key = Key::stage("demo").finish();
    let result = bench
        .cache
        .get_or_build(key, Check::Contents, &|_| (), |folder| {
            fill(folder)?;
            Err(io::Error::other("out of luck"))
        });
    let Err(GetError::Build { source, .. }) = result else {
        panic!("expected the build's own error: {result:?}");
    };
    assert_eq!(source.to_string(), "out of luck");
    for folder in ["entries", "tmp"] {
        let path = bench.folder.path().join("cache").join(folder);
        assert_eq!(fs::read_dir(path).unwrap().count(), 0, "{folder}");
    }
}

#[test]
fn two_builds_at_once_build_once() {
    let folder = tempfile::tempdir().unwrap();
    let builds = AtomicU32::new(0);
    let run = || -> PathBuf {
        let cache = Cache::open(folder.path()).unwrap();
        let key = Key::stage("demo").finish();
        let entry = cache.get_or_build(key, Check::Contents, &|_| (), |tree| {
            builds.fetch_add(1, Ordering::SeqCst);
            // Long enough for the other thread to come to the lock.
            thread::sleep(Duration::from_millis(300));
            fill(tree)
        });
        entry.unwrap().path().to_owned()
    };
    thread::scope(|scope| {
        let other = scope.spawn(run);
        assert_eq!(run(), other.join().unwrap());
    });
    assert_eq!(builds.load(Ordering::SeqCst), 1);
}

#[test]
fn clean_removes_entries_and_says_what_but_keeps_downloads() {
    let bench = Bench::new();
    let entry = bench.get(Check::Contents);
    let downloads = bench.cache.folder("downloads").unwrap();
    fs::write(downloads.join("kept"), "x").unwrap();
    let said = RefCell::new(Vec::new());
    let progress = |line: &str| said.borrow_mut().push(line.to_owned());
    let freed = bench.cache.clean(Scope::Entries, &progress).unwrap();
    assert!(freed > 0);
    assert!(!entry.path().exists());
    assert!(downloads.join("kept").exists());
    let name = entry.key().to_string();
    assert!(said.borrow().iter().any(|line| line.contains(&name)));
    bench.cache.clean(Scope::Everything, &progress).unwrap();
    assert!(!bench.cache.root().exists());
}

#[test]
fn a_folder_without_our_mark_is_never_emptied() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("CACHEDIR.TAG"), "somebody else's").unwrap();
    fs::write(folder.path().join("thesis"), "x").unwrap();
    let cache = Cache::open(folder.path()).unwrap();
    let result = cache.clean(Scope::Everything, &|_| ());
    assert!(matches!(result, Err(CleanError::NotOurs { .. })));
    assert!(folder.path().join("thesis").exists());
}
