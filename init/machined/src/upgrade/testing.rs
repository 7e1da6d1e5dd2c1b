//! What the tests of upgrades share: keys, small systems, bundles of them, disks that fail.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex};

use keelson_bootstate::layout::Partition;
use keelson_bootstate::signature::{Context, ReleaseKey, SigningKey, Trust};
use keelson_bootstate::{BuildId, Slot, SlotHeader, SlotHeaderFields, SlotPage, plan};
use keelson_bundle::writer::{Level, Recipe, System as Parts, write};
use keelson_bundle::{Architecture, Hash, Head, UnverifiedHead};

use super::disk::{Devices, Disk};
use super::steps;
use super::system::tests::system;

/// Plain bytes of a block.
const BLOCK: u32 = 64 * 1024;

pub(super) fn release_key() -> ReleaseKey {
    let root = SigningKey::from_seed(&[1; 32]);
    let key = SigningKey::from_seed(&[2; 32]);
    let certificate = root.certify(key.public(), 1);
    ReleaseKey::new(key, certificate).unwrap()
}

pub(super) fn trust() -> Trust {
    let root = SigningKey::from_seed(&[1; 32]);
    Trust::new(&[root.public()], 1).unwrap()
}

/// A system that fits a slot of a megabyte.
#[derive(Clone)]
pub(super) struct Small {
    pub(super) page: SlotPage,
    pub(super) boot: Vec<u8>,
    pub(super) root: Vec<u8>,
}

impl Small {
    /// Its bytes follow from its version; boot has two blocks, root five, the third of zeros.
    pub(super) fn new(version: &str) -> Self {
        Self::signed_by(version, &release_key())
    }

    pub(super) fn signed_by(version: &str, key: &ReleaseKey) -> Self {
        let seed = version.bytes().map(u64::from).sum();
        let boot = noise(seed, 70_000);
        let mut root = noise(7, 5 * 65_536 - 4096);
        root[..4096].copy_from_slice(&noise(seed + 1, 4096));
        root[2 * 65_536..3 * 65_536].fill(0);
        let header = SlotHeader::new(SlotHeaderFields {
            payload_len: boot.len() as u64,
            sha256: *Hash::of(&boot).as_bytes(),
            root_len: root.len() as u64,
            root_sha256: *Hash::of(&root).as_bytes(),
            version,
        })
        .unwrap();
        let signature = key.sign(Context::SlotHeader, &header.encode());
        let page = SlotPage::new(&header)
            .with_signatures(&[signature])
            .unwrap();
        Self { page, boot, root }
    }

    pub(super) fn build(&self) -> BuildId {
        SlotHeader::decode(self.page.as_bytes()).unwrap().build_id()
    }

    fn parts(&self) -> Parts<'_> {
        Parts {
            header: self.page.as_bytes(),
            boot: &self.boot,
            root: &self.root,
        }
    }

    /// A bundle with it, a delta where there is a base.
    pub(super) fn bundle(&self, base: Option<&Self>) -> Vec<u8> {
        let recipe = Recipe {
            architecture: Architecture::Amd64,
            platform: "amd64".into(),
            components: system("0.0.0").components,
            minimum_version: semver::Version::new(0, 1, 0),
            created: "2026-01-01T00:00:00Z".into(),
            block_size: BLOCK,
            level: Level(1),
        };
        self.bundle_by(base, &recipe)
    }

    pub(super) fn bundle_with(&self, components: &[(&str, &str)]) -> Vec<u8> {
        let mut all = system("0.0.0").components;
        all.extend(
            components
                .iter()
                .map(|(name, version)| ((*name).to_owned(), (*version).to_owned())),
        );
        let recipe = Recipe {
            architecture: Architecture::Amd64,
            platform: "amd64".into(),
            components: all,
            minimum_version: semver::Version::new(0, 1, 0),
            created: "2026-01-01T00:00:00Z".into(),
            block_size: BLOCK,
            level: Level(1),
        };
        self.bundle_by(None, &recipe)
    }

    fn bundle_by(&self, base: Option<&Self>, recipe: &Recipe) -> Vec<u8> {
        let mut bundle = Vec::new();
        let base = base.map(Self::parts);
        write(self.parts(), base, recipe, &[release_key()], &mut bundle).unwrap();
        bundle
    }

    /// Puts it into a slot, as the imager does.
    pub(super) fn put(&self, disk: &dyn Disk, slot: Slot) {
        disk.write(Partition::boot(slot), self.page.as_bytes(), 0)
            .unwrap();
        disk.write(Partition::boot(slot), &self.boot, 4096).unwrap();
        disk.write(Partition::root(slot), &self.root, 0).unwrap();
    }

    /// Whether a slot holds it, to the last byte.
    pub(super) fn is_in(&self, disk: &dyn Disk, slot: Slot) -> bool {
        let read = |partition, offset, length| {
            let mut bytes = vec![0; length];
            disk.read(partition, &mut bytes, offset).unwrap();
            bytes
        };
        read(Partition::boot(slot), 0, 4096) == self.page.as_bytes()
            && read(Partition::boot(slot), 4096, self.boot.len()) == self.boot
            && read(Partition::root(slot), 0, self.root.len()) == self.root
    }
}

