//! Disks in memory for tests, with slots that are signed by keys made here.

use alloc::vec;
use alloc::vec::Vec;
use core::ops::Range;

use keelson_bootstate::layout::{MIB, Partition};
use keelson_bootstate::signature::{Context, ReleaseKey, SigningKey, Trust};
use keelson_bootstate::{
    BootRecord, COPY_OFFSETS, Guid, HEADER_SIZE, Slot, SlotHeader, SlotHeaderFields, SlotPage,
    Tries,
};
use sha2::{Digest, Sha256};

use crate::disk::{Disk, DiskError};

/// Size of a slot's partition.
pub(crate) const SLOT_SIZE: usize = 2 * 1024 * 1024;

/// Partitions in disk order with their sizes in MiB; the first starts at 1 MiB.
const PARTITIONS: [(Partition, usize); 4] = [
    (Partition::BootState, 1),
    (Partition::Tries, 1),
    (Partition::BootA, 2),
    (Partition::BootB, 2),
];

/// All partitions and a mebibyte for each copy of the table.
const DISK_MIB: usize = 8;

/// The status that everything fails with.
pub(crate) const STATUS: usize = 7;

/// What happens to writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Writes {
    /// They are kept.
    Kept,
    /// The disk says that it kept them.
    Dropped,
    /// They fail.
    Refused,
    /// They are kept, but flushing fails.
    Unflushed,
}

/// A disk in memory that fails where it is told to.
#[derive(Debug, Clone)]
pub(crate) struct FakeDisk {
    pub(crate) bytes: Vec<u8>,
    pub(crate) sector_size: usize,
    pub(crate) bad_sector: Option<u64>,
    pub(crate) writes: Writes,
    /// Sectors written, and `None` for each flush.
    pub(crate) log: Vec<Option<Range<u64>>>,
}

impl FakeDisk {
    /// A disk with a table, no record, and empty slots.
    pub(crate) fn new(sector_size: usize) -> Self {
        let mib = usize::try_from(MIB).unwrap();
        let mut bytes = vec![0u8; DISK_MIB * mib];
        let last = bytes.len() / sector_size - 1;
        put_table(&mut bytes, sector_size, 1, 2);
        put_table(&mut bytes, sector_size, last, last - 16384 / sector_size);
        Self {
            bytes,
            sector_size,
            bad_sector: None,
            writes: Writes::Kept,
            log: Vec::new(),
        }
    }

    /// With a build in a slot.
    pub(crate) fn with_slot(mut self, slot: Slot, payload: &[u8], key: &ReleaseKey) -> Self {
        let header = header(payload.len(), Sha256::digest(payload).into());
        let signature = key.sign(Context::SlotHeader, &header.encode());
        let page = SlotPage::new(&header)
            .with_signatures(&[signature])
            .unwrap();
        self.put(Partition::boot(slot), 0, page.as_bytes());
        self.put(Partition::boot(slot), HEADER_SIZE, payload);
        self
    }

    /// With this record in both copies, and these tries.
    pub(crate) fn with_state(mut self, record: &BootRecord, tries: Tries) -> Self {
        for offset in COPY_OFFSETS {
            let offset = usize::try_from(offset).unwrap();
            self.put(Partition::BootState, offset, &record.encode());
        }
        self.put(Partition::Tries, 0, &tries.encode());
        self
    }

    pub(crate) fn put(&mut self, kind: Partition, offset: usize, bytes: &[u8]) {
        let at = start(kind) + offset;
        self.bytes[at..at + bytes.len()].copy_from_slice(bytes);
    }

    /// The bytes from an offset of a partition on.
    pub(crate) fn at(&self, kind: Partition, offset: usize) -> &[u8] {
        &self.bytes[start(kind) + offset..]
    }

    pub(crate) fn tries(&self) -> Tries {
        Tries::decode(self.at(Partition::Tries, 0))
    }

    /// The sector at this offset of a partition.
    pub(crate) fn sector(&self, kind: Partition, offset: usize) -> u64 {
        u64::try_from((start(kind) + offset) / self.sector_size).unwrap()
    }
}

impl Disk for FakeDisk {
    fn sector_size(&self) -> usize {
        self.sector_size
    }

    fn last_sector(&self) -> u64 {
        u64::try_from(self.bytes.len() / self.sector_size).unwrap() - 1
    }

    fn read(&mut self, first: u64, into: &mut [u8]) -> Result<(), DiskError> {
        let (sectors, bytes) = range(self.sector_size, first, into.len());
        let failed = DiskError::Read {
            sector: first,
            status: STATUS,
        };
        if self.bad_sector.is_some_and(|bad| sectors.contains(&bad)) {
            return Err(failed);
        }
        into.copy_from_slice(self.bytes.get(bytes).ok_or(failed)?);
        Ok(())
    }

