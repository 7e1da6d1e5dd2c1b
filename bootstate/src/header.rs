//! The slot header: the first 4 KiB of BOOT-A and BOOT-B.
//!
//! | offset | size | field |
//! |---|---|---|
//! | 0 | 8 | magic `KEELSLOT` |
//! | 8 | 4 | version, 1 |
//! | 12 | 4 | length of the signature, 0 for none |
//! | 16 | 8 | length of the payload |
//! | 24 | 32 | SHA-256 of the payload |
//! | 56 | 8 | zero |
//! | 512 | 3584 | room for a signature over bytes 0 to 63 with the signature length as zero |
//!
//! A loader is written once and never updated, so version 1 readers skip a signature they cannot
//! check instead of refusing the slot. The payload starts at 4096, a whole sector on every disk.

use core::fmt;

use crate::layout::{self, MIB};
use crate::slot::BuildId;
use crate::words::{array_at, put, u32_at, u64_at};

/// Bytes of a slot header; the payload follows at once.
pub const HEADER_SIZE: usize = 4096;

/// The largest payload that fits into a slot.
pub const MAX_PAYLOAD: u64 = layout::BOOT_SLOT_MIB * MIB - 4096;

const MAGIC: [u8; 8] = *b"KEELSLOT";
const VERSION: u32 = 1;
const SIGNATURE_ROOM: u32 = 3584;

/// What a slot holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SlotHeader {
    payload_len: u64,
    sha256: [u8; 32],
}

/// Why a slot cannot be used, seen from its header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeaderError {
    /// Nothing was ever installed here: the start is all zero or all one.
    Blank,
    /// The payload length is zero or larger than the slot.
    Length(u64),
    /// The bytes are something else.
    NotAHeader,
    /// The signature is longer than its room.
    SignatureLength(u32),
    /// Fewer than [`HEADER_SIZE`] bytes were given.
    TooShort,
    /// A later format.
    Version(u32),
}

impl SlotHeader {
    /// A header for a payload of this length and hash.
    pub const fn new(payload_len: u64, sha256: [u8; 32]) -> Result<Self, HeaderError> {
        if payload_len == 0 || payload_len > MAX_PAYLOAD {
            return Err(HeaderError::Length(payload_len));
        }
        Ok(Self {
            payload_len,
            sha256,
        })
    }

    /// Reads a header from the start of a slot.
    pub fn decode(bytes: &[u8]) -> Result<Self, HeaderError> {
        let header: [u8; HEADER_SIZE] = array_at(bytes, 0).ok_or(HeaderError::TooShort)?;
        let fixed = header.split_at(64).0;
        if fixed.iter().all(|b| *b == 0) || fixed.iter().all(|b| *b == 0xff) {
            return Err(HeaderError::Blank);
        }
        if !header.starts_with(&MAGIC) {
            return Err(HeaderError::NotAHeader);
        }
        match u32_at(&header, 8).ok_or(HeaderError::TooShort)? {
            VERSION => {}
            version => return Err(HeaderError::Version(version)),
        }
        match u32_at(&header, 12).ok_or(HeaderError::TooShort)? {
            0..=SIGNATURE_ROOM => {}
            len => return Err(HeaderError::SignatureLength(len)),
        }
        let payload_len = u64_at(&header, 16).ok_or(HeaderError::TooShort)?;
        let sha256 = array_at(&header, 24).ok_or(HeaderError::TooShort)?;
        Self::new(payload_len, sha256)
    }

    /// The bytes to write at the start of a slot, without a signature.
    pub fn encode(&self) -> [u8; HEADER_SIZE] {
        let mut bytes = [0; HEADER_SIZE];
        put(&mut bytes, 0, &MAGIC);
        put(&mut bytes, 8, &VERSION.to_le_bytes());
        put(&mut bytes, 16, &self.payload_len.to_le_bytes());
        put(&mut bytes, 24, &self.sha256);
        bytes
    }

    /// Bytes of payload after the header; never zero, never more than [`MAX_PAYLOAD`].
    pub const fn payload_len(&self) -> u64 {
        self.payload_len
    }

    /// What the payload must hash to.
    pub const fn sha256(&self) -> &[u8; 32] {
        &self.sha256
    }

