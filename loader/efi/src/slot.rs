//! A slot: its header, its payload, and the proof that the payload is what was installed and that
//! somebody we trust signed it.

use alloc::vec;
use alloc::vec::Vec;
use core::fmt;

use keelson_bootstate::gpt::Entry;
use keelson_bootstate::layout::Partition;
use keelson_bootstate::signature::{Context, KeyCertificate, Trust, Untrusted};
use keelson_bootstate::{HEADER_SIZE, HeaderError, SIGNED_SIZE, Slot, SlotHeader, SlotPage};
use sha2::{Digest, Sha256};

use crate::disk::{Disk, DiskError};

/// Read and hash this much at a time: large enough that the firmware's cost per call vanishes,
/// small enough for controllers that limit a transfer.
const CHUNK: usize = 1024 * 1024;

/// A payload that hashed to what its header says, and a header that a key we trust signed.
#[derive(Debug)]
pub struct Verified {
    header: SlotHeader,
    signer: KeyCertificate,
    payload: Vec<u8>,
}

/// Why a slot cannot be started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SlotError {
    /// The disk failed.
    Disk(DiskError),
    /// The payload is not what was installed.
    Hash,
    /// The header is blank or makes no sense.
    Header(HeaderError),
    /// The disk has no such partition.
    NoPartition(Partition),
    /// The payload runs over the end of the partition.
    TooLong,
    /// No signature of the header counts.
    Untrusted(Untrusted),
}

impl Verified {
    /// Reads a slot and checks its signature and its hash.
    pub fn read(
        disk: &mut impl Disk,
        partitions: &[Entry],
        slot: Slot,
        trust: &Trust,
    ) -> Result<Self, SlotError> {
        let kind = Partition::boot(slot);
        let entry = partitions
            .iter()
            .find(|e| e.is(kind))
            .ok_or(SlotError::NoPartition(kind))?;

        let sector_size = disk.sector_size();
        let header_sectors = sectors(HEADER_SIZE, sector_size);
        let mut page = vec![0; HEADER_SIZE.next_multiple_of(sector_size)];
        if entry.sectors() < header_sectors {
            return Err(SlotError::TooLong);
        }
        disk.read(entry.first_lba(), &mut page)
            .map_err(SlotError::Disk)?;
        let header = SlotHeader::decode(&page).map_err(SlotError::Header)?;
        let signed = page.get(..SIGNED_SIZE).unwrap_or_default();
        let signer = trust
            .check(Context::SlotHeader, signed, SlotPage::signatures(&page))
            .map_err(SlotError::Untrusted)?;

        let len = usize::try_from(header.payload_len()).map_err(|_| SlotError::TooLong)?;
        if header_sectors + sectors(len, sector_size) > entry.sectors() {
            return Err(SlotError::TooLong);
        }
        let mut payload = vec![0; len.next_multiple_of(sector_size)];
        let mut hash = Sha256::new();
        let (mut lba, mut left) = (entry.first_lba() + header_sectors, len);
        for chunk in payload.chunks_mut(CHUNK) {
            disk.read(lba, chunk).map_err(SlotError::Disk)?;
            lba += sectors(chunk.len(), sector_size);
            let hashed = chunk.len().min(left);
            hash.update(chunk.split_at(hashed).0);
            left -= hashed;
        }
        if hash.finalize()[..] != header.sha256()[..] {
            return Err(SlotError::Hash);
        }
        payload.truncate(len);
        Ok(Self {
            header,
            signer,
            payload,
        })
    }

    /// The header it was checked against.
    pub const fn header(&self) -> &SlotHeader {
        &self.header
    }

    /// The key that signed the header.
    pub const fn signer(&self) -> &KeyCertificate {
        &self.signer
    }

    /// The payload.
    pub fn payload(&self) -> &[u8] {
        &self.payload
    }
}

fn sectors(len: usize, sector_size: usize) -> u64 {
    u64::try_from(len.div_ceil(sector_size)).unwrap_or(u64::MAX)
}

impl fmt::Display for SlotError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Disk(error) => error.fmt(f),
            Self::Hash => f.write_str("its SHA-256 is not the one in its header: it is damaged"),
            Self::Header(error) => error.fmt(f),
            Self::NoPartition(kind) => write!(f, "the disk has no partition {}", kind.name()),
            Self::TooLong => f.write_str("its payload is longer than its partition"),
            Self::Untrusted(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for SlotError {}

#[cfg(test)]
mod tests;
