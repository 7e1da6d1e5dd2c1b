//! Bundles written, read back, cut and damaged.

use std::io::Read;
use std::sync::LazyLock;

use keelson_bootstate::signature::{PublicKey, SigningKey, Trust, Untrusted};
use keelson_bootstate::{SlotHeaderFields, SlotPage};
use proptest::prelude::{any, prop_assert, proptest};

use super::*;
use crate::blocks::{Base, BlockError, BlockReader};
use crate::head::{Head, UnverifiedHead, VerifyError};
use crate::index::BlockKind;
use crate::prefix::ReadHeadError;

const BLOCK: u32 = 64 * 1024;

fn release(root: u8) -> ReleaseKey {
    let root = SigningKey::from_seed(&[root; 32]);
    let key = SigningKey::from_seed(&[100; 32]);
    let certificate = root.certify(key.public(), 1);
    ReleaseKey::new(key, certificate).unwrap()
}

fn trust(root: u8) -> Trust {
    let root: PublicKey = SigningKey::from_seed(&[root; 32]).public();
    Trust::new(&[root], 1).unwrap()
}

/// A small system in memory.
struct Small {
    page: SlotPage,
    boot: Vec<u8>,
    root: Vec<u8>,
}

impl Small {
    fn new(version: &str, boot: Vec<u8>, root: Vec<u8>) -> Self {
        let header = SlotHeader::new(SlotHeaderFields {
            payload_len: boot.len() as u64,
            sha256: *Hash::of(&boot).as_bytes(),
            root_len: root.len() as u64,
            root_sha256: *Hash::of(&root).as_bytes(),
            version,
        })
        .unwrap();
        let signature = release(1).sign(Context::SlotHeader, &header.encode());
        let page = SlotPage::new(&header)
            .with_signatures(&[signature])
            .unwrap();
        Self { page, boot, root }
    }

    fn system(&self) -> System<'_> {
        System {
            header: self.page.as_bytes(),
            boot: &self.boot,
            root: &self.root,
        }
    }

    fn base(&self) -> Base<'_> {
        Base {
            boot: &self.boot,
            root: &self.root,
        }
    }

    fn bundle(&self, base: Option<&Self>, keys: &[ReleaseKey]) -> Vec<u8> {
        let mut out = Vec::new();
        let base = base.map(Self::system);
        write(self.system(), base, &recipe(), keys, &mut out).unwrap();
        out
    }
}

fn recipe() -> Recipe {
    Recipe {
        architecture: Architecture::Amd64,
        platform: "amd64".into(),
        components: Default::default(),
        minimum_version: Version::new(0, 1, 0),
        created: "2026-01-01T00:00:00Z".into(),
        block_size: BLOCK,
        level: Level(3),
    }
}

/// Bytes that do not compress and are the same every time.
fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(2).wrapping_add(1);
    (0..len)
        .map(|_| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (state >> 56) as u8
        })
        .collect()
}

/// Boot of 2 blocks, the second not full; root of 5 with zeros in the third.
fn v1() -> Small {
    let mut root = noise(1, 5 * 65536 - 4096);
    root[2 * 65536..3 * 65536].fill(0);
    Small::new("0.1.0", noise(2, 70_000), root)
}

/// The same with a new page in front of all others and one changed bit.
fn v2() -> Small {
    let mut old = v1();
    old.root[4 * 65536] ^= 1;
    let root = [noise(9, 4096), old.root].concat();
    let mut boot = old.boot;
    boot[5] ^= 0x80;
    Small::new("0.2.0", boot, root)
}

fn head(bundle: &[u8]) -> Result<Head, VerifyError> {
    UnverifiedHead::read(&mut &*bundle)
        .unwrap()
        .verify(&trust(1))
}

/// Every block, from where the head says that it is.
fn unpack(bundle: &[u8], base: Option<Base<'_>>) -> Result<(Vec<u8>, Vec<u8>), BlockError> {
    let head = head(bundle).unwrap();
    assert_eq!(head.file_size(), bundle.len() as u64);
    let mut blocks = BlockReader::new(&head);
    let (mut boot, mut root) = (Vec::new(), Vec::new());
    for number in 0..head.blocks().len() {
        let at = usize::try_from(head.position(number).unwrap()).unwrap();
        let stored = blocks.read(number, &mut &bundle[at..])?;
        let part = match stored.block().part() {
            Part::Boot => &mut boot,
            Part::Root => &mut root,
        };
        assert_eq!(stored.block().offset(), part.len() as u64);
        part.extend(stored.unpack(base)?);
    }
    Ok((boot, root))
}

