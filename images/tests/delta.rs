//! What a delta costs: bytes to move, memory and time to unpack it. Two root file systems (erofs)
//! are named in KEELSON_DELTA_OLD and KEELSON_DELTA_NEW; without them the test says that it was left
//! out. Any two entries `rootfs-*` of the build cache will do.

#![allow(clippy::unwrap_used, reason = "a test may stop at the first surprise")]

use std::fs::{self, File};
use std::io::{BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use keelson_bootstate::signature::{Context, ReleaseKey, SigningKey, Trust};
use keelson_bootstate::{SlotHeader, SlotHeaderFields, SlotPage};
use keelson_bundle::writer::{Level, Recipe, System, write};
use keelson_bundle::{Architecture, Base, BlockKind, BlockReader, Hash, Part, UnverifiedHead};
use keelson_images::verity;

const MIB: u64 = 1024 * 1024;

fn root_key() -> SigningKey {
    SigningKey::from_seed(&[1; 32])
}

fn keys() -> [ReleaseKey; 1] {
    let key = SigningKey::from_seed(&[2; 32]);
    let certificate = root_key().certify(key.public(), 1);
    [ReleaseKey::new(key, certificate).unwrap()]
}

/// A system whose boot part hardly matters.
struct Sealed {
    page: SlotPage,
    boot: Vec<u8>,
    root: File,
    size: u64,
}

impl Sealed {
    fn new(filesystem: &Path, image: &Path, version: &str) -> Self {
        let sealed = verity::seal(filesystem, image).unwrap();
        let boot = format!("root hash {}\n", sealed.root_hash)
            .repeat(100_000)
            .into_bytes();
        let header = SlotHeader::new(SlotHeaderFields {
            payload_len: boot.len() as u64,
            sha256: *Hash::of(&boot).as_bytes(),
            root_len: sealed.size,
            root_sha256: *sealed.sha256.as_bytes(),
            version,
        })
        .unwrap();
        let [key] = keys();
        let signature = key.sign(Context::SlotHeader, &header.encode());
        Self {
            page: SlotPage::new(&header)
                .with_signatures(&[signature])
                .unwrap(),
            size: boot.len() as u64 + sealed.size,
            boot,
            root: File::open(image).unwrap(),
        }
    }

    fn system(&self) -> System<'_> {
        System {
            header: self.page.as_bytes(),
            boot: &self.boot,
            root: &self.root,
        }
    }

    fn bundle(&self, base: Option<&Self>, level: Level, path: &Path) -> (u64, Duration) {
        let recipe = Recipe {
            architecture: Architecture::Amd64,
            platform: "amd64".into(),
            minimum_version: "0.1.0".parse().unwrap(),
            components: Default::default(),
            created: "2026-01-01T00:00:00Z".into(),
            block_size: 4 * 1024 * 1024,
            level,
        };
        let started = Instant::now();
        let mut file = File::create(path).unwrap();
        let base = base.map(Self::system);
        write(self.system(), base, &recipe, &keys(), &mut file).unwrap();
        (fs::metadata(path).unwrap().len(), started.elapsed())
    }
}

#[test]
fn a_delta_is_small_and_unpacks_in_little_memory() {
    let file = |name| std::env::var_os(name).map(PathBuf::from);
    if let Some(folder) = file(UNPACK) {
        return unpack(&folder);
    }
    let (Some(old), Some(new)) = (file("KEELSON_DELTA_OLD"), file("KEELSON_DELTA_NEW")) else {
        eprintln!("delta: LEFT OUT, KEELSON_DELTA_OLD and KEELSON_DELTA_NEW are not set");
        return;
    };
    let folder = tempfile::tempdir_in(old.parent().unwrap()).unwrap();
    let at = |name: &str| folder.path().join(name);
    let old = Sealed::new(&old, &at("old"), "0.1.0");
    let new = Sealed::new(&new, &at("new"), "0.2.0");

    let (full, full_took) = new.bundle(None, Level(3), &at("full.keelson"));
    let (delta, delta_took) = new.bundle(Some(&old), Level(19), &at("delta.keelson"));
    println!("system   {} MiB", new.size / MIB);
    println!("full     {full} bytes in {full_took:.1?}");
    println!(
        "delta    {delta} bytes in {delta_took:.1?}: {:.2} % of the system, {:.2} % of the full bundle",
        percent(delta, new.size),
        percent(delta, full)
    );
    fs::write(at("boot"), &old.boot).unwrap();
    for name in ["full.keelson", "delta.keelson"] {
        // In a process of its own: what this one has freed would hide what is taken.
        fs::rename(at(name), at("bundle")).unwrap();
        let status = Command::new(std::env::current_exe().unwrap())
            .args(["--nocapture", "--quiet"])
            .env(UNPACK, folder.path())
            .status()
            .unwrap();
        assert!(status.success(), "{name}: {status}");
    }
    assert!(
        percent(delta, new.size) <= 2.0,
        "{delta} bytes of {}",
        new.size
    );
}

/// Names the folder with `bundle`, `old` and `boot` to the process that unpacks.
const UNPACK: &str = "KEELSON_DELTA_UNPACK";

/// Writes the root part and compares; memory is what the process takes more than before.
fn unpack(folder: &Path) {
    let trust = Trust::new(&[root_key().public()], 1).unwrap();
    let open = |name: &str| File::open(folder.join(name)).unwrap();
    let (boot, root) = (open("boot"), open("old"));
    let base = Base {
        boot: &boot,
        root: &root,
    };
    let mut out = File::create(folder.join("unpacked")).unwrap();
    let before = memory("VmRSS");
    let started = Instant::now();
    let mut from = BufReader::new(open("bundle"));
    let head = UnverifiedHead::read(&mut from)
        .unwrap()
        .verify(&trust)
        .unwrap();
    let mut blocks = BlockReader::new(&head);
    let mut read = 0;
    for number in 0..head.blocks().len() {
        let stored = blocks.read(number, &mut from).unwrap();
        let part = stored.block().part();
        if let BlockKind::ZstdWithBase(range) = stored.block().kind() {
            read += range.end - range.start;
        }
        let plain = stored.unpack(Some(base)).unwrap();
        if part == Part::Root {
            out.write_all(plain).unwrap();
        }
    }
    let took = started.elapsed();
    let peak = memory("VmHWM") - before;
    let kind = head.manifest().base().map_or("full", |_| "delta");
    println!(
        "unpack   {kind} in {took:.1?}, {} MiB of memory, {} MiB of the base read",
        peak / MIB,
        read / MIB
    );
    assert!(peak < 64 * MIB, "{peak} bytes");
    let hash = keelson_images::digest::Sha256Digest::of_file(&folder.join("unpacked")).unwrap();
    assert_eq!(hash.as_bytes(), head.header().root_sha256());
}

fn memory(field: &str) -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with(field)).unwrap();
    let kib: u64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    kib * 1024
}

fn percent(part: u64, whole: u64) -> f64 {
    let per_myriad = part.saturating_mul(10_000) / whole;
    f64::from(u32::try_from(per_myriad).unwrap_or(u32::MAX)) / 100.0
}
