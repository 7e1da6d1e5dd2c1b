//! STATE and DATA: what they should be, and the decision what to do with what is there.

use std::ffi::CStr;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use keelson_bootstate::layout::Partition;

use crate::content::Content;
use crate::marker::{self, Mark};
use crate::size::Size;

/// Block size of the file systems we make. Fixed, because mkfs would take 1 KiB for STATE, which
/// does not work on sectors of 4096 bytes.
pub const BLOCK: u64 = 4096;

/// A file system grows when it gains at least this much: the last block group must be worth its
/// own tables, and a few blocks of rounding must not cost a call at every boot.
const WORTH_GROWING: u64 = 16 * 1024 * 1024;

/// What pods cannot take on DATA, in bytes: the datastore writes its log in files of 64 MB and makes
/// the next one ahead of time. A twentieth of the disk, but no less than works and no more than is
/// of use.
const RESERVE: RangeInclusive<u64> = 128 << 20..=1 << 30;

/// A file system of the node that can be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Volume {
    /// Configuration, identity, keys.
    State,
    /// /var.
    Data,
}

impl Volume {
    /// Its partition.
    pub fn partition(self) -> Partition {
        match self {
            Self::State => Partition::State,
            Self::Data => Partition::Data,
        }
    }

    /// Its name, which is the label of the file system too.
    pub fn name(self) -> &'static str {
        self.partition().name()
    }

    /// Where it is mounted.
    pub fn target(self) -> &'static Path {
        Path::new(match self {
            Self::State => "/system/state",
            Self::Data => "/var",
        })
    }

    /// Block with a copy of the superblock: the first of the second group.
    pub fn backup_superblock(self) -> &'static str {
        match self {
            Self::State => "8192",
            Self::Data => "32768",
        }
    }

    /// Words after `mkfs.ext4` but for the device, for a file system of so many blocks.
    pub fn mkfs_options(self, blocks: u64) -> Vec<String> {
        // The kernel initialises tables and journal in the background, and blocks are not
        // discarded: both would take seconds to minutes on SD cards and emulated machines.
        let mut options = vec![
            "-q",
            "-F",
            "-b",
            "4096",
            "-E",
            "lazy_itable_init=1,lazy_journal_init=1,nodiscard",
            "-L",
            self.name(),
        ];
        match self {
            // The smallest journal there is: a few small files, each written rarely. Small groups,
            // because one group of the usual size would leave no copy of the superblock.
            Self::State => options.extend(["-m", "0", "-J", "size=4", "-g", "8192"]),
            Self::Data => {}
        }
        let mut options: Vec<String> = options.into_iter().map(str::to_owned).collect();
        if self == Self::Data {
            options.extend(["-m".to_owned(), reserved_percent(blocks)]);
        }
        options
    }

    /// What ext4 is told when it is mounted (Documentation/admin-guide/ext4.rst of the kernel).
    pub fn mount_options(self) -> &'static CStr {
        match self {
            // A failing disk must not go on as if nothing had happened.
            Self::State => c"errors=remount-ro",
            // The reserve is the datastore's: by default it would be user 0's, and so any pod's
            // that runs as root.
            Self::Data => c"errors=remount-ro,resuid=920,resgid=920",
        }
    }
}

/// The share of [`RESERVE`] in so many blocks, as mkfs takes it.
fn reserved_percent(blocks: u64) -> String {
    let bytes = blocks.saturating_mul(BLOCK);
    let reserve = (bytes / 20).clamp(*RESERVE.start(), *RESERVE.end());
    // Whole megabytes do not overflow; mkfs takes no more than half.
    let parts = (reserve >> 20) * 1_000_000 / (bytes >> 20).max(1);
    let parts = parts.min(500_000);
    format!("{}.{:04}", parts / 10_000, parts % 10_000)
}

/// What was found on a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// By its first bytes.
    pub content: Content,
    /// The mark behind the file system.
    pub mark: Option<Mark>,
    /// Size of the partition in bytes.
    pub bytes: u64,
}

