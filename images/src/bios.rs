//! What starts a machine by BIOS: boot code in the first sector of the disk, GRUB's core image in
//! the partition BIOS, and the file on GRUBENV in which GRUB counts tries.
//!
//! 1. [`CoreRecipe::new`] says, from the plan of a disk, what GRUB's core image is made of.
//! 2. Whoever has GRUB's tools writes the recipe's files ([`CoreRecipe::write_files`]) and runs
//!    `grub-mkimage` with [`CoreRecipe::arguments`]; it leaves [`CORE`].
//! 3. [`install`] adds everything to the plan.
//!
//! No tool of GRUB's touches the disk: the first sector has to name the sector where the core image
//! starts, and that one the next, which is all that `grub-install` would do. The decisions are in
//! `loader/grub/*.cfg`; what GRUB reads of a slot is in [`crate::grub`].

mod counter;

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::Path;

use keelson_bootstate::grub_env::{BLOCK_SIZE, RECORD_OFFSET, encode_tries};
use keelson_bootstate::layout::Partition;
use keelson_bootstate::{COPY_OFFSETS, Tries};
use tar::{Builder, EntryType, Header};

use crate::SectorSize;
use crate::disk::{Content, DiskPlan, PlannedPartition, RawWrite};
use crate::grub::{SECTOR, SECTOR_BYTES};

pub use counter::{FormatCounterError, volume};

/// The core image, in the folder in which `grub-mkimage` runs.
pub const CORE: &str = "core.img";
/// Where Debian's package grub-pc-bin keeps what core images are made of.
pub const MODULES_FOLDER: &str = "usr/lib/grub/i386-pc";
/// The boot code in that folder.
pub const BOOT_CODE: &str = "boot.img";

/// The rule by which a slot is chosen.
pub const CHOOSE: &str = include_str!("../../loader/grub/choose.cfg");
/// What the core image runs before there is anything else.
const EARLY: &str = include_str!("../../loader/grub/early.cfg");
/// What it runs then.
const MAIN: &str = include_str!("../../loader/grub/grub.cfg");
/// Where everything is, without the numbers.
const LAYOUT: &str = include_str!("../../loader/grub/layout.cfg");

/// Modules for the scripts; those they need come along.
pub const MODULES: [&str; 22] = [
    "biosdisk",
    "boot",
    "configfile",
    "echo",
    "fat",
    "gcry_crc",
    "gcry_sha256",
    "hashsum",
    "linux",
    "loadenv",
    "loopback",
    "memdisk",
    "part_gpt",
    "probe",
    "reboot",
    "regexp",
    "serial",
    "sleep",
    "smbios",
    "tar",
    "terminal",
    "test",
];

const EARLY_FILE: &str = "early.cfg";
const MEMORY_DISK_FILE: &str = "memdisk.tar";

/// GRUB's file on GRUBENV.
const COUNTER: &str = "grubenv";

/// Boot code ends where the disk's own number and the partition table start.
const BOOT_CODE_LEN: usize = 440;
/// Where the boot code has the sector of the core image.
const CORE_SECTOR: usize = 0x5c;
/// A jump over a check that a hard disk wants: some BIOSes say that they start a floppy.
const DRIVE_CHECK: usize = 0x66;
const JUMP: [u8; 2] = [0xeb, 0x05];
const NO_OPERATION: [u8; 2] = [0x90, 0x90];
/// Where the core image has the sector of its second one, and how many there are.
const REST_SECTOR: usize = 0x1f4;
/// Largest core image: it is loaded below the BIOS' own data.
const MAX_CORE: usize = 0x78000 - 0x8000;

/// What a core image is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CoreRecipe {
    /// Files of its memory disk. `grub.cfg` is run first.
    pub files: Vec<(&'static str, String)>,
    /// GRUB's modules.
    pub modules: Vec<&'static str>,
}

