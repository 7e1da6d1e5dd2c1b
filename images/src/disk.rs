//! Whole disks: first a plan that is plain data, then a writer that only obeys it.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use gpt::disk::LogicalBlockSize;
use gpt::mbr::ProtectiveMBR;
use gpt::partition_types::{OperatingSystem, Type};
use keelson_bootstate::grub_env::{GrubRecord, RECORD_OFFSET};
use keelson_bootstate::layout::{MIB, Partition};
use keelson_bootstate::{BootRecord, COPY_OFFSETS, Guid, HEADER_SIZE, Slot, Tries};
use tempfile::NamedTempFile;
use uuid::Uuid;

use crate::digest::Sha256Digest;
use crate::slot::Build;
use crate::{Platform, SectorSize, esp, id, publish};

/// What a disk is made from.
#[derive(Debug, Clone, Copy)]
pub struct DiskSpec<'a> {
    /// Which partitions, which sectors, where the loader goes.
    pub platform: &'a Platform,
    /// The loader, for example the bytes of `keelson-loader.efi`.
    pub loader: &'a [u8],
    /// What slot A holds.
    pub build: &'a Build,
}

/// What is where on a disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiskPlan {
    /// The disk's GUID.
    pub id: Guid,
    /// The disk's logical sectors.
    pub sector_size: SectorSize,
    /// Bytes of the image. A disk may be larger: the node uses the rest for DATA.
    pub size: u64,
    /// Its partitions in disk order; the first one has number 1.
    pub partitions: Vec<PlannedPartition>,
    /// What is written raw, by offset on the disk.
    pub writes: Vec<RawWrite>,
    /// The FAT with the loader.
    pub esp: PlannedEsp,
}

/// One partition of a plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PlannedPartition {
    /// What it is.
    pub kind: Partition,
    /// Its own GUID.
    pub id: Guid,
    /// Offset on the disk in bytes.
    pub start: u64,
    /// Size in bytes.
    pub size: u64,
}

/// Raw bytes of a plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawWrite {
    /// Offset on the disk in bytes.
    pub offset: u64,
    /// What goes there.
    pub content: Content,
}

/// Where raw bytes of a plan come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// From memory.
    Bytes(Vec<u8>),
    /// All of a file.
    File(PathBuf),
}

/// The FAT of a plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedEsp {
    /// Volume id.
    pub volume_id: u32,
    /// Where the loader goes.
    pub loader_path: String,
    /// The loader.
    pub loader: Vec<u8>,
}

/// Why there is no plan.
#[derive(Debug, thiserror::Error)]
pub enum PlanDiskError {
    /// The loader does not fit onto the ESP.
    #[error("the loader has {size} bytes, more than half of the ESP")]
    LoaderTooLarge {
        /// Its size.
        size: usize,
    },
}

/// Why a disk image could not be written.
#[derive(Debug, thiserror::Error)]
pub enum WriteDiskError {
    /// The ESP could not be made.
    #[error("cannot make the ESP of {path}")]
    Esp {
        /// The image.
        path: PathBuf,
        /// What went wrong.
        #[source]
        source: hadris_fat::Error,
    },
    /// A source file cannot be read or the image cannot be written.
    #[error("cannot write {path}")]
    Write {
        /// The image.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The partition table could not be made.
    #[error("cannot make the partition table of {path}")]
    Table {
        /// The image.
        path: PathBuf,
        /// What went wrong.
        #[source]
        source: gpt::GptError,
    },
}

impl DiskSpec<'_> {
    /// Decides everything about the disk; reads no file.
    pub fn plan(&self) -> Result<DiskPlan, PlanDiskError> {
        let seed = self.build.seed();
        if self.loader.len() > 32 * 1024 * 1024 {
            return Err(PlanDiskError::LoaderTooLarge {
                size: self.loader.len(),
            });
        }

        let partitions = lay_out(self.platform.partitions(), &seed);
        let mut writes = Vec::new();
        let mut put = |offset, content| writes.push(RawWrite { offset, content });
        for partition in &partitions {
            let start = partition.start;
            match partition.kind {
                Partition::BootState => {
                    let record = BootRecord::fresh(self.build.header().build_id());
                    let text = GrubRecord::from(&record).encode().to_vec();
                    for copy in COPY_OFFSETS.map(|offset| start + offset) {
                        put(copy, Content::Bytes(record.encode().to_vec()));
                        put(copy + RECORD_OFFSET, Content::Bytes(text.clone()));
                    }
                }
                Partition::Tries => put(start, Content::Bytes(Tries::FRESH.encode().to_vec())),
                kind if kind == Partition::boot(Slot::A) => {
                    put(start, Content::Bytes(self.build.page().as_bytes().to_vec()));
                    let after = u64::try_from(HEADER_SIZE).unwrap_or(u64::MAX);
                    let payload = self.build.payload().to_vec();
                    put(start + after, Content::Bytes(payload));
                }
                kind if kind == Partition::root(Slot::A) => {
                    put(start, Content::File(self.build.root().into()));
                }
                // Zeros: slot B is empty, STATE and GRUB's parts are made by others.
                Partition::Esp
                | Partition::Bios
                | Partition::GrubEnv
                | Partition::BootA
                | Partition::BootB
                | Partition::RootA
                | Partition::RootB
                | Partition::State
                | Partition::Data => {}
            }
        }
        let end = partitions.last().map_or(MIB, |last| last.start + last.size);
        Ok(DiskPlan {
            id: id::guid(&seed, "disk"),
            sector_size: self.platform.sector_size(),
            // The backup table needs 33 sectors at the end, 17 of 4096 bytes.
            size: end + MIB,
            partitions,
            writes,
            esp: PlannedEsp {
                volume_id: id::volume(&seed),
                loader_path: self.platform.loader_path().into(),
                loader: self.loader.to_vec(),
            },
        })
    }
}

