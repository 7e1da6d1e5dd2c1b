//! Every damage is seen, for the reason it stands for.

use keelson_bootstate::signature::{Context, Trust, Untrusted};
use keelson_bootstate::{SlotHeader, SlotHeaderFields, SlotPage};
use keelson_bundle::writer::{Level, Recipe, System, write};
use keelson_bundle::{BlockError, BlockReader, VerifyError};
use sha2::{Digest, Sha256};

use super::*;

fn root() -> SigningKey {
    SigningKey::from_seed(&[1; 32])
}

fn keys() -> Vec<ReleaseKey> {
    let key = SigningKey::from_seed(&[2; 32]);
    let certificate = root().certify(key.public(), 1);
    ReleaseKey::new(key, certificate).into_iter().collect()
}

fn bundle(path: &Path) {
    let noise = |seed: u8| -> Vec<u8> {
        (0..300_000u32)
            .map(|n| Sha256::digest([n.to_le_bytes(), [seed; 4]].concat())[0])
            .take(200 * 1024)
            .collect()
    };
    let (boot, root) = (noise(1), noise(2));
    let header = SlotHeader::new(SlotHeaderFields {
        payload_len: boot.len() as u64,
        sha256: Sha256::digest(&boot).into(),
        root_len: root.len() as u64,
        root_sha256: Sha256::digest(&root).into(),
        version: "0.2.0",
    })
    .unwrap();
    let signature = keys()[0].sign(Context::SlotHeader, &header.encode());
    let page = SlotPage::new(&header)
        .with_signatures(&[signature])
        .unwrap();
    let system = System {
        header: page.as_bytes(),
        boot: &boot,
        root: &root,
    };
    let recipe = Recipe {
        architecture: Architecture::Amd64,
        platform: "amd64".into(),
        components: Default::default(),
        minimum_version: semver::Version::new(0, 1, 0),
        created: "2026-01-01T00:00:00Z".into(),
        block_size: 64 * 1024,
        level: Level(1),
    };
    let mut file = File::create(path).unwrap();
    write(system, None, &recipe, &keys(), &mut file).unwrap();
}

/// What is wrong with it: its head, or the first block that cannot be had.
fn wrong(path: &Path) -> Result<Architecture, (Option<VerifyError>, Option<BlockError>)> {
    let trust = Trust::new(&[root().public()], 1).unwrap();
    let mut file = File::open(path).unwrap();
    let head = UnverifiedHead::read(&mut file)
        .unwrap()
        .verify(&trust)
        .map_err(|error| (Some(error), None))?;
    let mut blocks = BlockReader::new(&head);
    for number in 0..head.blocks().len() {
        blocks
            .read(number, &mut file)
            .and_then(|stored| stored.unpack(None).map(drop))
            .map_err(|error| (None, Some(error)))?;
    }
    Ok(head.manifest().architecture())
}

#[test]
fn each_is_refused_for_its_own_reason() {
    let folder = tempfile::tempdir().unwrap();
    let (good, bad) = (folder.path().join("good"), folder.path().join("bad"));
    bundle(&good);
    assert_eq!(wrong(&good).unwrap(), Architecture::Amd64);
    for (name, damage) in Damage::ALL {
        assert_eq!(name.parse(), Ok(damage));
        damage.apply(&good, &bad, &keys()).unwrap();
        let found = wrong(&bad);
        let expected = match damage {
            Damage::FlipBoot => matches!(found, Err((_, Some(BlockError::Damaged { block: 0 })))),
            Damage::FlipRoot => matches!(found, Err((_, Some(BlockError::Damaged { block: 7 })))),
            Damage::ForeignKey => matches!(
                found,
                Err((Some(VerifyError::Signature(Untrusted::UnknownRoot)), _))
            ),
            Damage::NoSignature => matches!(
                found,
                Err((Some(VerifyError::Signature(Untrusted::Unsigned)), _))
            ),
            Damage::Truncated => matches!(found, Err((_, Some(BlockError::Ended { .. })))),
            Damage::WrongArchitecture => found.as_ref().is_ok_and(|it| *it == Architecture::Arm64),
        };
        assert!(expected, "{name}: {found:?}");
    }
    assert!("x".parse::<Damage>().is_err());
}