#[test]
fn what_was_written_is_read() {
    let small = v1();
    let bundle = small.bundle(None, &[release(1)]);
    assert!(bundle == small.bundle(None, &[release(1)]), "same bytes");
    let head = head(&bundle).unwrap();
    assert_eq!(head.blocks().len(), 7);
    assert_eq!(head.blocks()[4].kind(), &BlockKind::Zeros);
    assert_eq!(head.manifest().version(), &Version::new(0, 1, 0));
    assert_eq!(head.manifest().build(), head.header().build_id());
    assert_eq!(head.signer().epoch, 1);
    assert!(unpack(&bundle, None).unwrap() == (small.boot, small.root));
}

#[test]
fn a_delta_is_small_and_needs_its_base() {
    let (old, new) = (v1(), v2());
    let delta = new.bundle(Some(&old), &[release(1)]);
    let full = new.bundle(None, &[release(1)]).len();
    assert!(delta.len() * 20 < full, "{} of {full} bytes", delta.len());
    assert!(unpack(&delta, Some(old.base())).unwrap() == (new.boot.clone(), new.root.clone()));
    let base = head(&delta).unwrap().manifest().base();
    assert_eq!(
        base,
        Some(SlotHeader::decode(old.page.as_bytes()).unwrap().build_id())
    );

    assert!(matches!(
        unpack(&delta, None),
        Err(BlockError::NoBase { block: 0 })
    ));
    let wrong = unpack(&delta, Some(new.base())).unwrap_err().to_string();
    assert!(wrong.contains("is this the system"), "{wrong}");
    let short = Base {
        boot: &old.boot,
        root: &old.root[..4096].to_vec(),
    };
    let error = unpack(&delta, Some(short)).unwrap_err();
    assert!(
        matches!(
            error,
            BlockError::Base {
                part: Part::Root,
                ..
            }
        ),
        "{error}"
    );
}

#[test]
fn only_a_signature_that_counts_opens_a_bundle() {
    let small = v1();
    let cases = [
        (vec![], Untrusted::Unsigned),
        (vec![release(2)], Untrusted::UnknownRoot),
    ];
    for (keys, wanted) in cases {
        match head(&small.bundle(None, &keys)) {
            Err(VerifyError::Signature(reason)) => assert_eq!(reason, wanted),
            other => panic!("{other:?}"),
        }
    }
    assert!(head(&small.bundle(None, &[release(2), release(1)])).is_ok());
    // The loader would not start what only the bundle's signature vouches for.
    let mut unsigned = v1();
    let header = SlotHeader::decode(unsigned.page.as_bytes()).unwrap();
    unsigned.page = SlotPage::new(&header);
    let error = head(&unsigned.bundle(None, &[release(1)])).unwrap_err();
    assert!(
        matches!(error, VerifyError::HeaderSignature(Untrusted::Unsigned)),
        "{error}"
    );
}

#[test]
fn what_contradicts_the_slot_header_is_refused() {
    let small = v1();
    let bundle = small.bundle(None, &[release(1)]);
    let resigned = |change: &dyn Fn(&mut Manifest)| {
        let mut from = &bundle[..];
        let mut parts = Parts::read(&mut from).unwrap();
        let mut manifest = Manifest::parse(&parts.manifest).unwrap();
        change(&mut manifest);
        parts.manifest = manifest.encode().unwrap();
        parts.signatures = signatures(&parts.manifest, &[release(1)]);
        head(&parts.encode()).unwrap_err()
    };
    let field = |change: &dyn Fn(&mut Manifest)| match resigned(change) {
        VerifyError::Contradiction { field } => field,
        other => panic!("{other}"),
    };
    assert_eq!(field(&|m| m.version = Version::new(9, 9, 9)), "version");
    assert_eq!(field(&|m| m.build = v2_build()), "build id");
    assert_eq!(field(&|m| m.boot.size += 1), "boot part");
    assert_eq!(field(&|m| m.root.sha256 = Hash::of(b"")), "root part");
    let other_index = resigned(&|m| m.index_hash = Hash::of(b""));
    assert!(
        matches!(other_index, VerifyError::IndexHash),
        "{other_index}"
    );
    let other_blocks = resigned(&|m| m.block_size *= 2);
    assert!(
        matches!(other_blocks, VerifyError::Index(_)),
        "{other_blocks}"
    );
}

