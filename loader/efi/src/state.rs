//! The boot record and the tries of a disk, and the only write a loader does: counting a try.

use alloc::vec;
use alloc::vec::Vec;
use core::fmt;

use keelson_bootstate::gpt::Entry;
use keelson_bootstate::layout::Partition;
use keelson_bootstate::{
    BootRecord, COPY_OFFSETS, NoRecord, RECORD_SIZE, TRIES_SIZE, Tries, newest_record,
};

use crate::disk::{Disk, DiskError};

/// Why a try cannot be counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CountError {
    /// The disk failed.
    Disk(DiskError),
    /// The disk took the write but holds something else.
    NotKept,
    /// The disk has no such partition.
    NoPartition,
}

/// Reads the record that counts. A copy that cannot be read does not count.
pub(crate) fn read_record(
    disk: &mut impl Disk,
    partitions: &[Entry],
) -> Result<BootRecord, NoRecord> {
    let [first, second] = COPY_OFFSETS.map(|offset| {
        find(partitions, Partition::BootState)
            .and_then(|entry| read(disk, entry, offset, RECORD_SIZE).ok())
            .unwrap_or_default()
    });
    newest_record(&first, &second).map(|(record, _)| record)
}

/// Reads the tries. A sector that cannot be read has none left.
pub(crate) fn read_tries(disk: &mut impl Disk, partitions: &[Entry]) -> Tries {
    find(partitions, Partition::Tries)
        .and_then(|entry| read(disk, entry, 0, TRIES_SIZE).ok())
        .map_or(Tries::Unreadable, |sector| Tries::decode(&sector))
}

/// Writes the tries with one more taken, brings them to the medium and looks whether they are
/// there: firmware that drops a write without a word would let a trial repeat for ever.
pub(crate) fn count(
    disk: &mut impl Disk,
    partitions: &[Entry],
    tries: Tries,
) -> Result<(), CountError> {
    let entry = find(partitions, Partition::Tries).ok_or(CountError::NoPartition)?;
    let mut sector = tries.encode().to_vec();
    sector.resize(TRIES_SIZE.next_multiple_of(disk.sector_size()), 0);
    disk.write(entry.first_lba(), &sector)
        .and_then(|()| disk.flush())
        .map_err(CountError::Disk)?;
    let kept = read(disk, entry, 0, TRIES_SIZE).map_err(CountError::Disk)?;
    (kept == sector).then_some(()).ok_or(CountError::NotKept)
}

fn find(partitions: &[Entry], kind: Partition) -> Option<&Entry> {
    partitions.iter().find(|entry| entry.is(kind))
}

/// Reads whole sectors of a partition.
fn read(
    disk: &mut impl Disk,
    entry: &Entry,
    offset: u64,
    len: usize,
) -> Result<Vec<u8>, DiskError> {
    let sector_size = disk.sector_size();
    let mut bytes = vec![0; len.next_multiple_of(sector_size)];
    let sectors = offset / u64::try_from(sector_size).unwrap_or(u64::MAX);
    let sector = entry.first_lba().saturating_add(sectors);
    if sector > entry.last_lba() {
        // What is behind the partition is not ours.
        return Ok(Vec::new());
    }
    disk.read(sector, &mut bytes)?;
    Ok(bytes)
}

impl fmt::Display for CountError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Disk(error) => error.fmt(f),
            Self::NotKept => f.write_str("the disk did not keep it"),
            Self::NoPartition => {
                write!(f, "the disk has no partition {}", Partition::Tries.name())
            }
        }
    }
}

impl core::error::Error for CountError {}