/// One after the other from the first mebibyte on.
fn lay_out(kinds: &[Partition], seed: &Sha256Digest) -> Vec<PlannedPartition> {
    let mut start = MIB;
    kinds
        .iter()
        .filter_map(|kind| {
            let size = kind.size()?;
            let planned = PlannedPartition {
                kind: *kind,
                id: id::guid(seed, kind.name()),
                start,
                size,
            };
            start += size;
            Some(planned)
        })
        .collect()
}

impl DiskPlan {
    /// Where a kind of partition is.
    pub fn partition(&self, kind: Partition) -> Option<&PlannedPartition> {
        self.partitions
            .iter()
            .find(|partition| partition.kind == kind)
    }

    /// Writes the image as a sparse raw file, which appears whole or not at all.
    pub fn write_raw(&self, path: &Path) -> Result<(), WriteDiskError> {
        let failed = |source| WriteDiskError::Write {
            path: path.into(),
            source,
        };
        let temporary = NamedTempFile::new_in(publish::folder_of(path)).map_err(failed)?;
        let file = temporary.as_file();
        file.set_len(self.size).map_err(failed)?;
        self.write_table(file)
            .map_err(|source| WriteDiskError::Table {
                path: path.into(),
                source,
            })?;
        if let Some(esp) = self.partition(Partition::Esp) {
            esp::format(file, esp.start, esp.size, self.sector_size, &self.esp).map_err(
                |source| WriteDiskError::Esp {
                    path: path.into(),
                    source,
                },
            )?;
        }
        for write in &self.writes {
            self.write_one(file, write).map_err(failed)?;
        }
        publish::publish(temporary, path).map_err(failed)?;
        Ok(())
    }

    fn write_one(&self, mut file: &File, write: &RawWrite) -> io::Result<()> {
        file.seek(SeekFrom::Start(write.offset))?;
        match &write.content {
            Content::Bytes(bytes) => file.write_all(bytes),
            Content::File(path) => io::copy(&mut File::open(path)?, &mut file).map(|_| ()),
        }
    }

    fn write_table(&self, mut file: &File) -> Result<(), gpt::GptError> {
        let block_size = match self.sector_size {
            SectorSize::Bytes512 => LogicalBlockSize::Lb512,
            SectorSize::Bytes4096 => LogicalBlockSize::Lb4096,
        };
        let sector = u64::from(self.sector_size.bytes());
        let last = u32::try_from(self.size / sector - 1).unwrap_or(u32::MAX);
        ProtectiveMBR::with_lb_size(last)
            .overwrite_lba0(&mut file)
            .map_err(io::Error::other)?;

        let mut table = gpt::GptConfig::new()
            .writable(true)
            .logical_block_size(block_size)
            .create_from_device(file, Some(uuid(self.id)))?;
        let entries: BTreeMap<u32, gpt::partition::Partition> = (1..)
            .zip(&self.partitions)
            .map(|(number, partition)| (number, entry(partition, sector)))
            .collect();
        table.update_partitions(entries)?;
        table.write()?;
        Ok(())
    }
}

fn entry(partition: &PlannedPartition, sector: u64) -> gpt::partition::Partition {
    gpt::partition::Partition {
        part_type_guid: Type {
            guid: uuid(partition.kind.type_guid()),
            os: OperatingSystem::None,
        },
        part_guid: uuid(partition.id),
        first_lba: partition.start / sector,
        last_lba: (partition.start + partition.size) / sector - 1,
        flags: 0,
        name: partition.kind.name().into(),
    }
}

fn uuid(guid: Guid) -> Uuid {
    Uuid::from_u128(guid.to_u128())
}

#[cfg(test)]
mod tests;