fn v2_build() -> keelson_bootstate::BuildId {
    SlotHeader::decode(v2().page.as_bytes()).unwrap().build_id()
}

#[test]
fn other_claims_can_be_signed_for_tests() {
    let bundle = v1().bundle(None, &[release(1)]);
    let mut changed = Vec::new();
    let arm = |claims: &mut Claims| claims.architecture = Architecture::Arm64;
    edit(&bundle[..], &mut changed, arm, &[release(1)]).unwrap();
    assert_eq!(
        head(&changed).unwrap().manifest().architecture(),
        Architecture::Arm64
    );
    assert!(unpack(&changed, None).is_ok());
}

#[test]
fn a_cut_bundle_says_where() {
    let bundle = v1().bundle(None, &[release(1)]);
    let read = |len: usize| {
        UnverifiedHead::read(&mut &bundle[..len])
            .unwrap_err()
            .to_string()
    };
    assert!(read(10).contains("first 24 bytes"), "{}", read(10));
    assert!(read(100).contains("manifest"), "{}", read(100));
    assert!(matches!(
        UnverifiedHead::read(&mut &b"KEELSLOT________________"[..]),
        Err(ReadHeadError::NotABundle)
    ));
    let head = head(&bundle).unwrap();
    let at = usize::try_from(head.position(5).unwrap()).unwrap();
    let mut blocks = BlockReader::new(&head);
    let cut = blocks.read(5, &mut &bundle[at..at + 9]).unwrap_err();
    assert!(matches!(cut, BlockError::Ended { block: 5 }), "{cut}");
    assert!(blocks.read(7, &mut &bundle[..]).is_err());
}

#[test]
fn a_source_that_fails_is_told_from_one_that_ends() {
    struct Broken;
    impl Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::other("the cable"))
        }
    }
    let error = UnverifiedHead::read(&mut Broken).unwrap_err();
    assert!(matches!(error, ReadHeadError::Read { .. }), "{error}");
}

#[test]
fn lengths_are_refused_before_memory_is_taken() {
    for (at, part) in [(12, "manifest"), (16, "list of signatures"), (20, "index")] {
        let mut prefix = v1().bundle(None, &[])[..24].to_vec();
        prefix[at..at + 4].fill(0xff);
        match UnverifiedHead::read(&mut &prefix[..]) {
            Err(ReadHeadError::Length { part: found, .. }) => assert_eq!(found, part),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_part_that_is_not_the_headers_is_not_packed() {
    let mut small = v1();
    small.root[0] ^= 1;
    let error = write(small.system(), None, &recipe(), &[], &mut Vec::new()).unwrap_err();
    assert!(
        matches!(error, WriteError::Part { part: Part::Root }),
        "{error}"
    );
}

proptest! {
    #[test]
    fn no_flipped_bit_gets_through(place in any::<proptest::sample::Index>(), bit in 0u32..8) {
        static BUNDLE: LazyLock<Vec<u8>> = LazyLock::new(|| v1().bundle(None, &[release(1)]));
        let mut bundle = BUNDLE.clone();
        let at = place.index(bundle.len());
        bundle[at] ^= 1 << bit;
        let Ok(unverified) = UnverifiedHead::read(&mut &bundle[..]) else {
            return Ok(());
        };
        let Ok(head) = unverified.verify(&trust(1)) else {
            return Ok(());
        };
        let from = usize::try_from(head.position(0).unwrap()).unwrap();
        prop_assert!(at >= from, "byte {at} of the head was not checked");
        let mut stored = &bundle[from..];
        let mut blocks = BlockReader::new(&head);
        let result = (0..head.blocks().len())
            .try_for_each(|number| blocks.read(number, &mut stored)?.unpack(None).map(drop));
        prop_assert!(result.is_err(), "byte {at} was not checked");
    }
}
