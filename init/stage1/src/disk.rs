//! Disks and their partition tables, read with nothing taken on trust.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use keelson_bootstate::Guid;
use keelson_bootstate::gpt::{Entry, GptError, Header};
use keelson_bootstate::layout::Partition;
use keelson_sys::block;
use thiserror::Error;

const CLASS: &str = "/sys/class/block";

/// A disk with a valid table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Disk {
    /// The kernel's name: `vda`.
    pub(crate) name: String,
    pub(crate) sector_size: u32,
    pub(crate) guid: Guid,
    pub(crate) entries: Vec<TableEntry>,
}

/// One used entry of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TableEntry {
    pub(crate) number: u32,
    pub(crate) id: Guid,
    /// What it is, when both its type and its name say so.
    pub(crate) kind: Option<Partition>,
    /// Bytes from the start of the disk.
    pub(crate) start: u64,
    pub(crate) length: u64,
}

/// Why a disk has no usable table.
#[derive(Debug, Error)]
pub(crate) enum DiskError {
    #[error("cannot read /dev/{name}")]
    Read { name: String, source: io::Error },
    #[error("/dev/{name} has no usable partition table: {primary}; its copy: {backup}")]
    Table {
        name: String,
        primary: GptError,
        backup: GptError,
    },
}

impl Disk {
    /// Device of the disk.
    pub(crate) fn device(&self) -> String {
        format!("/dev/{}", self.name)
    }

    /// The one entry of a kind.
    pub(crate) fn entry(&self, kind: Partition) -> Option<&TableEntry> {
        self.entries.iter().find(|entry| entry.kind == Some(kind))
    }

    /// Devices of all partitions the kernel knows, by number.
    pub(crate) fn partition_devices(&self) -> BTreeMap<u32, String> {
        let Ok(entries) = fs::read_dir(Path::new(CLASS).join(&self.name)) else {
            return BTreeMap::new();
        };
        entries
            .flatten()
            .filter_map(|entry| {
                let number = fs::read_to_string(entry.path().join("partition")).ok()?;
                let name = entry.file_name().into_string().ok()?;
                Some((number.trim().parse().ok()?, format!("/dev/{name}")))
            })
            .collect()
    }

    /// Tells the kernel of partitions that it does not know: it reads only the first copy of a
    /// table, and so sees none when that is damaged.
    pub(crate) fn announce_missing(&self) -> io::Result<()> {
        let known = self.partition_devices();
        let missing: Vec<_> = self
            .entries
            .iter()
            .filter(|entry| !known.contains_key(&entry.number))
            .collect();
        if missing.is_empty() {
            return Ok(());
        }
        let device = File::open(self.device())?;
        for entry in missing {
            let number = i32::try_from(entry.number).map_err(io::Error::other)?;
            block::add_partition(&device, number, entry.start, entry.length)?;
        }
        Ok(())
    }
}

/// Names of all whole disks that may hold an image.
pub(crate) fn names() -> Vec<String> {
    let Ok(entries) = fs::read_dir(CLASS) else {
        return Vec::new();
    };
    let mut names: Vec<String> = entries
        .flatten()
        .filter(|entry| !entry.path().join("partition").exists())
        .filter(|entry| has_medium(&entry.path()))
        .filter_map(|entry| entry.file_name().into_string().ok())
        // Devices that the kernel makes of others or of memory.
        .filter(|name| {
            !["loop", "ram", "dm-", "zram", "md", "sr"]
                .iter()
                .any(|p| name.starts_with(p))
        })
        .collect();
    names.sort();
    names
}

/// Network block devices and card readers are there without anything in them.
fn has_medium(device: &Path) -> bool {
    fs::read_to_string(device.join("size")).is_ok_and(|sectors| sectors.trim() != "0")
}

/// Reads the table of a disk, or its copy at the end when the first one is damaged.
pub(crate) fn read(name: &str) -> Result<Disk, DiskError> {
    let at = |source| DiskError::Read {
        name: name.to_owned(),
        source,
    };
    let device = File::open(PathBuf::from("/dev").join(name)).map_err(at)?;
    let sector_size = block::sector_size(&device).map_err(at)?;
    let size = block::size(&device).map_err(at)?;
    parse(name, &device, sector_size, size)
}

fn parse(name: &str, device: &File, sector_size: u32, size: u64) -> Result<Disk, DiskError> {
    let at = |source| DiskError::Read {
        name: name.to_owned(),
        source,
    };
    let last = (size / u64::from(sector_size)).saturating_sub(1);
    let primary = match table(device, sector_size, 1).map_err(at)? {
        Ok(table) => return Ok(assemble(name, sector_size, &table)),
        Err(error) => error,
    };
    match table(device, sector_size, last).map_err(at)? {
        Ok(table) => Ok(assemble(name, sector_size, &table)),
        Err(backup) => Err(DiskError::Table {
            name: name.to_owned(),
            primary,
            backup,
        }),
    }
}

fn table(
    device: &File,
    sector_size: u32,
    lba: u64,
) -> io::Result<Result<(Guid, Vec<Entry>), GptError>> {
    let mut sector = vec![0; usize::try_from(sector_size).map_err(io::Error::other)?];
    if device
        .read_exact_at(&mut sector, lba.saturating_mul(sector_size.into()))
        .is_err()
    {
        // Smaller than its table.
        return Ok(Err(GptError::TooShort));
    }
    let header = match Header::parse(&sector, lba) {
        Ok(header) => header,
        Err(error) => return Ok(Err(error)),
    };
    let mut entries = vec![0; usize::try_from(header.entries_len()).map_err(io::Error::other)?];
    let offset = header.entries_lba().saturating_mul(sector_size.into());
    if device.read_exact_at(&mut entries, offset).is_err() {
        return Ok(Err(GptError::TooShort));
    }
    Ok(header
        .entries(&entries)
        .map(|entries| (header.disk(), entries.collect())))
}

fn assemble(name: &str, sector_size: u32, table: &(Guid, Vec<Entry>)) -> Disk {
    let (guid, entries) = table;
    let bytes = |sectors: u64| sectors.saturating_mul(sector_size.into());
    let entries = entries
        .iter()
        .map(|entry| TableEntry {
            number: entry.number(),
            id: entry.id(),
            kind: Partition::ALL.into_iter().find(|kind| entry.is(*kind)),
            start: bytes(entry.first_lba()),
            length: bytes(entry.sectors()),
        })
        .collect();
    Disk {
        name: name.to_owned(),
        sector_size,
        guid: *guid,
        entries,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_zeros_or_junk_has_no_table() {
        let file = tempfile::tempfile().unwrap();
        for bytes in [vec![], vec![0; 512], vec![0xff; 70_000]] {
            file.set_len(0).unwrap();
            file.write_all_at(&bytes, 0).unwrap();
            let size = u64::try_from(bytes.len()).unwrap();
            for sector_size in [512, 4096] {
                let error = parse("vda", &file, sector_size, size).unwrap_err();
                assert!(matches!(error, DiskError::Table { .. }), "{error}");
            }
        }
    }
}
