//! The partition table as it is on disk and as it should be.
//!
//! Reading and checking is `keelson_bootstate::gpt`; this module keeps the raw entries, so that
//! what it does not understand (attribute bits, foreign partitions) is written back as it was.

use std::fmt;

use keelson_bootstate::Guid;
use keelson_bootstate::gpt::{Entry, GptError, Header};
use keelson_bootstate::layout::Partition;

use crate::disk::Disk;

/// Bytes of a header that are defined and covered by its checksum.
const HEADER_LEN: usize = 92;
/// Bytes of an entry that are defined; larger entries are padded.
const ENTRY_LEN: usize = 128;

/// A copy of the table that passed its checks.
#[derive(Clone, PartialEq, Eq)]
pub struct Table {
    disk: Guid,
    entries_lba: u64,
    first_usable_lba: u64,
    last_usable_lba: u64,
    alternate_lba: u64,
    entry_size: usize,
    /// As on disk.
    raw: Vec<u8>,
    /// The used entries in `raw`.
    entries: Vec<Entry>,
}

/// Which of the two copies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Behind the first sector.
    Primary,
    /// At the end of the disk.
    Backup,
}

/// A partition in bytes from the start of the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Number, from 1.
    pub number: u32,
    /// First byte.
    pub start: u64,
    /// Length.
    pub length: u64,
}

impl Extent {
    /// The first byte behind it.
    pub fn end(&self) -> u64 {
        self.start.saturating_add(self.length)
    }
}

/// Why a copy of the table cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadTableError {
    /// What is there is no valid table.
    #[error("{0}")]
    Invalid(GptError),
    /// The disk failed.
    #[error("cannot read the partition table at sector {lba}")]
    Io {
        /// Sector.
        lba: u64,
        /// Cause.
        source: std::io::Error,
    },
}

impl Table {
    /// Reads the copy whose header is in this sector.
    pub fn read(disk: &dyn Disk, lba: u64) -> Result<Self, ReadTableError> {
        let io = |lba| move |source| ReadTableError::Io { lba, source };
        let sector_size = u64::from(disk.sector_size());
        let mut sector = vec![0; usize::try_from(sector_size).unwrap_or(512)];
        disk.read_at(lba.saturating_mul(sector_size), &mut sector)
            .map_err(io(lba))?;
        let header = Header::parse(&sector, lba).map_err(ReadTableError::Invalid)?;
        // At most half a mebibyte: Header::parse has checked it.
        let mut raw = vec![0; usize::try_from(header.entries_len()).unwrap_or_default()];
        let entries_lba = header.entries_lba();
        disk.read_at(entries_lba.saturating_mul(sector_size), &mut raw)
            .map_err(io(entries_lba))?;
        let entries = header
            .entries(&raw)
            .map_err(ReadTableError::Invalid)?
            .collect();
        let entry_size = sector
            .get(84..88)
            .and_then(|bytes| bytes.try_into().ok())
            .and_then(|bytes| usize::try_from(u32::from_le_bytes(bytes)).ok())
            .ok_or(ReadTableError::Invalid(GptError::TooShort))?;
        Ok(Self {
            disk: header.disk(),
            entries_lba,
            first_usable_lba: header.first_usable_lba(),
            last_usable_lba: header.last_usable_lba(),
            alternate_lba: header.alternate_lba(),
            entry_size,
            raw,
            entries,
        })
    }

    /// Sector of the other copy, as this copy has it.
    pub fn alternate_lba(&self) -> u64 {
        self.alternate_lba
    }

    /// First sector partitions may use.
    pub fn first_usable_lba(&self) -> u64 {
        self.first_usable_lba
    }

    /// Used entries.
    pub fn partitions(&self, sector_size: u64) -> impl Iterator<Item = (&Entry, Extent)> {
        self.entries.iter().map(move |entry| {
            let extent = Extent {
                number: entry.number(),
                start: entry.first_lba().saturating_mul(sector_size),
                length: entry.sectors().saturating_mul(sector_size),
            };
            (entry, extent)
        })
    }

    /// The table for a disk that ends with this sector: the usable space grows or shrinks to fit.
    pub fn fit_to(&mut self, last_lba: u64, sector_size: u64) {
        let entries = self.entries_sectors(sector_size);
        self.alternate_lba = last_lba;
        self.last_usable_lba = last_lba.saturating_sub(entries + 1);
    }

    /// First byte behind the usable space.
    pub fn usable_end(&self, sector_size: u64) -> u64 {
        self.last_usable_lba
            .saturating_add(1)
            .saturating_mul(sector_size)
    }

    /// Changes the last sector of a partition.
    pub fn set_last_lba(&mut self, number: u32, last_lba: u64) {
        if let Some(entry) = self.raw_entry(number)
            && let Some(field) = entry.get_mut(40..48)
        {
            field.copy_from_slice(&last_lba.to_le_bytes());
        }
        self.read_raw_again();
    }

