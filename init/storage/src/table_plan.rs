//! Decides what to write so that the table fills the disk and has a DATA partition.
//!
//! At every moment at least one copy on disk is valid: the copy that the plan was made from is
//! overwritten last, and only after a flush of the other one.

use keelson_bootstate::Guid;
use keelson_bootstate::layout::{MIB, Partition, SMALLEST_DISK};

use crate::disk::Disk;
use crate::marker::{self, Mark};
use crate::size::Size;
use crate::table::{Extent, Place, ReadTableError, Table};

/// Least room for DATA: the smallest disk leaves more.
const SMALLEST_DATA: u64 = 256 * MIB;

/// What is on the disk.
#[derive(Debug)]
pub struct DiskFacts {
    /// Size in bytes.
    pub size: u64,
    /// Logical sector size in bytes.
    pub sector_size: u64,
    /// The copy behind the first sector.
    pub primary: Result<Table, ReadTableError>,
    /// The copy that belongs to it, or the one in the last sector.
    pub backup: Result<Table, ReadTableError>,
    /// Whether DATA carries the mark of an unfinished file system at its present end.
    pub data_is_marked: bool,
}

impl DiskFacts {
    /// Looks at a disk.
    pub fn read(disk: &dyn Disk) -> Self {
        let sector_size = u64::from(disk.sector_size());
        let last_lba = (disk.size() / sector_size.max(1)).saturating_sub(1);
        let primary = Table::read(disk, 1);
        let backup_lba = primary.as_ref().map_or(last_lba, Table::alternate_lba);
        let backup = Table::read(disk, backup_lba);
        let mut tail = vec![0; marker::TAIL_LEN];
        let data_is_marked = primary
            .as_ref()
            .or(backup.as_ref())
            .ok()
            .and_then(|table| find(table, sector_size, Partition::Data))
            .and_then(|data| data.end().checked_sub(marker::TAIL))
            .is_some_and(|at| disk.read_at(at, &mut tail).is_ok() && Mark::read(&tail).is_some());
        Self {
            size: disk.size(),
            sector_size,
            primary,
            backup,
            data_is_marked,
        }
    }
}

/// One thing to do on the disk, in order.
#[derive(Clone, PartialEq, Eq)]
pub enum DiskStep {
    /// Everything before is safe before anything after starts.
    Flush,
    /// Bytes to a place.
    Write {
        /// First byte.
        offset: u64,
        /// What.
        bytes: Vec<u8>,
    },
}

/// What to do, and what the table says afterwards.
#[derive(Debug, PartialEq, Eq)]
pub struct TablePlan {
    /// Writes and flushes; empty when all is as it should be.
    pub steps: Vec<DiskStep>,
    /// Words for people about what changes, if anything does.
    pub changes: Vec<String>,
    /// The STATE partition.
    pub state: Extent,
    /// The DATA partition.
    pub data: Extent,
}

/// Why the disk cannot be used.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum TablePlanError {
    /// There is a DATA partition, and something else behind it or over it.
    #[error(
        "partition {number} overlaps with DATA; nothing was changed, repair the partition table"
    )]
    Overlap {
        /// The other partition.
        number: u32,
    },
    /// The disk has become smaller, or the image was cut off.
    #[error(
        "the disk has {disk}, but its partition {number} ends at {end}; the image was not written \
         completely or the disk was made smaller: use a larger disk"
    )]
    CutOff {
        /// Size of the disk.
        disk: Size,
        /// A partition that does not fit.
        number: u32,
        /// Its end.
        end: Size,
    },
    /// The table has no free entry.
    #[error("the partition table has no free entry for DATA")]
    Full,
    /// No room for DATA.
    #[error(
        "only {room} are left for DATA, at least {} are needed; use a larger disk",
        Size(SMALLEST_DATA)
    )]
    NoRoom {
        /// Room behind the last partition.
        room: Size,
    },
    /// Not a disk made by the imager.
    #[error("the disk has no STATE partition; write the image to the disk again")]
    NoState,
    /// Neither copy of the table is valid.
    #[error(
        "the disk has no valid partition table (first copy: {primary}; second copy: {backup}); write the image to the disk again"
    )]
    NoTable {
        /// What is wrong with the primary copy.
        primary: String,
        /// What is wrong with the backup.
        backup: String,
    },
    /// Sectors of a size that no disk has.
    #[error("the disk has sectors of {0} bytes; only 512 and 4096 are supported")]
    SectorSize(u64),
    /// Less than the smallest disk.
    #[error(
        "the disk has {disk}, a node needs at least {}; use a larger disk",
        Size(SMALLEST_DISK)
    )]
    TooSmall {
        /// Size of the disk.
        disk: Size,
    },
}

