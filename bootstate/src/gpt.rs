//! Reads GUID partition tables: checks a header and its entries, finds partitions by kind.
//!
//! For the places that must not trust a disk: the EFI loader and stage 1. They read the sectors;
//! this module says what the bytes mean. The primary header is in sector 1, the backup in the last
//! sector of the disk.

use core::fmt;

use crate::guid::Guid;
use crate::layout::Partition;
use crate::words::{array_at, u32_at, u64_at};

const SIGNATURE: [u8; 8] = *b"EFI PART";
const HEADER_FIELDS: usize = 92;
const CRC_FIELD: core::ops::Range<usize> = 16..20;
/// No tool makes more; a larger number is damage, and bounds what a reader allocates.
const MAX_ENTRIES: u32 = 1024;
const NAME_UNITS: usize = 36;

/// A header whose checksum is right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    disk: Guid,
    alternate_lba: u64,
    first_usable_lba: u64,
    last_usable_lba: u64,
    entries_lba: u64,
    entry_count: u32,
    entry_size: u32,
    entries_crc: u32,
}

/// One partition.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    number: u32,
    kind: Guid,
    id: Guid,
    first_lba: u64,
    last_lba: u64,
    name: [u16; NAME_UNITS],
}

/// Why a table cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GptError {
    /// The header says it belongs to another sector.
    Displaced {
        /// The sector that was read.
        read: u64,
        /// The sector the header names.
        says: u64,
    },
    /// The checksum of the entries is wrong.
    EntriesChecksum,
    /// Number or size of the entries makes no sense.
    EntriesShape,
    /// The checksum of the header is wrong.
    HeaderChecksum,
    /// There is no GUID partition table.
    NoTable,
    /// Fewer bytes than the table needs were given.
    TooShort,
}

impl Header {
    /// Checks the header in `sector`, which was read from sector number `lba`.
    pub fn parse(sector: &[u8], lba: u64) -> Result<Self, GptError> {
        if !sector.starts_with(&SIGNATURE) {
            return Err(GptError::NoTable);
        }
        let word = |at| u32_at(sector, at).ok_or(GptError::TooShort);
        let long = |at| u64_at(sector, at).ok_or(GptError::TooShort);
        let guid = |at| {
            array_at(sector, at)
                .map(Guid::from_disk)
                .ok_or(GptError::TooShort)
        };

        let size = usize::try_from(word(12)?).map_err(|_| GptError::HeaderChecksum)?;
        if size < HEADER_FIELDS {
            return Err(GptError::HeaderChecksum);
        }
        let header = sector.get(..size).ok_or(GptError::HeaderChecksum)?;
        let zeroed = header
            .iter()
            .enumerate()
            .map(|(i, b)| if CRC_FIELD.contains(&i) { 0 } else { *b });
        if crc32(zeroed) != word(16)? {
            return Err(GptError::HeaderChecksum);
        }
        let says = long(24)?;
        if says != lba {
            return Err(GptError::Displaced { read: lba, says });
        }
        let (entry_count, entry_size) = (word(80)?, word(84)?);
        if !(1..=MAX_ENTRIES).contains(&entry_count) || !matches!(entry_size, 128 | 256 | 512) {
            return Err(GptError::EntriesShape);
        }
        Ok(Self {
            disk: guid(56)?,
            alternate_lba: long(32)?,
            first_usable_lba: long(40)?,
            last_usable_lba: long(48)?,
            entries_lba: long(72)?,
            entry_count,
            entry_size,
            entries_crc: word(88)?,
        })
    }

    /// The disk's GUID.
    pub const fn disk(&self) -> Guid {
        self.disk
    }

    /// Sector of the other header.
    pub const fn alternate_lba(&self) -> u64 {
        self.alternate_lba
    }

    /// First sector a partition may use.
    pub const fn first_usable_lba(&self) -> u64 {
        self.first_usable_lba
    }

    /// Last sector a partition may use.
    pub const fn last_usable_lba(&self) -> u64 {
        self.last_usable_lba
    }

    /// First sector of the entries.
    pub const fn entries_lba(&self) -> u64 {
        self.entries_lba
    }

    /// Bytes of the entries, at most half a mebibyte.
    pub const fn entries_len(&self) -> u32 {
        self.entry_count * self.entry_size
    }