/// Why a disk cannot start by BIOS.
#[derive(Debug, thiserror::Error)]
pub enum InstallGrubError {
    /// The boot code is not what we know how to change.
    #[error(
        "{BOOT_CODE} is not the boot code of GRUB 2.12: take that version or learn the new one"
    )]
    BootCode,
    /// The core image is not what we know how to change.
    #[error("{CORE} is not a core image of GRUB 2.12: take that version or learn the new one")]
    Core,
    /// The core image is too large.
    #[error("{CORE} has {size} bytes, {MAX_CORE} can be loaded: leave modules out")]
    CoreTooLarge {
        /// Its size.
        size: usize,
    },
    /// The file system on GRUBENV could not be made.
    #[error("cannot make the file system of {}", Partition::GrubEnv.name())]
    GrubEnv(#[source] FormatCounterError),
    /// A partition that the scripts need.
    #[error("a disk that starts by BIOS needs a partition {name}")]
    NoPartition {
        /// Its name.
        name: &'static str,
    },
    /// No BIOS starts from such a disk.
    #[error("no BIOS starts from a disk with sectors of 4096 bytes")]
    SectorSize,
}

impl CoreRecipe {
    /// The core image for a disk with these partitions.
    pub fn new(plan: &DiskPlan) -> Result<Self, InstallGrubError> {
        let files = vec![
            ("grub.cfg", MAIN.to_owned()),
            ("choose.cfg", CHOOSE.to_owned()),
            ("layout.cfg", layout(plan)?),
        ];
        Ok(Self {
            files,
            modules: MODULES.to_vec(),
        })
    }

    /// Every script that goes into core images and slots, as an input of cache keys.
    pub fn scripts() -> String {
        [EARLY, MAIN, CHOOSE, LAYOUT, crate::grub::TEMPLATE].concat() + &MODULES.join(" ")
    }

    /// Writes what `grub-mkimage` reads.
    pub fn write_files(&self, folder: &Path) -> io::Result<()> {
        fs::write(folder.join(EARLY_FILE), early())?;
        fs::write(folder.join(MEMORY_DISK_FILE), self.memory_disk()?)
    }

    /// Arguments of `grub-mkimage`, which reads from and writes to `folder`; `modules` is the
    /// folder of GRUB's modules.
    pub fn arguments(&self, folder: &Path, modules: &Path) -> Vec<OsString> {
        let mut arguments: Vec<OsString> = ["--format", "i386-pc", "--directory"]
            .map(OsString::from)
            .to_vec();
        arguments.push(modules.into());
        for (option, file) in [
            ("--config", EARLY_FILE),
            ("--memdisk", MEMORY_DISK_FILE),
            ("--output", CORE),
        ] {
            arguments.push(option.into());
            arguments.push(folder.join(file).into());
        }
        // A prefix without a device: GRUB completes it with the disk the firmware started.
        arguments.extend(["--prefix", "/"].map(OsString::from));
        arguments.extend(self.modules.iter().map(OsString::from));
        arguments
    }

    fn memory_disk(&self) -> io::Result<Vec<u8>> {
        let mut archive = Builder::new(Vec::new());
        for (name, content) in &self.files {
            let mut header = Header::new_ustar();
            header.set_entry_type(EntryType::Regular);
            header.set_mode(0o444);
            header.set_mtime(0);
            header.set_size(u64::try_from(content.len()).map_err(io::Error::other)?);
            archive.append_data(&mut header, name, content.as_bytes())?;
        }
        archive.into_inner()
    }
}

/// Whether a disk is meant to start by BIOS.
pub fn has_place(plan: &DiskPlan) -> bool {
    plan.partition(Partition::Bios).is_some()
}

/// Adds boot code, core image and GRUB's counter to the plan of a disk.
pub fn install(plan: &mut DiskPlan, boot_code: &[u8], core: &[u8]) -> Result<(), InstallGrubError> {
    let bios = find(plan, Partition::Bios)?.start;
    let grub_env = find(plan, Partition::GrubEnv)?.start;
    if plan.sector_size != SectorSize::Bytes512 {
        return Err(InstallGrubError::SectorSize);
    }
    let sector = bios / SECTOR_BYTES;
    for (offset, bytes) in [
        (0, boot_code_for(boot_code, sector)?),
        (bios, core_for(core, sector)?),
        (grub_env, counter().map_err(InstallGrubError::GrubEnv)?),
    ] {
        let content = Content::Bytes(bytes);
        plan.writes.push(RawWrite { offset, content });
    }
    Ok(())
}

