//! `keelson storage`: prepares STATE and DATA once per boot, run as root by PID 1.
//!
//! Order: read the facts of this boot; fit the partition table to the disk and add or grow DATA;
//! tell the kernel; then, for STATE and DATA at the same time, make, check, mount or grow the file
//! system; last, folders and binds on /var. What is to be done is decided by pure functions
//! ([`plan_table`], [`plan_volume`]) and carried out by thin ones ([`prepare_table`],
//! [`prepare_volume`]) behind the traits [`Disk`] and [`Host`].
//!
//! Two promises, tested with power cuts at every write: some copy of the partition table is always
//! valid, and a file system that was ever used is never made anew.
//!
//! [`read_firmware_config`] is here because it is about the disk too; machined calls it.

mod content;
mod disk;
mod erase;
mod firmware;
mod host;
mod marker;
mod prepare;
mod size;
mod system;
mod table;
mod table_plan;
mod tool;
mod tree;
mod volume;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use keelson_bootstate::Guid;
use keelson_control::{BootFacts, BootFactsError, chain};

pub use content::{Content, Superblock};
pub use disk::{Disk, DiskFile};
pub use erase::{EraseRequestError, request_erasure};
pub use firmware::{CONFIG_FILE, FirmwareError, read_firmware_config};
pub use host::Host;
pub use marker::{Mark, TAIL};
pub use prepare::{Extents, TableError, VolumeError, prepare_table, prepare_volume};
pub use size::Size;
pub use table::{Extent, Place, ReadTableError, Table};
pub use table_plan::{DiskFacts, DiskStep, TablePlan, TablePlanError, plan_table};
pub use tool::{CheckMode, ToolError};
pub use volume::{BLOCK, Found, Refusal, Volume, VolumeStep, partition_device, plan_volume};

use system::System;

/// Prepares storage. Exit code 0 means that STATE and DATA are mounted.
pub fn run(mut args: impl Iterator<Item = String>) -> ExitCode {
    if let Some(argument) = args.next() {
        tracing::error!("storage takes no arguments, found {:?}", argument);
        return ExitCode::from(2);
    }
    let system = System::new();
    match prepare(&system) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            system.fail(&chain(&error));
            ExitCode::FAILURE
        }
    }
}

/// Why the node has no storage.
#[derive(Debug, thiserror::Error)]
enum StorageError {
    #[error("storage cannot be prepared")]
    Facts(#[from] BootFactsError),
    #[error("cannot open the disk {disk}")]
    Open {
        disk: String,
        source: std::io::Error,
    },
    #[error("{disk}")]
    Table { disk: String, source: TableError },
    #[error("cannot tell the kernel about {}", device.display())]
    Kernel {
        device: PathBuf,
        source: std::io::Error,
    },
    #[error("cannot get a random number for the new partition")]
    Random(#[source] std::io::Error),
    #[error("storage cannot be prepared")]
    Volume(#[from] VolumeError),
    #[error("the preparation of {0} ended in a panic")]
    Panic(&'static str),
    #[error("cannot close {} to other users", Volume::State.target().display())]
    Close(#[source] std::io::Error),
}

fn prepare(system: &System) -> Result<(), StorageError> {
    let facts = BootFacts::read()?;
    let name = facts.disk;
    let disk = DiskFile::open(Path::new(&name)).map_err(|source| StorageError::Open {
        disk: name.clone(),
        source,
    })?;
    let extents =
        prepare_table(&disk, new_guid()?, &|text| system.say(text)).map_err(|source| {
            StorageError::Table {
                disk: name.clone(),
                source,
            }
        })?;
    let device = |extent: Extent| -> Result<PathBuf, StorageError> {
        let device = partition_device(&name, extent.number);
        system
            .tell_kernel(disk.file(), &device, extent)
            .map_err(|source| StorageError::Kernel {
                device: device.clone(),
                source,
            })?;
        Ok(device)
    };
    let volume = |volume, device: PathBuf| move || prepare_volume(volume, &device, system);
    let state = volume(Volume::State, device(extents.state)?);
    let data = volume(Volume::Data, device(extents.data)?);
    std::thread::scope(|scope| {
        // Both at once: at first boot each waits for its own mkfs.
        let data = scope.spawn(data);
        let state = state().map_err(StorageError::from).and_then(|()| {
            tree::close_state().map_err(StorageError::Close)?;
            system.phase("storage/state-ready");
            Ok(())
        });
        let data = match data.join() {
            Ok(result) => result.map_err(StorageError::from),
            Err(_) => Err(StorageError::Panic("DATA")),
        };
        match (state, data) {
            (Ok(()), Ok(())) => {
                system.phase("storage/data-ready");
                Ok(())
            }
            (Err(state), Err(data)) => {
                system.fail(&chain(&data));
                Err(state)
            }
            (state, data) => state.and(data),
        }
    })?;
    for problem in tree::furnish_data() {
        system.warn(&problem);
    }
    Ok(())
}

fn new_guid() -> Result<Guid, StorageError> {
    let mut bytes = [0_u8; 16];
    // Never waits for the kernel to gather entropy: this is a name, not a secret.
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::INSECURE)
        .map_err(|error| StorageError::Random(error.into()))?;
    // Version 4, variant 1 (RFC 9562).
    let random = u128::from_be_bytes(bytes);
    let id = random & !(0xf << 76) & !(0x3 << 62) | (0x4 << 76) | (0x2 << 62);
    Ok(Guid::from_u128(id))
}
