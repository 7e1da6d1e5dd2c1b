//! Leaves what was found out for stage 2 and the storage helper.

use std::fs;
use std::io;
use std::path::Path;

use keelson_bootstate::layout::Partition;
use keelson_control::{BootFacts, Phase};
use thiserror::Error;

use crate::disk::Disk;
use crate::efi::Origin;

/// Why the facts cannot be left.
#[derive(Debug, Error)]
pub(crate) enum BootFactsError {
    #[error("cannot encode them")]
    Encode(#[source] serde_json::Error),
    #[error("cannot write {}", BootFacts::PATH)]
    Write(#[source] io::Error),
}

/// Writes the file; /run is a tmpfs that moves along to stage 2.
pub(crate) fn write(disk: &Disk, origin: Origin, phases: Vec<Phase>) -> Result<(), BootFactsError> {
    let devices = disk.partition_devices();
    let partitions = Partition::ALL
        .into_iter()
        .map(|kind| {
            let number = disk.entry(kind).map(|entry| entry.number);
            let device = number.and_then(|number| devices.get(&number).cloned());
            (kind.name().to_owned(), device)
        })
        .collect();
    let facts = BootFacts {
        disk: disk.device(),
        sector_size: disk.sector_size,
        slot: origin.slot.letter().to_string(),
        loader: origin.loader,
        partitions,
        phases,
    };
    let text = serde_json::to_vec(&facts).map_err(BootFactsError::Encode)?;
    let path = Path::new(BootFacts::PATH);
    path.parent()
        .map_or(Ok(()), fs::create_dir_all)
        .and_then(|()| fs::write(path, text))
        .map_err(BootFactsError::Write)
}