/// One thing to do with a volume, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VolumeStep {
    /// Say on disk that the file system is being made.
    Mark,
    /// Write zeros over everything but the mark.
    Overwrite,
    /// Make a file system of this many blocks and flush it.
    Make {
        /// Blocks of [`BLOCK`] bytes.
        blocks: u64,
    },
    /// The file system is complete.
    Unmark,
    /// Check a file system that was not left cleanly.
    Check,
    /// Mount it where it belongs.
    Mount,
    /// Let the mounted file system grow to this many blocks.
    Grow {
        /// Blocks of the file system's own size.
        blocks: u64,
    },
}

/// Why a partition is left alone.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Refusal {
    /// Not ours.
    #[error(
        "the partition holds {found}, which is not the node's; nothing was changed: save what you \
         need and clear the first MiB of the partition, or write the image to the disk again"
    )]
    Foreign {
        /// What was found, in words.
        found: String,
    },
    /// The partition is smaller than what is in it.
    #[error(
        "the file system has {file_system}, its partition only {partition}; the partition table \
         was changed or cut off: restore it"
    )]
    CutOff {
        /// Size of the file system.
        file_system: Size,
        /// Size of the partition.
        partition: Size,
    },
}

/// Decides what to do with a partition.
pub fn plan_volume(volume: Volume, found: &Found) -> Result<Vec<VolumeStep>, Refusal> {
    let make = |first: &[VolumeStep]| {
        let blocks = room(found.bytes) / BLOCK;
        let rest = [
            VolumeStep::Make { blocks },
            VolumeStep::Unmark,
            VolumeStep::Mount,
        ];
        Ok([first, &rest].concat())
    };
    match &found.content {
        // The mark stays until the new file system is complete, so a power cut in between begins
        // again. Only STATE is written over: that is where the keys are, and without them what
        // remains of the cluster's secrets on DATA cannot be read.
        _ if found.mark == Some(Mark::Erase) && volume == Volume::State => {
            make(&[VolumeStep::Overwrite])
        }
        // A person asked for it; or it was never finished, so never used: what is there may go.
        _ if found.mark.is_some() => make(&[]),
        Content::Blank => make(&[VolumeStep::Mark]),
        Content::Foreign(name) => Err(Refusal::Foreign {
            found: (*name).to_owned(),
        }),
        Content::Ext(superblock) if superblock.label != volume.name() => {
            let label = superblock.label.escape_debug();
            Err(Refusal::Foreign {
                found: format!("an ext4 file system with the label \"{label}\""),
            })
        }
        Content::Ext(superblock) if superblock.bytes() > found.bytes => Err(Refusal::CutOff {
            file_system: Size(superblock.bytes()),
            partition: Size(found.bytes),
        }),
        Content::Ext(superblock) => {
            let mut steps = Vec::new();
            if !superblock.clean {
                steps.push(VolumeStep::Check);
            }
            steps.push(VolumeStep::Mount);
            if room(found.bytes).saturating_sub(superblock.bytes()) >= WORTH_GROWING {
                steps.push(VolumeStep::Grow {
                    blocks: room(found.bytes) / superblock.block_size,
                });
            }
            Ok(steps)
        }
    }
}

/// Bytes for the file system: the mark's place stays free.
fn room(partition: u64) -> u64 {
    partition.saturating_sub(marker::TAIL)
}