    /// The used entries, after a check of their checksum. `bytes` starts at
    /// [`Header::entries_lba`] and may be longer than [`Header::entries_len`].
    pub fn entries<'a>(
        &self,
        bytes: &'a [u8],
    ) -> Result<impl Iterator<Item = Entry> + use<'a>, GptError> {
        let len = usize::try_from(self.entries_len()).map_err(|_| GptError::TooShort)?;
        let size = usize::try_from(self.entry_size).map_err(|_| GptError::TooShort)?;
        let bytes = bytes.get(..len).ok_or(GptError::TooShort)?;
        if crc32(bytes.iter().copied()) != self.entries_crc {
            return Err(GptError::EntriesChecksum);
        }
        Ok((1..)
            .zip(bytes.chunks_exact(size))
            .filter_map(|(number, raw)| Entry::parse(number, raw)))
    }
}

impl Entry {
    /// `None` for an unused entry and for one that ends before it starts.
    fn parse(number: u32, raw: &[u8]) -> Option<Self> {
        let mut name = [0; NAME_UNITS];
        for (i, unit) in name.iter_mut().enumerate() {
            *unit = u16::from_le_bytes(array_at(raw, 56 + 2 * i)?);
        }
        let entry = Self {
            number,
            kind: Guid::from_disk(array_at(raw, 0)?),
            id: Guid::from_disk(array_at(raw, 16)?),
            first_lba: u64_at(raw, 32)?,
            last_lba: u64_at(raw, 40)?,
            name,
        };
        (entry.kind != Guid::ZERO && entry.first_lba <= entry.last_lba && entry.last_lba < u64::MAX)
            .then_some(entry)
    }

    /// Number of the partition, from 1, as in `/dev/sda1`.
    pub const fn number(&self) -> u32 {
        self.number
    }

    /// Its type.
    pub const fn type_guid(&self) -> Guid {
        self.kind
    }

    /// Its own GUID.
    pub const fn id(&self) -> Guid {
        self.id
    }

    /// First sector.
    pub const fn first_lba(&self) -> u64 {
        self.first_lba
    }

    /// Last sector.
    pub const fn last_lba(&self) -> u64 {
        self.last_lba
    }

    /// Number of sectors, at least one.
    pub const fn sectors(&self) -> u64 {
        self.last_lba - self.first_lba + 1
    }

    /// Characters of the name; what is not Unicode shows as U+FFFD.
    pub fn name(&self) -> impl Iterator<Item = char> {
        char::decode_utf16(self.name.into_iter().take_while(|unit| *unit != 0))
            .map(|c| c.unwrap_or(char::REPLACEMENT_CHARACTER))
    }

    /// Whether type and name are those of this kind of ours.
    pub fn is(&self, kind: Partition) -> bool {
        self.kind == kind.type_guid() && self.name().eq(kind.name().chars())
    }
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ", self.number)?;
        self.name().try_for_each(|c| write!(f, "{c}"))?;
        write!(
            f,
            " {} type {} sectors {}-{}",
            self.id, self.kind, self.first_lba, self.last_lba
        )
    }
}

impl fmt::Display for GptError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Displaced { read, says } => {
                write!(
                    f,
                    "the partition table header in sector {read} says it belongs to sector {says}"
                )
            }
            Self::EntriesChecksum => f.write_str("the checksum of the partition entries is wrong"),
            Self::EntriesShape => {
                f.write_str("number or size of the partition entries makes no sense")
            }
            Self::HeaderChecksum => {
                f.write_str("the checksum of the partition table header is wrong")
            }
            Self::NoTable => f.write_str("no GUID partition table"),
            Self::TooShort => f.write_str("the partition table is cut off"),
        }
    }
}

impl core::error::Error for GptError {}