    /// Which build the slot holds.
    pub fn build_id(&self) -> BuildId {
        BuildId::from_payload_hash(&self.sha256)
    }
}

impl fmt::Display for HeaderError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Blank => f.write_str("nothing is installed in it"),
            Self::Length(len) => {
                write!(
                    f,
                    "its header gives a payload of {len} bytes; 1 to {MAX_PAYLOAD} fit"
                )
            }
            Self::NotAHeader => f.write_str("it does not start with a slot header"),
            Self::SignatureLength(len) => {
                write!(
                    f,
                    "its header gives a signature of {len} bytes; {SIGNATURE_ROOM} fit"
                )
            }
            Self::TooShort => write!(f, "fewer than {HEADER_SIZE} bytes of header"),
            Self::Version(version) => {
                write!(
                    f,
                    "its header has version {version}; this program knows {VERSION}"
                )
            }
        }
    }
}

impl core::error::Error for HeaderError {}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, prop_assert, prop_assert_eq, proptest};
    use std::vec::Vec;

    use super::*;

    #[test]
    fn fixed_bytes() {
        let bytes = SlotHeader::new(0x0102_0304, [0xab; 32]).unwrap().encode();
        assert_eq!(
            &bytes[..24],
            b"KEELSLOT\x01\0\0\0\0\0\0\0\x04\x03\x02\x01\0\0\0\0"
        );
        assert_eq!(bytes[24..56], [0xab; 32]);
        assert!(bytes[56..].iter().all(|b| *b == 0));
    }

    #[test]
    fn what_is_refused() {
        let good = SlotHeader::new(5, [1; 32]).unwrap().encode();
        let with = |at: usize, byte: u8| {
            let mut bytes = good;
            bytes[at] = byte;
            SlotHeader::decode(&bytes)
        };
        assert_eq!(
            SlotHeader::decode(&[0; HEADER_SIZE]),
            Err(HeaderError::Blank)
        );
        assert_eq!(
            SlotHeader::decode(&[0xff; HEADER_SIZE]),
            Err(HeaderError::Blank)
        );
        assert_eq!(
            SlotHeader::decode(&good[..4095]),
            Err(HeaderError::TooShort)
        );
        assert_eq!(with(0, b'X'), Err(HeaderError::NotAHeader));
        assert_eq!(with(8, 2), Err(HeaderError::Version(2)));
        assert_eq!(with(14, 1), Err(HeaderError::SignatureLength(65536)));
        assert_eq!(with(16, 0), Err(HeaderError::Length(0)));
        assert_eq!(with(20, 1), Err(HeaderError::Length(0x1_0000_0005)));
        assert!(with(600, 9).is_ok(), "a signature is skipped");
    }

    proptest! {
        #[test]
        fn round_trip(len in 1..=MAX_PAYLOAD, hash: [u8; 32]) {
            let header = SlotHeader::new(len, hash).unwrap();
            prop_assert_eq!(SlotHeader::decode(&header.encode()), Ok(header));
        }

        #[test]
        fn a_flipped_bit_is_refused_or_changes_what_the_payload_must_be(
            len in 1..=MAX_PAYLOAD, hash: [u8; 32], at in 0usize..56, bit in 0u32..8
        ) {
            let header = SlotHeader::new(len, hash).unwrap();
            let mut bytes = header.encode();
            bytes[at] ^= 1 << bit;
            // The signature length (12..16) says nothing about the payload.
            if !(12..16).contains(&at) {
                prop_assert!(SlotHeader::decode(&bytes) != Ok(header));
            }
        }

        #[test]
        fn any_bytes_decode_to_something_in_bounds(bytes in proptest::collection::vec(any::<u8>(), 0..5000)) {
            let mut with_magic: Vec<u8> = MAGIC.to_vec();
            with_magic.extend_from_slice(&1u32.to_le_bytes());
            with_magic.extend_from_slice(&bytes);
            for input in [&bytes, &with_magic] {
                if let Ok(header) = SlotHeader::decode(input) {
                    prop_assert!((1..=MAX_PAYLOAD).contains(&header.payload_len()));
                }
            }
        }
    }
}
