//! A slot header with a good signature, for targets: chance never makes one.
#![expect(clippy::missing_panics_doc, reason = "constants of ours are good")]

use keelson_bootstate::signature::{Context, ReleaseKey, SigningKey, Trust};
use keelson_bootstate::{SlotHeader, SlotHeaderFields, SlotPage};

/// Bytes of [`payload`].
pub const PAYLOAD: usize = 64;

/// A header of [`payload`].
#[must_use]
pub fn header() -> SlotHeader {
    let fields = SlotHeaderFields {
        payload_len: u64::try_from(PAYLOAD).unwrap_or_default(),
        sha256: PAYLOAD_SHA256,
        root_len: 8192,
        root_sha256: [3; 32],
        version: "0.2.0",
    };
    SlotHeader::new(fields).unwrap_or_else(|error| panic!("{error}"))
}

/// What the header is of.
#[must_use]
pub fn payload() -> Vec<u8> {
    vec![0x4b; PAYLOAD]
}

/// SHA-256 of [`payload`].
const PAYLOAD_SHA256: [u8; 32] = [
    0x49, 0xfd, 0x75, 0x1e, 0x67, 0x3d, 0x8c, 0x2c, 0x36, 0xce, 0xe3, 0x58, 0xf2, 0xd8, 0x9e, 0xaf,
    0x22, 0x45, 0x15, 0xea, 0xd2, 0x6b, 0x5d, 0xdb, 0x97, 0x7a, 0x79, 0xdd, 0xa9, 0xd1, 0xad, 0x60,
];

/// The page of [`header`] with a signature that [`trust`] trusts.
#[must_use]
pub fn page() -> SlotPage {
    let signature = release_key().sign(Context::SlotHeader, &header().encode());
    SlotPage::new(&header())
        .with_signatures(&[signature])
        .unwrap_or_else(|error| panic!("{error}"))
}

fn release_key() -> ReleaseKey {
    let key = SigningKey::from_seed(&[2; 32]);
    let certificate = root_key().certify(key.public(), 1);
    ReleaseKey::new(key, certificate).unwrap_or_else(|| panic!("the certificate is of another key"))
}

fn root_key() -> SigningKey {
    SigningKey::from_seed(&[1; 32])
}

/// Trust in the key that certified the one that signed.
#[must_use]
pub fn trust() -> Trust {
    Trust::new(&[root_key().public()], 1).unwrap_or_else(|error| panic!("{error}"))
}
