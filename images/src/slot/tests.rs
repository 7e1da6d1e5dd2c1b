//! Builds sealed, put on a disk, found again, and packed into a bundle.

use keelson_bootstate::signature::{SigningKey, Trust};
use keelson_bootstate::{GRUB_HASHES_OFFSET, GRUB_SCRIPT_OFFSET};
use keelson_bundle::writer::{Level, Recipe, write};
use keelson_bundle::{Architecture, BlockReader, Part, UnverifiedHead};

use super::*;
use crate::disk::DiskSpec;
use crate::platform::tests::AMD64;
use crate::uki::tests::{sample, tiny_efi};
use crate::verity;

/// A unified kernel image with this command line.
pub(crate) fn uki(command_line: &str) -> Vec<u8> {
    let program = tiny_efi(0x2000);
    let mut uki = sample(&program, &program);
    uki.command_line = command_line;
    uki.assemble().unwrap()
}

fn root_key() -> SigningKey {
    SigningKey::from_seed(&[1; 32])
}

/// A build signed by a fixed key.
pub(crate) fn build(
    platform: &Platform,
    payload: &[u8],
    root: &Path,
    sealed: &Sealed,
) -> Result<Build, SealBuildError> {
    let key = SigningKey::from_seed(&[2; 32]);
    let certificate = root_key().certify(key.public(), 1);
    BuildSpec {
        platform,
        payload,
        root,
        sealed,
        version: "0.2.0",
        keys: &[ReleaseKey::new(key, certificate).unwrap()],
    }
    .seal()
}

struct Parts {
    folder: tempfile::TempDir,
    platform: Platform,
    sealed: Sealed,
}

impl Parts {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (fs, root) = (folder.path().join("fs"), folder.path().join("root"));
        std::fs::write(&fs, b"file system").unwrap();
        Self {
            sealed: verity::seal(&fs, &root).unwrap(),
            platform: serde_saphyr::from_str(AMD64).unwrap(),
            folder,
        }
    }

    fn root(&self) -> PathBuf {
        self.folder.path().join("root")
    }

    fn build(&self, payload: &[u8]) -> Result<Build, SealBuildError> {
        build(&self.platform, payload, &self.root(), &self.sealed)
    }
}

#[test]
fn the_page_is_signed_and_has_what_grub_needs() {
    let build = Parts::new().build(&uki("quiet")).unwrap();
    let page = build.page().as_bytes();
    let trust = Trust::new(&[root_key().public()], 1).unwrap();
    let signatures = SlotPage::signatures(page);
    assert!(
        trust
            .check(Context::SlotHeader, &page[..128], signatures)
            .is_ok()
    );
    let hashes = String::from_utf8_lossy(&page[GRUB_HASHES_OFFSET..GRUB_SCRIPT_OFFSET]);
    assert!(hashes.contains("5+3"), "{hashes}");
    let script = String::from_utf8_lossy(&page[GRUB_SCRIPT_OFFSET..]);
    assert!(script.contains(" quiet"), "{script}");
}

#[test]
fn what_does_not_fit_a_slot_is_refused() {
    let mut parts = Parts::new();
    let refused = |parts: &Parts, payload: &[u8]| parts.build(payload).unwrap_err();
    assert!(matches!(
        refused(&parts, b""),
        SealBuildError::Header(HeaderError::PayloadLength(0))
    ));
    let too_long = vec![0; 64 * 1024 * 1024 - 4095];
    assert!(matches!(
        refused(&parts, &too_long),
        SealBuildError::Header(HeaderError::PayloadLength(_))
    ));
    assert!(matches!(
        refused(&parts, b"no program"),
        SealBuildError::Script(_)
    ));
    parts.sealed.size = 512 * 1024 * 1024 + 4096;
    assert!(matches!(
        refused(&parts, &uki("quiet")),
        SealBuildError::Header(HeaderError::RootLength(_))
    ));
}

#[test]
fn what_is_on_a_disk_is_what_goes_into_a_bundle() {
    let parts = Parts::new();
    let build = parts.build(&uki("quiet")).unwrap();
    let image = parts.folder.path().join("disk.img");
    let spec = DiskSpec {
        platform: &parts.platform,
        loader: b"loader program",
        build: &build,
    };
    spec.plan().unwrap().write_raw(&image).unwrap();

    let installed = InstalledBuild::open(&image, Slot::A).unwrap();
    assert_eq!(installed.header(), build.header());
    let error = InstalledBuild::open(&image, Slot::B).unwrap_err();
    let blank = matches!(
        error,
        ReadBuildError::Header {
            source: HeaderError::Blank,
            ..
        }
    );
    assert!(blank, "{error}");

    let recipe = Recipe {
        architecture: Architecture::Amd64,
        platform: "amd64".into(),
        components: Default::default(),
        minimum_version: semver::Version::new(0, 1, 0),
        created: "2026-01-01T00:00:00Z".into(),
        block_size: 64 * 1024,
        level: Level(1),
    };
    let key = SigningKey::from_seed(&[2; 32]);
    let certificate = root_key().certify(key.public(), 1);
    let keys = [ReleaseKey::new(key, certificate).unwrap()];
    let mut bundle = Vec::new();
    write(installed.system(), None, &recipe, &keys, &mut bundle).unwrap();

    let mut from = &bundle[..];
    let trust = Trust::new(&[root_key().public()], 1).unwrap();
    let head = UnverifiedHead::read(&mut from)
        .unwrap()
        .verify(&trust)
        .unwrap();
    assert_eq!(head.manifest().header(), build.page().as_bytes());
    let mut blocks = BlockReader::new(&head);
    let (mut boot, mut root) = (Vec::<u8>::new(), Vec::<u8>::new());
    for number in 0..head.blocks().len() {
        let stored = blocks.read(number, &mut from).unwrap();
        match stored.block().part() {
            Part::Boot => boot.extend(stored.unpack(None).unwrap()),
            Part::Root => root.extend(stored.unpack(None).unwrap()),
        }
    }
    assert!(boot == build.payload());
    assert!(root == std::fs::read(parts.root()).unwrap());
    assert!(from.is_empty());
}

#[test]
fn a_file_that_is_no_image_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.img");
    std::fs::write(&path, b"QFI\xfb").unwrap();
    assert!(matches!(
        InstalledBuild::open(&path, Slot::A),
        Err(ReadBuildError::Table(_))
    ));
}
