//! Headers: fixed places, what is refused, damage.

use proptest::prelude::{any, prop_assert, prop_assert_eq, proptest};
use std::string::ToString;
use std::vec::Vec;

use super::*;
use crate::SlotPage;

pub(crate) fn header(payload_len: u64, byte: u8) -> SlotHeader {
    SlotHeader::new(SlotHeaderFields {
        payload_len,
        sha256: [byte; 32],
        root_len: 8192,
        root_sha256: [!byte; 32],
        version: "0.2.0",
    })
    .unwrap()
}

#[test]
fn fixed_bytes() {
    let bytes = header(0x0102_0304, 0xab).encode();
    assert_eq!(
        &bytes[..24],
        b"KEELSLOT\x01\0\0\0\0\0\0\0\x04\x03\x02\x01\0\0\0\0"
    );
    assert_eq!(bytes[24..56], [0xab; 32]);
    assert_eq!(bytes[56..64], [0, 0x20, 0, 0, 0, 0, 0, 0]);
    assert_eq!(bytes[64..96], [0x54; 32]);
    assert_eq!(&bytes[96..102], b"0.2.0\0");
    assert!(bytes[101..].iter().all(|b| *b == 0));
}

#[test]
fn what_is_refused() {
    let good = *SlotPage::new(&header(5, 1)).as_bytes();
    let with = |at: usize, byte: u8| {
        let mut bytes = good;
        bytes[at] = byte;
        SlotHeader::decode(&bytes)
    };
    for blank in [0, 0xff] {
        assert_eq!(
            SlotHeader::decode(&[blank; HEADER_SIZE]),
            Err(HeaderError::Blank)
        );
    }
    assert_eq!(
        SlotHeader::decode(&good[..4095]),
        Err(HeaderError::TooShort)
    );
    assert_eq!(with(0, b'X'), Err(HeaderError::NotAHeader));
    assert_eq!(with(8, 2), Err(HeaderError::Format(2)));
    assert_eq!(with(14, 1), Err(HeaderError::Reserved));
    assert_eq!(with(16, 0), Err(HeaderError::PayloadLength(0)));
    assert_eq!(with(20, 1), Err(HeaderError::PayloadLength(0x1_0000_0005)));
    assert_eq!(with(56, 1), Err(HeaderError::RootLength(8193)));
    assert_eq!(with(57, 0), Err(HeaderError::RootLength(0)));
    assert_eq!(with(63, 1), Err(HeaderError::RootLength((1 << 56) + 8192)));
    assert_eq!(with(96, 0), Err(HeaderError::Version));
    assert_eq!(with(97, b'\n'), Err(HeaderError::Version));
    assert_eq!(with(127, b'1'), Err(HeaderError::Version), "after the end");
    assert!(with(600, 9).is_ok(), "what follows is not the header's");
}

#[test]
fn versions() {
    let longest = "1".repeat(VERSION_SIZE);
    for good in ["0.2.0", "1.0.0-rc.1+build~7_x", longest.as_str()] {
        assert_eq!(Version::new(good).unwrap().to_string(), good);
    }
    for bad in [
        "",
        " 1",
        "1 ",
        "ü",
        "a/b",
        "a\0",
        "\x1b[2J",
        &"1".repeat(33),
    ] {
        assert_eq!(Version::new(bad), None, "{bad:?}");
    }
}

proptest! {
    #[test]
    fn round_trip(
        payload_len in 1..=MAX_PAYLOAD, sha256: [u8; 32], root in 1..=MAX_ROOT / 4096,
        root_sha256: [u8; 32], version in "[0-9a-zA-Z.+_~-]{1,32}"
    ) {
        let fields = SlotHeaderFields {
            payload_len, sha256, root_len: root * 4096, root_sha256, version: &version,
        };
        let header = SlotHeader::new(fields).unwrap();
        let page = SlotPage::new(&header);
        prop_assert_eq!(SlotHeader::decode(page.as_bytes()), Ok(header));
        prop_assert_eq!(header.version().as_str(), version);
    }

    #[test]
    fn a_flipped_bit_is_refused_or_is_another_header(at in 0usize..SIGNED_SIZE, bit in 0u32..8) {
        let header = header(4096, 9);
        let mut bytes = *SlotPage::new(&header).as_bytes();
        bytes[at] ^= 1 << bit;
        prop_assert!(SlotHeader::decode(&bytes) != Ok(header));
    }

    #[test]
    fn any_bytes_decode_to_what_encodes_to_them(
        bytes in proptest::collection::vec(any::<u8>(), 0..5000)
    ) {
        let mut with_magic: Vec<u8> = MAGIC.to_vec();
        with_magic.extend_from_slice(&[1, 0, 0, 0, 0, 0, 0, 0]);
        with_magic.extend_from_slice(&bytes);
        for input in [&bytes, &with_magic] {
            if let Ok(header) = SlotHeader::decode(input) {
                prop_assert!(input.starts_with(&header.encode()));
            }
        }
    }
}
