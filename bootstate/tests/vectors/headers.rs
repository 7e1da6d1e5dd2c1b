//! The first bytes of slots, and whether they may be started.

use keelson_bootstate::signature::{Context, ReleaseKey, Signature, SigningKey, Trust};
use keelson_bootstate::{SIGNED_SIZE, SlotHeader, SlotHeaderFields, SlotPage};
use serde_json::{Value, json};

use crate::{block, hex};

/// A root key and the lowest epoch that is trusted here.
const ROOT: u8 = 1;
const EPOCH: u32 = 3;

pub(crate) fn trust_hex() -> String {
    hex(trust().encode().as_bytes())
}

pub(crate) fn headers() -> Vec<Value> {
    let ours = release_key(ROOT, EPOCH);
    let signed = |keys: &[&ReleaseKey]| {
        let signatures: Vec<Signature> = keys
            .iter()
            .map(|key| key.sign(Context::SlotHeader, &header().encode()))
            .collect();
        let page = SlotPage::new(&header())
            .with_signatures(&signatures)
            .unwrap();
        *page.as_bytes()
    };
    let good = signed(&[&ours]);
    let with = |at: usize, xor: u8| {
        let mut page = good;
        page[at] ^= xor;
        page
    };
    let other = release_key(ROOT + 1, EPOCH);
    [
        ("signed", good),
        ("signed by another key too", signed(&[&other, &ours])),
        ("unsigned", signed(&[])),
        ("signed by another key", signed(&[&other])),
        (
            "signed by a key that was withdrawn",
            signed(&[&release_key(ROOT, EPOCH - 1)]),
        ),
        ("one bit of the payload's hash flipped", with(30, 1)),
        ("one bit of the version flipped", with(98, 1)),
        ("one bit of the signature flipped", with(128 + 140, 1)),
        ("one bit of the certificate flipped", with(128 + 80, 1)),
        ("another magic", with(0, 1)),
        ("a later format", with(8, 3)),
        ("a length of nothing", with(17, 0x10)),
        ("blank", [0; 4096]),
    ]
    .map(|(name, page)| json!({ "name": name, "page": block(&page, 0), "result": result(&page) }))
    .to_vec()
}

fn result(page: &[u8]) -> String {
    if let Err(error) = SlotHeader::decode(page) {
        return error.to_string();
    }
    let signatures = SlotPage::signatures(page);
    match trust().check(Context::SlotHeader, &page[..SIGNED_SIZE], signatures) {
        Ok(_) => "good".into(),
        Err(error) => error.to_string(),
    }
}

fn header() -> SlotHeader {
    SlotHeader::new(SlotHeaderFields {
        payload_len: 4096,
        sha256: [0xa5; 32],
        root_len: 8192,
        root_sha256: [0x5a; 32],
        version: "0.2.0",
    })
    .unwrap()
}

fn trust() -> Trust {
    Trust::new(&[SigningKey::from_seed(&[ROOT; 32]).public()], EPOCH).unwrap()
}

fn release_key(root: u8, epoch: u32) -> ReleaseKey {
    let key = SigningKey::from_seed(&[root + 100; 32]);
    let certificate = SigningKey::from_seed(&[root; 32]).certify(key.public(), epoch);
    ReleaseKey::new(key, certificate).unwrap()
}