    /// Adds a partition behind the highest used number, or in the first free place; `None` when
    /// the table is full.
    pub fn add(&mut self, kind: Partition, id: Guid, first_lba: u64, last_lba: u64) -> Option<u32> {
        let used: Vec<bool> = self
            .raw
            .chunks_exact(self.entry_size)
            .map(|entry| entry.iter().take(16).any(|byte| *byte != 0))
            .collect();
        let behind = used
            .iter()
            .rposition(|used| *used)
            .map_or(0, |last| last + 1);
        let index = if behind < used.len() {
            behind
        } else {
            used.iter().position(|used| !used)?
        };
        let number = u32::try_from(index + 1).ok()?;
        let entry = self.raw_entry(number)?;
        entry.fill(0);
        let name: Vec<u8> = kind
            .name()
            .encode_utf16()
            .flat_map(u16::to_le_bytes)
            .collect();
        let fields: [(usize, &[u8]); 5] = [
            (0, &kind.type_guid().to_disk()),
            (16, &id.to_disk()),
            (32, &first_lba.to_le_bytes()),
            (40, &last_lba.to_le_bytes()),
            (56, &name),
        ];
        for (at, bytes) in fields {
            entry.get_mut(at..at + bytes.len())?.copy_from_slice(bytes);
        }
        self.read_raw_again();
        Some(number)
    }

    /// The bytes of one copy with their places on a disk that ends with the sector `last_lba`:
    /// entries first, then the header that makes them count.
    pub fn writes(&self, place: Place, last_lba: u64, sector_size: u64) -> [(u64, Vec<u8>); 2] {
        let (header, entries_lba) = self.header_sector(sector_size, place, last_lba);
        let header_lba = match place {
            Place::Primary => 1,
            Place::Backup => last_lba,
        };
        let mut entries = self.raw.clone();
        let full = self
            .entries_sectors(sector_size)
            .saturating_mul(sector_size);
        entries.resize(usize::try_from(full).unwrap_or(entries.len()), 0);
        [
            (entries_lba * sector_size, entries),
            (header_lba * sector_size, header),
        ]
    }

    /// Sectors that the entries take.
    pub fn entries_sectors(&self, sector_size: u64) -> u64 {
        u64::try_from(self.raw.len())
            .unwrap_or(u64::MAX)
            .div_ceil(sector_size)
    }

    /// The header of a copy as a whole sector, and the sector its entries start at.
    fn header_sector(&self, sector_size: u64, place: Place, last_lba: u64) -> (Vec<u8>, u64) {
        let (own, other, entries_lba) = match place {
            // Where the table was read from a backup, its entries' place is not the primary's.
            Place::Primary if self.entries_lba < self.first_usable_lba => {
                (1, self.alternate_lba, self.entries_lba)
            }
            Place::Primary => (1, self.alternate_lba, 2),
            Place::Backup => (
                last_lba,
                1,
                last_lba.saturating_sub(self.entries_sectors(sector_size)),
            ),
        };
        let count = self.raw.len() / self.entry_size.max(1);
        let mut bytes = Vec::with_capacity(HEADER_LEN);
        bytes.extend(b"EFI PART");
        bytes.extend(0x0001_0000_u32.to_le_bytes());
        bytes.extend(u32::try_from(HEADER_LEN).unwrap_or_default().to_le_bytes());
        bytes.extend([0; 8]);
        for word in [own, other, self.first_usable_lba, self.last_usable_lba] {
            bytes.extend(u64::to_le_bytes(word));
        }
        bytes.extend(self.disk.to_disk());
        bytes.extend(entries_lba.to_le_bytes());
        bytes.extend(u32::try_from(count).unwrap_or_default().to_le_bytes());
        bytes.extend(
            u32::try_from(self.entry_size)
                .unwrap_or_default()
                .to_le_bytes(),
        );
        bytes.extend(crc32fast::hash(&self.raw).to_le_bytes());
        let checksum = crc32fast::hash(&bytes);
        if let Some(field) = bytes.get_mut(16..20) {
            field.copy_from_slice(&checksum.to_le_bytes());
        }
        bytes.resize(usize::try_from(sector_size).unwrap_or(512), 0);
        (bytes, entries_lba)
    }

    /// Through the reader, to keep one understanding of what an entry means.
    fn read_raw_again(&mut self) {
        let (sector, _) = self.header_sector(512, Place::Primary, 1);
        if let Ok(header) = Header::parse(&sector, 1)
            && let Ok(entries) = header.entries(&self.raw)
        {
            self.entries = entries.collect();
        }
    }

    fn raw_entry(&mut self, number: u32) -> Option<&mut [u8]> {
        let index = usize::try_from(number.checked_sub(1)?).ok()?;
        self.raw
            .chunks_exact_mut(self.entry_size.max(ENTRY_LEN))
            .nth(index)
    }
}

impl fmt::Debug for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Table")
            .field("disk", &self.disk)
            .field("last_usable_lba", &self.last_usable_lba)
            .field("alternate_lba", &self.alternate_lba)
            .field("entries", &self.entries)
            .finish()
    }
}
