//! Carries out the plans: first the table, then each volume.

use std::io;
use std::path::{Path, PathBuf};

use keelson_bootstate::Guid;

use crate::disk::Disk;
use crate::host::Host;
use crate::marker::{self, Mark};
use crate::size::Size;
use crate::table::Extent;
use crate::table_plan::{DiskFacts, DiskStep, TablePlanError, plan_table};
use crate::tool::{CheckMode, ToolError};
use crate::volume::{BLOCK, Refusal, Volume, VolumeStep, plan_volume};

/// Where the volumes are once the table is right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extents {
    /// STATE.
    pub state: Extent,
    /// DATA.
    pub data: Extent,
}

/// Why the partition table could not be brought in order.
#[derive(Debug, thiserror::Error)]
pub enum TableError {
    /// The disk is not fit.
    #[error("cannot use this disk")]
    Plan(#[from] TablePlanError),
    /// The disk failed.
    #[error("cannot write the partition table at byte {offset}")]
    Write {
        /// Place.
        offset: u64,
        /// Cause.
        source: io::Error,
    },
    /// The disk failed.
    #[error("cannot flush the disk after writing the partition table")]
    Flush(#[source] io::Error),
}

/// Why a volume cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum VolumeError {
    /// Two attempts at repair were not enough.
    #[error(
        "{volume} on {} is damaged and e2fsck could not repair it; nothing was formatted: take an \
         image of the partition to save data, then write the image to the disk again", device.display()
    )]
    Damaged {
        /// STATE or DATA.
        volume: &'static str,
        /// Partition.
        device: PathBuf,
    },
    /// A tool failed.
    #[error("{volume} on {} is not usable", device.display())]
    Tool {
        /// STATE or DATA.
        volume: &'static str,
        /// Partition.
        device: PathBuf,
        /// Cause.
        source: ToolError,
    },
    /// A call failed.
    #[error("cannot {action} {volume} on {}", device.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// STATE or DATA.
        volume: &'static str,
        /// Partition.
        device: PathBuf,
        /// Cause.
        source: io::Error,
    },
    /// It holds something else.
    #[error("{volume} on {} is left alone", device.display())]
    Refused {
        /// STATE or DATA.
        volume: &'static str,
        /// Partition.
        device: PathBuf,
        /// Why.
        source: Refusal,
    },
}

/// Brings the partition table in order. Safe to interrupt at any write.
pub fn prepare_table(
    disk: &dyn Disk,
    new_id: Guid,
    say: &dyn Fn(&str),
) -> Result<Extents, TableError> {
    let plan = plan_table(&DiskFacts::read(disk), new_id)?;
    for change in &plan.changes {
        say(change);
    }
    for step in &plan.steps {
        match step {
            DiskStep::Flush => disk.flush().map_err(TableError::Flush)?,
            DiskStep::Write { offset, bytes } => {
                disk.write_at(*offset, bytes)
                    .map_err(|source| TableError::Write {
                        offset: *offset,
                        source,
                    })?
            }
        }
    }
    Ok(Extents {
        state: plan.state,
        data: plan.data,
    })
}

/// Makes, checks, mounts or grows one volume, as what is on it demands.
pub fn prepare_volume(volume: Volume, device: &Path, host: &dyn Host) -> Result<(), VolumeError> {
    let run = Run {
        volume,
        device,
        host,
    };
    if host.is_mounted(volume.target()) {
        return Ok(());
    }
    let found = host.look(device).map_err(|source| run.io("read", source))?;
    let plan = plan_volume(volume, &found).map_err(|source| VolumeError::Refused {
        volume: volume.name(),
        device: device.to_owned(),
        source,
    })?;
    plan.into_iter().try_for_each(|step| run.step(step))
}

struct Run<'a> {
    volume: Volume,
    device: &'a Path,
    host: &'a dyn Host,
}

impl Run<'_> {
    fn step(&self, step: VolumeStep) -> Result<(), VolumeError> {
        let Self {
            volume,
            device,
            host,
        } = *self;
        let (name, at) = (volume.name(), device.display());
        match step {
            VolumeStep::Mark => host
                .write_tail(device, &Mark::Unfinished.tail())
                .map_err(|source| self.io("mark", source)),
            VolumeStep::Overwrite => {
                host.say(&format!("erasing {name} on {at}, as was asked for"));
                host.overwrite(device)
                    .map_err(|source| self.io("erase", source))
            }
            VolumeStep::Make { blocks } => {
                let size = Size(blocks.saturating_mul(BLOCK));
                host.say(&format!(
                    "making the file system of {name} on {at} ({size})"
                ));
                host.make(volume, device, blocks)
                    .map_err(|source| self.tool(source))
            }
            VolumeStep::Unmark => host
                .write_tail(device, &marker::unmarked())
                .map_err(|source| self.io("finish", source)),
            VolumeStep::Check => self.check(CheckMode::Safe),
            VolumeStep::Mount => self.mount(),
            VolumeStep::Grow { blocks } => {
                host.say(&format!("growing the file system of {name} on {at}"));
                // A node with less room than it could have still works; the next boot tries again.
                if let Err(error) = host.grow(volume, blocks) {
                    host.warn(&format!(
                        "cannot grow {name} on {at}, it keeps its size: {error}"
                    ));
                }
                Ok(())
            }
        }
    }

    /// The kernel refuses what it cannot trust; a full check is the second and last chance.
    fn mount(&self) -> Result<(), VolumeError> {
        let Err(first) = self.host.mount(self.volume, self.device) else {
            return Ok(());
        };
        self.host.warn(&format!(
            "{} on {} cannot be mounted ({first}); checking it",
            self.volume.name(),
            self.device.display()
        ));
        self.check(CheckMode::Thorough)?;
        self.host
            .mount(self.volume, self.device)
            .map_err(|source| self.io("mount", source))
    }

    fn check(&self, mode: CheckMode) -> Result<(), VolumeError> {
        let (name, at) = (self.volume.name(), self.device.display());
        if mode == CheckMode::Safe {
            self.host.say(&format!(
                "checking {name} on {at}, which was not left cleanly"
            ));
        }
        let all = [
            CheckMode::Safe,
            CheckMode::Thorough,
            CheckMode::BackupSuperblock,
        ];
        let modes = all.into_iter().skip_while(|first| *first != mode);
        for mode in modes {
            if self
                .host
                .check(self.volume, self.device, mode)
                .map_err(|source| self.tool(source))?
            {
                if mode != CheckMode::Safe {
                    self.host.warn(&format!(
                        "{name} on {at} was damaged and has been repaired; files may be lost or \
                         in lost+found"
                    ));
                }
                return Ok(());
            }
            self.host.warn(&format!(
                "{name} on {at} has errors that e2fsck {} does not repair",
                mode.option()
            ));
        }
        Err(VolumeError::Damaged {
            volume: name,
            device: self.device.to_owned(),
        })
    }

    fn io(&self, action: &'static str, source: io::Error) -> VolumeError {
        VolumeError::Io {
            action,
            volume: self.volume.name(),
            device: self.device.to_owned(),
            source,
        }
    }

    fn tool(&self, source: ToolError) -> VolumeError {
        VolumeError::Tool {
            volume: self.volume.name(),
            device: self.device.to_owned(),
            source,
        }
    }
}