/// CRC-32 as in Ethernet; bit by bit, because a table is read once and is 16 KiB.
fn crc32(bytes: impl Iterator<Item = u8>) -> u32 {
    let step = |crc: u32, byte: u8| {
        (0..8).fold(crc ^ u32::from(byte), |c, _| {
            if c & 1 == 1 {
                (c >> 1) ^ 0xedb8_8320
            } else {
                c >> 1
            }
        })
    };
    !bytes.fold(u32::MAX, step)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, prop_assert, proptest};
    use std::string::String;
    use std::vec::Vec;
    use std::{format, vec};

    use super::*;

    fn table() -> (Vec<u8>, Vec<u8>) {
        let mut entries = vec![0u8; 128 * 4];
        let name: Vec<u8> = "BOOT-A".encode_utf16().flat_map(u16::to_le_bytes).collect();
        entries[128..144].copy_from_slice(&Partition::BootA.type_guid().to_disk());
        entries[144..160].copy_from_slice(&Guid::from_u128(77).to_disk());
        entries[160..168].copy_from_slice(&2048u64.to_le_bytes());
        entries[168..176].copy_from_slice(&4095u64.to_le_bytes());
        entries[184..184 + name.len()].copy_from_slice(&name);

        let mut header = vec![0u8; 512];
        header[..8].copy_from_slice(&SIGNATURE);
        header[12..16].copy_from_slice(&92u32.to_le_bytes());
        header[24..32].copy_from_slice(&1u64.to_le_bytes());
        header[32..40].copy_from_slice(&9999u64.to_le_bytes());
        header[72..80].copy_from_slice(&2u64.to_le_bytes());
        header[80..84].copy_from_slice(&4u32.to_le_bytes());
        header[84..88].copy_from_slice(&128u32.to_le_bytes());
        header[88..92].copy_from_slice(&crc32(entries.iter().copied()).to_le_bytes());
        let crc = crc32(header[..92].iter().copied());
        header[16..20].copy_from_slice(&crc.to_le_bytes());
        (header, entries)
    }

    #[test]
    fn crc_check_value() {
        assert_eq!(crc32(b"123456789".iter().copied()), 0xcbf4_3926);
    }

    #[test]
    fn finds_a_partition_by_kind() {
        let (header, entries) = table();
        let header = Header::parse(&header, 1).unwrap();
        assert_eq!((header.entries_len(), header.alternate_lba()), (512, 9999));
        let found: Vec<Entry> = header.entries(&entries).unwrap().collect();
        assert_eq!(found.len(), 1);
        assert!(found[0].is(Partition::BootA) && !found[0].is(Partition::BootB));
        assert_eq!(
            (found[0].number(), found[0].first_lba(), found[0].sectors()),
            (2, 2048, 2048)
        );
        assert_eq!(found[0].name().collect::<String>(), "BOOT-A");
        assert!(format!("{:?}", found[0]).starts_with("2 BOOT-A 00000000-"));
    }

    #[test]
    fn damage_is_named() {
        let (header, mut entries) = table();
        let good = Header::parse(&header, 1).unwrap();
        assert_eq!(
            Header::parse(&header, 2),
            Err(GptError::Displaced { read: 2, says: 1 })
        );
        assert_eq!(Header::parse(&[0; 512], 1), Err(GptError::NoTable));
        assert_eq!(
            good.entries(&entries[..511]).err(),
            Some(GptError::TooShort)
        );
        entries[200] ^= 1;
        assert_eq!(
            good.entries(&entries).err(),
            Some(GptError::EntriesChecksum)
        );
    }

    proptest! {
        #[test]
        fn a_flipped_bit_in_a_header_is_seen(at in 0usize..92, bit in 0u32..8) {
            let (mut header, _) = table();
            header[at] ^= 1 << bit;
            prop_assert!(Header::parse(&header, 1).is_err());
        }

        #[test]
        fn junk_never_panics(
            mut header in proptest::collection::vec(any::<u8>(), 0..600),
            entries in proptest::collection::vec(any::<u8>(), 0..2000)
        ) {
            for (to, from) in header.iter_mut().zip(SIGNATURE) {
                *to = from;
            }
            if let Some(size) = header.get_mut(12..16) {
                size.copy_from_slice(&92u32.to_le_bytes());
            }
            if header.len() >= 92 {
                header[16..20].fill(0);
                let crc = crc32(header[..92].iter().copied());
                header[16..20].copy_from_slice(&crc.to_le_bytes());
            }
            let lba = u64_at(&header, 24).unwrap_or(1);
            if let Ok(header) = Header::parse(&header, lba)
                && let Ok(found) = header.entries(&entries)
            {
                prop_assert!(found.count() <= 1024);
            }
        }
    }
}
