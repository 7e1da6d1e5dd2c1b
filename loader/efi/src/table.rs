//! The disk's partition table: the primary one, or the backup when the primary is damaged.

use alloc::vec;
use alloc::vec::Vec;
use core::fmt;

use keelson_bootstate::gpt::{Entry, GptError, Header};
use keelson_bootstate::layout::{MIB, SMALLEST_DISK};

use crate::disk::{Disk, DiskError};

/// Why one copy of the table cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CopyError {
    /// Its bytes make no sense.
    Invalid(GptError),
    /// The disk could not be read.
    Disk(DiskError),
}

/// Why a disk has no partitions to start from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TableError {
    /// The table describes more disk than there is: the image was cut off.
    DiskTooSmall {
        /// Size of the disk.
        has_mib: u64,
        /// Where its last partition may end.
        needs_mib: u64,
    },
    /// Neither copy of the table can be used.
    Unusable {
        /// What is wrong with the table at the start of the disk.
        primary: CopyError,
        /// What is wrong with the table at its end.
        backup: CopyError,
    },
}

/// Reads the partitions of a disk.
pub fn read(disk: &mut impl Disk) -> Result<Vec<Entry>, TableError> {
    let last = disk.last_sector();
    // A raw image on a larger disk has its backup in the middle, where only the primary header
    // could tell; that case has a valid primary, or nothing helps.
    let (header, entries) = read_copy(disk, 1).or_else(|primary| {
        read_copy(disk, last).map_err(|backup| TableError::Unusable { primary, backup })
    })?;
    if header.last_usable_lba() > last {
        // Linux ignores such a table, so the system could not find its own root.
        let mib = |sector: u64| {
            let per_mib = MIB / u64::try_from(disk.sector_size()).unwrap_or(512);
            sector.saturating_add(1).div_ceil(per_mib)
        };
        let (has_mib, needs_mib) = (mib(last), mib(header.last_usable_lba()));
        return Err(TableError::DiskTooSmall { has_mib, needs_mib });
    }
    Ok(entries)
}

fn read_copy(disk: &mut impl Disk, lba: u64) -> Result<(Header, Vec<Entry>), CopyError> {
    let sector_size = disk.sector_size();
    let mut sector = vec![0; sector_size];
    disk.read(lba, &mut sector).map_err(CopyError::Disk)?;
    let header = Header::parse(&sector, lba).map_err(CopyError::Invalid)?;

    let len = usize::try_from(header.entries_len()).unwrap_or(usize::MAX);
    let mut entries = vec![0; len.next_multiple_of(sector_size)];
    disk.read(header.entries_lba(), &mut entries)
        .map_err(CopyError::Disk)?;
    let found = header
        .entries(&entries)
        .map_err(CopyError::Invalid)?
        .collect();
    Ok((header, found))
}

impl fmt::Display for CopyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Invalid(error) => error.fmt(f),
            Self::Disk(error) => error.fmt(f),
        }
    }
}

impl fmt::Display for TableError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::DiskTooSmall { has_mib, needs_mib } => write!(
                f,
                "the disk has {has_mib} MiB but its partitions need {needs_mib} MiB: \
                 write the image to a disk of at least {} MiB",
                SMALLEST_DISK / MIB
            ),
            Self::Unusable { primary, backup } => {
                write!(
                    f,
                    "no usable partition table (first: {primary}; backup: {backup})"
                )
            }
        }
    }
}