    fn write(&mut self, first: u64, from: &[u8]) -> Result<(), DiskError> {
        let (sectors, bytes) = range(self.sector_size, first, from.len());
        if self.writes == Writes::Refused {
            let (sector, status) = (first, STATUS);
            return Err(DiskError::Write { sector, status });
        }
        self.log.push(Some(sectors));
        if self.writes != Writes::Dropped {
            self.bytes[bytes].copy_from_slice(from);
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), DiskError> {
        self.log.push(None);
        match self.writes {
            Writes::Unflushed => Err(DiskError::Flush { status: STATUS }),
            Writes::Kept | Writes::Dropped | Writes::Refused => Ok(()),
        }
    }
}

/// A release key that [`trust`] trusts.
pub(crate) fn release_key() -> ReleaseKey {
    release_key_of(1)
}

/// A release key of another root.
pub(crate) fn foreign_key() -> ReleaseKey {
    release_key_of(2)
}

pub(crate) fn trust() -> Trust {
    Trust::new(&[SigningKey::from_seed(&[1; 32]).public()], 3).unwrap()
}

/// A header for a payload.
pub(crate) fn header(len: usize, sha256: [u8; 32]) -> SlotHeader {
    SlotHeader::new(SlotHeaderFields {
        payload_len: len as u64,
        sha256,
        root_len: 4096,
        root_sha256: [9; 32],
        version: "0.2.0",
    })
    .unwrap()
}

/// Bytes that are not all the same.
pub(crate) fn payload(len: usize) -> Vec<u8> {
    (0u8..=250).cycle().step_by(7).take(len).collect()
}

fn release_key_of(root: u8) -> ReleaseKey {
    let key = SigningKey::from_seed(&[root + 100; 32]);
    let certificate = SigningKey::from_seed(&[root; 32]).certify(key.public(), 3);
    ReleaseKey::new(key, certificate).unwrap()
}

fn range(sector_size: usize, first: u64, len: usize) -> (Range<u64>, Range<usize>) {
    assert!(len.is_multiple_of(sector_size), "whole sectors only");
    let start = usize::try_from(first).unwrap() * sector_size;
    let sectors = first..first + u64::try_from(len / sector_size).unwrap();
    (sectors, start..start + len)
}

fn start(kind: Partition) -> usize {
    let before = PARTITIONS.iter().take_while(|(other, _)| *other != kind);
    (1 + before.map(|(_, mib)| mib).sum::<usize>()) * 1024 * 1024
}

/// CRC-32 as the table needs it, independent of the crate under test.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0u32, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |c, _| {
            (c >> 1) ^ (0xedb8_8320 & (c & 1).wrapping_neg())
        })
    })
}

fn put_table(bytes: &mut [u8], sector: usize, at_sector: usize, entries_sector: usize) {
    let mut entries = vec![0u8; 128 * 128];
    for (i, (kind, mib)) in PARTITIONS.into_iter().enumerate() {
        let entry = &mut entries[i * 128..][..128];
        let first = start(kind) / sector;
        let last = first + mib * 1024 * 1024 / sector - 1;
        entry[..16].copy_from_slice(&kind.type_guid().to_disk());
        entry[16..32].copy_from_slice(&Guid::from_u128(i as u128 + 1).to_disk());
        entry[32..40].copy_from_slice(&(first as u64).to_le_bytes());
        entry[40..48].copy_from_slice(&(last as u64).to_le_bytes());
        for (j, unit) in kind.name().encode_utf16().enumerate() {
            entry[56 + 2 * j..][..2].copy_from_slice(&unit.to_le_bytes());
        }
    }
    let last_usable = (DISK_MIB - 1) * 1024 * 1024 / sector - 1;
    let mut header = vec![0u8; 92];
    header[..8].copy_from_slice(b"EFI PART");
    header[12..16].copy_from_slice(&92u32.to_le_bytes());
    header[24..32].copy_from_slice(&(at_sector as u64).to_le_bytes());
    header[48..56].copy_from_slice(&(last_usable as u64).to_le_bytes());
    header[72..80].copy_from_slice(&(entries_sector as u64).to_le_bytes());
    header[80..84].copy_from_slice(&128u32.to_le_bytes());
    header[84..88].copy_from_slice(&128u32.to_le_bytes());
    header[88..92].copy_from_slice(&crc32(&entries).to_le_bytes());
    let crc = crc32(&header);
    header[16..20].copy_from_slice(&crc.to_le_bytes());
    bytes[at_sector * sector..][..92].copy_from_slice(&header);
    bytes[entries_sector * sector..][..entries.len()].copy_from_slice(&entries);
}
