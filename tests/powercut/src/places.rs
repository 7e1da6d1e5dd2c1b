//! Where the partitions of a disk are.

use std::collections::BTreeMap;
use std::ops::Range;

use keelson_bootstate::layout::{MIB, Partition};
use keelson_loader::table;
use thiserror::Error;

use crate::choice::Sectors;
use crate::{Image, SECTOR};

/// Why a disk has no places.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum NoPlace {
    /// It lacks one of the partitions that every disk of ours has.
    #[error("the disk has no partition {0}")]
    Missing(&'static str),
    /// Neither copy of its partition table can be used.
    #[error("the disk's partition table cannot be used: {0}")]
    Table(String),
}

/// Partitions by kind, as ranges of bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Places(BTreeMap<Partition, Range<u64>>);

impl Places {
    /// Reads the partition table, or its copy at the end of the disk.
    pub fn find(disk: &Image) -> Result<Self, NoPlace> {
        let entries = table::read(&mut Sectors::of(disk))
            .map_err(|error| NoPlace::Table(error.to_string()))?;
        let places = Partition::ALL.into_iter().filter_map(|kind| {
            let entry = entries.iter().find(|entry| entry.is(kind))?;
            let start = entry.first_lba() * SECTOR;
            Some((kind, start..start + entry.sectors() * SECTOR))
        });
        Ok(Self(places.collect()))
    }

    /// The range of a partition.
    pub fn of(&self, kind: Partition) -> Result<Range<u64>, NoPlace> {
        let range = self.0.get(&kind).ok_or(NoPlace::Missing(kind.name()))?;
        Ok(range.clone())
    }

    /// Everything that loaders read: the tables, at the end of the image and at the end of the disk,
    /// and the partitions that choose and hold a system.
    pub fn of_loaders(&self, disk: &Image) -> Vec<Range<u64>> {
        let last = self.0.values().map(|range| range.end).max().unwrap_or(0);
        let tables = [0..MIB, last..last + MIB, disk.size() - MIB..disk.size()];
        let kinds = [
            Partition::Esp,
            Partition::Bios,
            Partition::GrubEnv,
            Partition::BootState,
            Partition::Tries,
            Partition::BootA,
            Partition::BootB,
        ];
        let parts = kinds.iter().filter_map(|kind| self.0.get(kind).cloned());
        tables.into_iter().chain(parts).collect()
    }
}
