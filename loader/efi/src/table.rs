//! The disk's partition table: the primary one, or the backup when the primary is damaged.

use alloc::vec;
use alloc::vec::Vec;
use core::fmt;

use keelson_bootstate::gpt::{Entry, GptError, Header};

use crate::disk::{Disk, ReadError};

/// Why one copy of the table cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CopyError {
    /// Its bytes make no sense.
    Invalid(GptError),
    /// The disk could not be read.
    Read(ReadError),
}

/// Neither copy can be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TableError {
    /// What is wrong with the table at the start of the disk.
    pub primary: CopyError,
    /// What is wrong with the table at its end.
    pub backup: CopyError,
}

/// Reads the partitions of a disk.
pub fn read(disk: &mut impl Disk) -> Result<Vec<Entry>, TableError> {
    read_copy(disk, 1).or_else(|primary| {
        // A raw image on a larger disk has its backup in the middle, where only the primary
        // header could tell; that case has a valid primary, or nothing helps.
        let last = disk.last_sector();
        read_copy(disk, last).map_err(|backup| TableError { primary, backup })
    })
}

fn read_copy(disk: &mut impl Disk, lba: u64) -> Result<Vec<Entry>, CopyError> {
    let sector_size = disk.sector_size();
    let mut sector = vec![0; sector_size];
    disk.read(lba, &mut sector).map_err(CopyError::Read)?;
    let header = Header::parse(&sector, lba).map_err(CopyError::Invalid)?;

    let len = usize::try_from(header.entries_len()).unwrap_or(usize::MAX);
    let mut entries = vec![0; len.next_multiple_of(sector_size)];
    disk.read(header.entries_lba(), &mut entries)
        .map_err(CopyError::Read)?;
    Ok(header
        .entries(&entries)
        .map_err(CopyError::Invalid)?
        .collect())
}

impl fmt::Display for CopyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Invalid(error) => error.fmt(f),
            Self::Read(error) => error.fmt(f),
        }
    }
}

impl fmt::Display for TableError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "no usable partition table (first: {}; backup: {})",
            self.primary, self.backup
        )
    }
}