/// Bytes that do not compress and are the same every time.
fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(2).wrapping_add(1);
    (0..length)
        .map(|_| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (state >> 56) as u8
        })
        .collect()
}

/// Head and blocks of a bundle.
pub(super) fn taken_apart(bundle: &[u8]) -> (Vec<u8>, Head, Vec<Vec<u8>>) {
    let head = UnverifiedHead::read(&mut &*bundle)
        .unwrap()
        .verify(&trust())
        .unwrap();
    let at = |block| usize::try_from(head.position(block).unwrap()).unwrap();
    let blocks = (0..head.blocks().len())
        .map(|block| bundle[at(block)..at(block + 1)].to_vec())
        .collect();
    let bytes = bundle[..at(0)].to_vec();
    (bytes, head, blocks)
}

/// A disk with a system in slot A, as the imager leaves it.
pub(super) fn disk(folder: &Path, running: &Small) -> Devices {
    let disk = super::disk::tests::partitions(folder);
    running.put(&disk, Slot::A);
    let texts = steps::texts(&disk).unwrap();
    let rebuilt = plan::rebuild(Slot::A, Some(running.build()), [&texts[0], &texts[1]]);
    steps::execute(&disk, rebuilt).unwrap();
    let tries = keelson_bootstate::Tries::FRESH;
    disk.write(Partition::Tries, &tries.encode(), 0).unwrap();
    let block = keelson_bootstate::grub_env::encode_tries(tries);
    disk.write(Partition::GrubEnv, &block, 2048).unwrap();
    disk
}

/// A disk that notes what is done to it, and fails when it is told to.
pub(super) struct Faulty {
    disk: Devices,
    log: Mutex<Vec<String>>,
    /// The operation that fails, counted from 0.
    fails_at: Mutex<Option<usize>>,
    /// Bytes that come back changed, by partition and place.
    flips: Mutex<BTreeMap<Partition, u64>>,
}

impl Faulty {
    pub(super) fn new(disk: Devices) -> Arc<Self> {
        Arc::new(Self {
            disk,
            log: Mutex::default(),
            fails_at: Mutex::default(),
            flips: Mutex::default(),
        })
    }

    /// Everything so far, writes and flushes only.
    pub(super) fn log(&self) -> Vec<String> {
        self.log.lock().unwrap().clone()
    }

    pub(super) fn fail_at(&self, operation: usize) {
        self.log.lock().unwrap().clear();
        *self.fails_at.lock().unwrap() = Some(operation);
    }

    pub(super) fn heal(&self) {
        *self.fails_at.lock().unwrap() = None;
        self.flips.lock().unwrap().clear();
    }

    /// From now on a byte comes back changed.
    pub(super) fn flip(&self, partition: Partition, at: u64) {
        self.flips.lock().unwrap().insert(partition, at);
    }

    fn note(&self, what: String) -> io::Result<()> {
        let mut log = self.log.lock().unwrap();
        let fails = *self.fails_at.lock().unwrap() == Some(log.len());
        log.push(what);
        if fails {
            return Err(io::Error::other("the disk is broken"));
        }
        Ok(())
    }
}

impl Disk for Faulty {
    fn size(&self, partition: Partition) -> io::Result<u64> {
        self.disk.size(partition)
    }

    fn read(&self, partition: Partition, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.disk.read(partition, buffer, offset)?;
        if let Some(at) = self.flips.lock().unwrap().get(&partition)
            && let Some(place) = at.checked_sub(offset)
            && let Some(byte) = buffer.get_mut(usize::try_from(place).unwrap())
        {
            *byte ^= 1;
        }
        Ok(())
    }

    fn write(&self, partition: Partition, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.note(format!(
            "write {} {offset}+{}",
            partition.name(),
            bytes.len()
        ))?;
        self.disk.write(partition, bytes, offset)
    }

    fn flush(&self, partition: Partition) -> io::Result<()> {
        self.note(format!("flush {}", partition.name()))?;
        self.disk.flush(partition)
    }

    fn forget(&self, partition: Partition, offset: u64, length: u64) {
        self.disk.forget(partition, offset, length);
    }
}
