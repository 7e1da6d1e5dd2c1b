//! Identifiers derived from content: the same image always gets the same ones, different images
//! different ones, so that two of our disks in one machine are told apart.

use keelson_bootstate::Guid;
use sha2::{Digest, Sha256};

use crate::digest::Sha256Digest;

/// A GUID for `name` inside of what `seed` identifies, marked as version 8 (custom, RFC 9562).
pub(crate) fn guid(seed: &Sha256Digest, name: &str) -> Guid {
    let bytes = hash(seed, name);
    let digits = bytes
        .iter()
        .take(16)
        .fold(0u128, |digits, byte| (digits << 8) | u128::from(*byte));
    let version = 0x8u128 << 76;
    let variant = 0b10u128 << 62;
    Guid::from_u128((digits & !(0xf << 76) & !(0b11 << 62)) | version | variant)
}

/// A FAT volume id for what `seed` identifies.
pub(crate) fn volume(seed: &Sha256Digest) -> u32 {
    hash(seed, "volume")
        .iter()
        .take(4)
        .fold(0, |id, byte| (id << 8) | u32::from(*byte))
}

fn hash(seed: &Sha256Digest, name: &str) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(b"keelson id\0");
    hash.update(seed.as_bytes());
    hash.update(name.as_bytes());
    hash.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stable_distinct_and_marked_as_custom() {
        let (one, two) = (Sha256Digest::of(b"1"), Sha256Digest::of(b"2"));
        assert_eq!(guid(&one, "disk"), guid(&one, "disk"));
        assert_ne!(guid(&one, "disk"), guid(&one, "ESP"));
        assert_ne!(guid(&one, "disk"), guid(&two, "disk"));
        let text = guid(&one, "disk").to_string();
        assert_eq!(&text[14..15], "8");
        assert!("89ab".contains(&text[19..20]));
    }
}
