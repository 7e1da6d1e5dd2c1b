//! Looks into and changes the partitions of a disk that no machine is running on.

use std::fs;
use std::io;
use std::ops::Range;
use std::path::Path;

use keelson_bootstate::gpt::{GptError, Header};
use keelson_bootstate::layout::{MIB, Partition};
use keelson_images::esp::{self, ConfigOnImageError};
use thiserror::Error;

use crate::disk::{DiskError, read_region, write_region};
use crate::{DiskFormat, Tools};

/// Sector size of the disks that machines here have.
const SECTOR: u64 = 512;

/// Header and entries of the primary table lie well below.
const TABLE_BYTES: u64 = MIB;

/// Changes are written back in pieces of this size, and only the pieces that differ.
const PIECE: usize = 64 * 1024;

/// Why a partition could not be read or changed.
#[derive(Debug, Error)]
pub enum PartitionError {
    /// The image file.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The configuration could not be put on the ESP.
    #[error("cannot put the configuration on the disk")]
    Config(#[source] ConfigOnImageError),
    /// A copy of the first part of the disk.
    #[error("cannot keep a copy of the start of the disk")]
    Copy(#[source] io::Error),
    /// The partition is not there.
    #[error("the disk has no partition {name}")]
    Missing {
        /// Its name.
        name: &'static str,
    },
    /// The table cannot be read.
    #[error("the disk's partition table cannot be used: {problem:?}")]
    Table {
        /// What is wrong with it.
        problem: GptError,
    },
}

/// Where a partition lies on the disk, in bytes.
pub fn find_partition(
    tools: &Tools,
    disk: &Path,
    format: DiskFormat,
    partition: Partition,
) -> Result<Range<u64>, PartitionError> {
    find_in(
        &read_region(tools, disk, format, 0, TABLE_BYTES)?,
        partition,
    )
}

/// Puts a configuration on the ESP, where the node looks for it at its next start.
pub fn put_config(
    tools: &Tools,
    disk: &Path,
    format: DiskFormat,
    config: &[u8],
) -> Result<(), PartitionError> {
    let table = read_region(tools, disk, format, 0, TABLE_BYTES)?;
    let esp = find_in(&table, Partition::Esp)?;
    let before = read_region(tools, disk, format, 0, esp.end)?;
    let copy = disk.with_extension("start");
    fs::write(&copy, &before).map_err(PartitionError::Copy)?;
    esp::put_config(&copy, config).map_err(PartitionError::Config)?;
    let after = fs::read(&copy).map_err(PartitionError::Copy)?;
    fs::remove_file(&copy).map_err(PartitionError::Copy)?;
    for (index, (old, new)) in before.chunks(PIECE).zip(after.chunks(PIECE)).enumerate() {
        if old != new {
            let offset = u64::try_from(index * PIECE).unwrap_or(u64::MAX);
            write_region(tools, disk, format, offset, new)?;
        }
    }
    Ok(())
}

fn find_in(start_of_disk: &[u8], partition: Partition) -> Result<Range<u64>, PartitionError> {
    let table = |problem| PartitionError::Table { problem };
    let at = |lba: u64| usize::try_from(lba * SECTOR).unwrap_or(usize::MAX);
    let sector = start_of_disk
        .get(at(1)..at(2))
        .ok_or(table(GptError::TooShort))?;
    let header = Header::parse(sector, 1).map_err(table)?;
    let entries = start_of_disk
        .get(at(header.entries_lba())..)
        .ok_or(table(GptError::TooShort))?;
    let found = header
        .entries(entries)
        .map_err(table)?
        .find(|entry| entry.is(partition))
        .ok_or(PartitionError::Missing {
            name: partition.name(),
        })?;
    let start = found.first_lba() * SECTOR;
    Ok(start..start + found.sectors() * SECTOR)
}