/// The first script without its comments, which its parser takes for commands.
fn early() -> String {
    let lines = EARLY.lines().filter(|line| !line.starts_with('#'));
    lines.map(|line| format!("{line}\n")).collect()
}

/// What GRUBENV holds on a fresh disk, without the zeros behind it.
fn counter() -> Result<Vec<u8>, FormatCounterError> {
    let mut bytes = volume(&[(COUNTER.to_owned(), encode_tries(Tries::FRESH))])?;
    let used = bytes.iter().rposition(|byte| *byte != 0).unwrap_or(0) + 1;
    bytes.truncate(used.next_multiple_of(SECTOR));
    Ok(bytes)
}

/// The part of the first sector in front of the partition table.
fn boot_code_for(boot_code: &[u8], core: u64) -> Result<Vec<u8>, InstallGrubError> {
    let expected = [
        (CORE_SECTOR, &1u64.to_le_bytes()[..]),
        (DRIVE_CHECK, &JUMP),
        (SECTOR - 2, &[0x55, 0xaa]),
    ];
    let known = expected
        .iter()
        .all(|(at, bytes)| boot_code.get(*at..at + bytes.len()) == Some(bytes));
    if boot_code.len() != SECTOR || !known {
        return Err(InstallGrubError::BootCode);
    }
    let mut code = boot_code.to_vec();
    code.truncate(BOOT_CODE_LEN);
    put(&mut code, CORE_SECTOR, &core.to_le_bytes());
    put(&mut code, DRIVE_CHECK, &NO_OPERATION);
    Ok(code)
}

/// The core image with the place of its second sector, in whole sectors.
fn core_for(core: &[u8], sector: u64) -> Result<Vec<u8>, InstallGrubError> {
    if core.len() > MAX_CORE {
        return Err(InstallGrubError::CoreTooLarge { size: core.len() });
    }
    let mut core = core.to_vec();
    core.resize(core.len().next_multiple_of(SECTOR), 0);
    // grub-mkimage counts the sectors and leaves their place, a fixed 2, to whoever installs.
    let rest = u16::try_from((core.len() / SECTOR).saturating_sub(1)).unwrap_or(u16::MAX);
    let expected = [&2u64.to_le_bytes()[..], &rest.to_le_bytes()].concat();
    if core.get(REST_SECTOR..REST_SECTOR + expected.len()) != Some(&expected[..]) {
        return Err(InstallGrubError::Core);
    }
    put(&mut core, REST_SECTOR, &(sector + 1).to_le_bytes());
    Ok(core)
}

/// `layout.cfg` of a disk.
fn layout(plan: &DiskPlan) -> Result<String, InstallGrubError> {
    let mut text = LAYOUT.replace("@FILE@", COUNTER);
    for kind in [
        Partition::GrubEnv,
        Partition::BootState,
        Partition::BootA,
        Partition::BootB,
    ] {
        let PlannedPartition {
            id, start, size, ..
        } = find(plan, kind)?;
        let number = plan.partitions.iter().position(|one| one.kind == kind);
        let place = blocks(*start, *size);
        for (what, value) in [
            ("", format!("gpt{}", number.unwrap_or_default() + 1)),
            (":place", place),
            (":guid", id.to_string()),
        ] {
            text = text.replace(&format!("@{}{what}@", kind.name()), &value);
        }
    }
    for (name, offset) in ["@FIRST@", "@SECOND@"].into_iter().zip(COPY_OFFSETS) {
        let len = u64::try_from(BLOCK_SIZE).unwrap_or_default();
        text = text.replace(name, &blocks(offset + RECORD_OFFSET, len));
    }
    Ok(text)
}

fn find(plan: &DiskPlan, kind: Partition) -> Result<&PlannedPartition, InstallGrubError> {
    let name = kind.name();
    plan.partition(kind)
        .ok_or(InstallGrubError::NoPartition { name })
}

fn blocks(offset: u64, len: u64) -> String {
    format!("{}+{}", offset / SECTOR_BYTES, len / SECTOR_BYTES)
}

fn put(bytes: &mut [u8], offset: usize, new: &[u8]) {
    for (to, from) in bytes.iter_mut().skip(offset).zip(new) {
        *to = *from;
    }
}

#[cfg(test)]
mod tests;