/// Device of a partition: the kernel puts a `p` between a disk name that ends in a digit and the
/// number.
pub fn partition_device(disk: &str, number: u32) -> PathBuf {
    let separator = if disk.ends_with(|c: char| c.is_ascii_digit()) {
        "p"
    } else {
        ""
    };
    PathBuf::from(format!("{disk}{separator}{number}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::content::Superblock;

    const MIB: u64 = 1024 * 1024;

    fn ext4(label: &str, bytes: u64, clean: bool) -> Content {
        Content::Ext(Superblock {
            label: label.to_owned(),
            blocks: bytes / 4096,
            block_size: 4096,
            clean,
        })
    }

    fn plan(content: Content, mark: Option<Mark>) -> Result<Vec<VolumeStep>, Refusal> {
        plan_volume(
            Volume::Data,
            &Found {
                content,
                mark,
                bytes: 1024 * MIB,
            },
        )
    }

    #[test]
    fn the_reserve_is_a_twentieth_within_bounds() {
        for (mib, percent) in [
            (100, "50.0000"),
            (700, "18.2857"),
            (6758, "4.9866"),
            (32 << 10, "3.1250"),
            (16 << 20, "0.0061"),
        ] {
            assert_eq!(reserved_percent(mib << 8), percent, "{mib} MiB");
        }
    }

    #[test]
    fn blank_is_marked_and_made() {
        let blocks = (1024 * MIB - 4096) / 4096;
        assert_eq!(
            plan(Content::Blank, None).unwrap(),
            [
                VolumeStep::Mark,
                VolumeStep::Make { blocks },
                VolumeStep::Unmark,
                VolumeStep::Mount
            ]
        );
    }

    #[test]
    fn unfinished_is_made_again_whatever_it_holds() {
        for content in [
            Content::Blank,
            Content::Foreign("unknown data"),
            ext4("DATA", MIB, true),
        ] {
            assert!(matches!(
                plan(content, Some(Mark::Unfinished)).unwrap()[0],
                VolumeStep::Make { .. }
            ));
        }
    }

    #[test]
    fn what_is_to_be_erased_is_made_anew_and_state_written_over() {
        let steps = |volume| {
            let found = Found {
                content: ext4("STATE", 1024 * MIB - 4096, false),
                mark: Some(Mark::Erase),
                bytes: 1024 * MIB,
            };
            plan_volume(volume, &found).unwrap()
        };
        assert_eq!(steps(Volume::State)[0], VolumeStep::Overwrite);
        assert!(matches!(steps(Volume::State)[1], VolumeStep::Make { .. }));
        assert!(matches!(steps(Volume::Data)[0], VolumeStep::Make { .. }));
        assert_eq!(steps(Volume::Data)[1], VolumeStep::Unmark);
    }

    #[test]
    fn ours_is_only_mounted() {
        assert_eq!(
            plan(ext4("DATA", 1024 * MIB - 4096, true), None).unwrap(),
            [VolumeStep::Mount]
        );
        assert_eq!(
            plan(ext4("DATA", 1024 * MIB - 4096, false), None).unwrap(),
            [VolumeStep::Check, VolumeStep::Mount]
        );
        assert_eq!(
            plan(ext4("DATA", 512 * MIB, true), None).unwrap(),
            [
                VolumeStep::Mount,
                VolumeStep::Grow {
                    blocks: 1024 * 256 - 1
                }
            ]
        );
    }

    #[test]
    fn what_is_not_ours_is_left_alone() {
        for content in [
            Content::Foreign("an XFS file system"),
            ext4("", 1024 * MIB, true),
            ext4("STATE", 1024 * MIB, true),
        ] {
            assert!(matches!(plan(content, None), Err(Refusal::Foreign { .. })));
        }
        assert!(matches!(
            plan(ext4("DATA", 1025 * MIB, true), None),
            Err(Refusal::CutOff { .. })
        ));
    }

    #[test]
    fn devices() {
        assert_eq!(partition_device("/dev/vda", 8), Path::new("/dev/vda8"));
        assert_eq!(
            partition_device("/dev/nvme0n1", 11),
            Path::new("/dev/nvme0n1p11")
        );
        assert_eq!(
            partition_device("/dev/mmcblk0", 2),
            Path::new("/dev/mmcblk0p2")
        );
    }

    #[test]
    fn the_reserve_is_the_group_datastores() {
        let options = Volume::Data.mount_options().to_str().unwrap();
        for (name, option) in [("passwd", "resuid="), ("group", "resgid=")] {
            let path = format!(
                "{}/../../rootfs/tree/etc/{name}",
                env!("CARGO_MANIFEST_DIR")
            );
            let table = std::fs::read_to_string(path).unwrap();
            let entry = table
                .lines()
                .find_map(|line| line.strip_prefix("datastore:x:"))
                .unwrap();
            let id = entry.split(':').next().unwrap();
            assert!(
                options
                    .split(',')
                    .any(|word| word == format!("{option}{id}")),
                "{options} does not name {id} of {name}"
            );
        }
    }
}