/// Plans the table. `new_id` becomes the GUID of DATA if that has to be added.
pub fn plan_table(facts: &DiskFacts, new_id: Guid) -> Result<TablePlan, TablePlanError> {
    let sector = facts.sector_size;
    if !matches!(sector, 512 | 4096) {
        return Err(TablePlanError::SectorSize(sector));
    }
    if facts.size < SMALLEST_DISK {
        return Err(TablePlanError::TooSmall {
            disk: Size(facts.size),
        });
    }
    let last_lba = facts.size / sector - 1;
    let (source, found) = match (&facts.primary, &facts.backup) {
        (Ok(table), _) => (Place::Primary, table),
        (Err(_), Ok(table)) => (Place::Backup, table),
        (Err(primary), Err(backup)) => {
            return Err(TablePlanError::NoTable {
                primary: keelson_control::chain(primary),
                backup: keelson_control::chain(backup),
            });
        }
    };
    let mut wanted = found.clone();
    wanted.fit_to(last_lba, sector);
    check_fits(&wanted, facts)?;

    let mut steps = Vec::new();
    let mut changes = Vec::new();
    let state = find(found, sector, Partition::State).ok_or(TablePlanError::NoState)?;
    let end = wanted.usable_end(sector) / MIB * MIB;
    let data = match find(found, sector, Partition::Data) {
        Some(data) => {
            let grown = grow(&mut wanted, data, end, sector)?;
            if grown != data {
                changes.push(format!(
                    "DATA grows from {} to {}",
                    Size(data.length),
                    Size(grown.length)
                ));
                if facts.data_is_marked {
                    mark(&mut steps, grown);
                }
            }
            grown
        }
        None => {
            let data = add(&mut wanted, new_id, end, sector)?;
            changes.push(format!("DATA is added with {}", Size(data.length)));
            // Whatever is in this space now belonged to nobody.
            mark(&mut steps, data);
            data
        }
    };

    let order = match source {
        Place::Primary => [
            (Place::Backup, &facts.backup),
            (Place::Primary, &facts.primary),
        ],
        Place::Backup => [
            (Place::Primary, &facts.primary),
            (Place::Backup, &facts.backup),
        ],
    };
    let mut stale = false;
    for (place, present) in order {
        // A copy that is valid but elsewhere (the disk grew) counts as stale.
        let same = present.as_ref().is_ok_and(|present| {
            present.writes(place, last_lba, sector) == wanted.writes(place, last_lba, sector)
        });
        let in_place = place == Place::Primary
            || facts
                .primary
                .as_ref()
                .map_or(true, |primary| primary.alternate_lba() == last_lba);
        if !(same && in_place) {
            stale = true;
            for (offset, bytes) in wanted.writes(place, last_lba, sector) {
                steps.push(DiskStep::Write { offset, bytes });
            }
            steps.push(DiskStep::Flush);
        }
    }
    if stale && changes.is_empty() {
        changes.push("the partition table is completed to two copies".to_owned());
    }
    Ok(TablePlan {
        steps,
        changes,
        state,
        data,
    })
}

/// The partition of this kind, by type and name.
fn find(table: &Table, sector_size: u64, kind: Partition) -> Option<Extent> {
    table
        .partitions(sector_size)
        .find_map(|(entry, extent)| entry.is(kind).then_some(extent))
}

fn check_fits(table: &Table, facts: &DiskFacts) -> Result<(), TablePlanError> {
    let usable = table.usable_end(facts.sector_size);
    for (_, extent) in table.partitions(facts.sector_size) {
        if extent.end() > usable {
            return Err(TablePlanError::CutOff {
                disk: Size(facts.size),
                number: extent.number,
                end: Size(extent.end()),
            });
        }
    }
    Ok(())
}

/// DATA up to `end`, unless it reaches that far already.
fn grow(table: &mut Table, data: Extent, end: u64, sector: u64) -> Result<Extent, TablePlanError> {
    for (_, other) in table.partitions(sector) {
        if other.number != data.number && other.end() > data.start {
            if other.start < data.end() {
                return Err(TablePlanError::Overlap {
                    number: other.number,
                });
            }
            // Something of the operator's behind DATA: it stays as it is.
            return Ok(data);
        }
    }
    if end <= data.end() {
        return Ok(data);
    }
    table.set_last_lba(data.number, end / sector - 1);
    Ok(Extent {
        length: end - data.start,
        ..data
    })
}

/// DATA from the last partition to `end`.
fn add(table: &mut Table, id: Guid, end: u64, sector: u64) -> Result<Extent, TablePlanError> {
    let used = table
        .partitions(sector)
        .map(|(_, extent)| extent.end())
        .max()
        .unwrap_or(0);
    let start = used
        .max(table.first_usable_lba() * sector)
        .next_multiple_of(MIB);
    let room = end.saturating_sub(start);
    if room < SMALLEST_DATA {
        return Err(TablePlanError::NoRoom { room: Size(room) });
    }
    let number = table
        .add(Partition::Data, id, start / sector, end / sector - 1)
        .ok_or(TablePlanError::Full)?;
    Ok(Extent {
        number,
        start,
        length: room,
    })
}

fn mark(steps: &mut Vec<DiskStep>, extent: Extent) {
    let offset = extent.end().saturating_sub(marker::TAIL);
    steps.push(DiskStep::Write {
        offset,
        bytes: Mark::Unfinished.tail(),
    });
    steps.push(DiskStep::Flush);
}

impl std::fmt::Debug for DiskStep {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Flush => f.write_str("flush"),
            Self::Write { offset, bytes } => write!(f, "write {} bytes at {offset}", bytes.len()),
        }
    }
}
