//! Update bundles as a node reads them: what nobody signed is refused, and what was signed is
//! bounded, whatever it says.

use std::process::ExitCode;
use std::sync::LazyLock;

use keelson_bootstate::signature::{Context, ReleaseKey, SigningKey, Trust};
use keelson_bootstate::{SlotHeader, SlotHeaderFields, SlotPage};
use keelson_bundle::writer::{Level, Recipe, System, sign_again, write};
use keelson_bundle::{
    Architecture, Base, BlockReader, DECODER_MEMORY, Hash, Head, Part, UnverifiedHead,
};
use keelson_fuzz_engine::Target;

fn main() -> ExitCode {
    keelson_fuzz_engine::main(Target {
        run,
        seeds,
        longest: 64 * 1024,
    })
}

/// Bytes as they are, or signed after they were turned around: chance would never get past a
/// signature, but whoever has a key may make mistakes too.
fn run(bytes: &[u8]) {
    match keelson_fuzz::choose(bytes, 2) {
        (0, rest) => unsigned(rest),
        (_, rest) => signed(rest),
    }
}

fn unsigned(bytes: &[u8]) {
    let Ok(head) = UnverifiedHead::read(&mut &*bytes) else {
        return;
    };
    let _ = format!("{:?} {:?}", head.claims(), head.signatures().count());
    assert!(head.size() <= bytes.len() as u64);
    // The seeds are signed by our key, so that only what was not changed passes.
    if let Ok(head) = head.verify(&TRUST) {
        let known = [&SYSTEM.full, &SYSTEM.delta]
            .into_iter()
            .any(|seed| bytes.starts_with(&seed[..position(&head, 0)]));
        assert!(known, "a changed head was accepted: {head:?}");
        unpack(&head, bytes);
    }
}

fn signed(bytes: &[u8]) {
    let Some(bytes) = sign_again(bytes, &SYSTEM.keys) else {
        return;
    };
    let Ok(unverified) = UnverifiedHead::read(&mut &*bytes) else {
        panic!("what was signed again cannot be read");
    };
    if let Ok(head) = unverified.verify(&TRUST) {
        unpack(&head, &bytes);
    }
}

/// Whatever is given back lies inside of its part and has the hash that was signed.
fn unpack(head: &Head, bytes: &[u8]) {
    let mut blocks = BlockReader::new(head);
    let base = Base {
        boot: &SYSTEM.boot,
        root: &SYSTEM.root,
    };
    for (number, block) in head.blocks().iter().enumerate() {
        let most = u64::from(block.plain_len()) + u64::from(block.stored_len());
        assert!(most <= DECODER_MEMORY, "{block:?}");
        let part = match block.part() {
            Part::Boot => head.manifest().boot(),
            Part::Root => head.manifest().root(),
        };
        assert!(block.offset() + u64::from(block.plain_len()) <= part.size);
        let Some(mut stored) = bytes.get(position(head, number)..) else {
            return;
        };
        let plain = blocks.read(number, &mut stored);
        if let Ok(plain) = plain.and_then(|stored| stored.unpack(Some(base))) {
            assert_eq!(plain.len() as u64, u64::from(block.plain_len()));
            assert_eq!(Hash::of(plain), *block.hash());
        }
    }
}

fn position(head: &Head, block: usize) -> usize {
    head.position(block)
        .and_then(|position| usize::try_from(position).ok())
        .unwrap_or(usize::MAX)
}

/// A small system, its bundle, and a delta of it against itself.
struct Small {
    boot: Vec<u8>,
    root: Vec<u8>,
    keys: Vec<ReleaseKey>,
    full: Vec<u8>,
    delta: Vec<u8>,
}

static SYSTEM: LazyLock<Small> = LazyLock::new(|| match small() {
    Some(small) => small,
    None => panic!("the seed cannot be made"),
});

static TRUST: LazyLock<Trust> = LazyLock::new(|| match Trust::new(&[root_key().public()], 1) {
    Ok(trust) => trust,
    Err(error) => panic!("{error}"),
});

fn root_key() -> SigningKey {
    SigningKey::from_seed(&[1; 32])
}

fn small() -> Option<Small> {
    let key = SigningKey::from_seed(&[2; 32]);
    let certificate = root_key().certify(key.public(), 1);
    let keys = vec![ReleaseKey::new(key, certificate)?];
    let boot: Vec<u8> = (0_u16..35_000).flat_map(u16::to_le_bytes).collect();
    let mut root = vec![0; 3 * 65536];
    root[..4096].fill(7);
    let header = SlotHeader::new(SlotHeaderFields {
        payload_len: boot.len() as u64,
        sha256: *Hash::of(&boot).as_bytes(),
        root_len: root.len() as u64,
        root_sha256: *Hash::of(&root).as_bytes(),
        version: "0.2.0",
    })
    .ok()?;
    let signature = keys[0].sign(Context::SlotHeader, &header.encode());
    let page = SlotPage::new(&header).with_signatures(&[signature]).ok()?;
    let system = System {
        header: page.as_bytes(),
        boot: &boot,
        root: &root,
    };
    let recipe = Recipe {
        architecture: Architecture::Amd64,
        platform: "amd64".into(),
        minimum_version: "0.1.0".parse().ok()?,
        components: Default::default(),
        created: "2026-01-01T00:00:00Z".into(),
        block_size: 64 * 1024,
        level: Level(3),
    };
    let bundle = |base| {
        let mut bytes = Vec::new();
        write(system, base, &recipe, &keys, &mut bytes).ok()?;
        Some(bytes)
    };
    let (full, delta) = (bundle(None)?, bundle(Some(system))?);
    Some(Small {
        full,
        delta,
        boot,
        root,
        keys,
    })
}

fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for bundle in [&SYSTEM.full, &SYSTEM.delta] {
        for choice in [0, 1] {
            seeds.push([&[choice], &bundle[..]].concat());
        }
    }
    seeds
}
