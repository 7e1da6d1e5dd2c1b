//! Opens the root file system of a slot: dm-verity below, erofs above.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use keelson_bootstate::Slot;
use keelson_bootstate::layout::Partition;
use keelson_sys::boot_clock::since_boot;
use keelson_sys::device_mapper::{Verity, open_verity};
use rustix::mount::MountFlags;
use thiserror::Error;

use crate::command_line::CommandLine;
use crate::disk::Disk;

/// Block size of data and tree.
const BLOCK: u64 = 4096;

/// Longest wait for a device node after the kernel has the partition.
const NODE_DEADLINE: Duration = Duration::from_secs(5);

/// Why the root cannot be opened.
#[derive(Debug, Error)]
pub(crate) enum RootError {
    #[error("cannot announce the partitions of {disk} to the kernel")]
    Announce { disk: String, source: io::Error },
    #[error("cannot mount {device} as erofs")]
    Mount { device: String, source: io::Error },
    #[error("{disk} has no partition {partition}")]
    NoPartition {
        disk: String,
        partition: &'static str,
    },
    #[error("the kernel made no device for partition {partition} of {disk}")]
    NoDevice {
        disk: String,
        partition: &'static str,
    },
    #[error(
        "partition {partition} has {length} bytes; the command line says its file system has \
         {data_blocks} blocks of {BLOCK}"
    )]
    TooSmall {
        partition: &'static str,
        length: u64,
        data_blocks: u64,
    },
    #[error("cannot open dm-verity on {device}")]
    Verity { device: String, source: io::Error },
}

/// Opens the verity device of a slot's root partition.
pub(crate) fn open(
    disk: &Disk,
    slot: Slot,
    command_line: &CommandLine,
) -> Result<PathBuf, RootError> {
    let kind = Partition::root(slot);
    let partition = kind.name();
    let entry = disk.entry(kind).ok_or_else(|| RootError::NoPartition {
        disk: disk.device(),
        partition,
    })?;
    let data_blocks = command_line.data_blocks;
    // The superblock and at least one block of the tree follow the data.
    if data_blocks.saturating_add(2).saturating_mul(BLOCK) > entry.length {
        return Err(RootError::TooSmall {
            partition,
            length: entry.length,
            data_blocks,
        });
    }
    disk.announce_missing()
        .map_err(|source| RootError::Announce {
            disk: disk.device(),
            source,
        })?;
    let device = wait_for_device(disk, entry.number).ok_or_else(|| RootError::NoDevice {
        disk: disk.device(),
        partition,
    })?;
    let verity = Verity {
        name: "root",
        device: &device,
        data_blocks,
        root_hash: &command_line.root_hash,
        salt: &command_line.salt,
    };
    open_verity(&verity).map_err(|source| RootError::Verity {
        device: device.clone(),
        source,
    })
}

/// Mounts the verified device read-only.
pub(crate) fn mount(device: &Path, target: &Path) -> Result<(), RootError> {
    rustix::mount::mount(
        device,
        target,
        "erofs",
        MountFlags::RDONLY,
        None::<&std::ffi::CStr>,
    )
    .map_err(|source| RootError::Mount {
        device: device.display().to_string(),
        source: source.into(),
    })
}

fn wait_for_device(disk: &Disk, number: u32) -> Option<String> {
    let deadline = since_boot() + NODE_DEADLINE;
    loop {
        let device = disk.partition_devices().remove(&number);
        if let Some(device) = device.filter(|device| Path::new(device).exists()) {
            return Some(device);
        }
        if since_boot() > deadline {
            return None;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}
