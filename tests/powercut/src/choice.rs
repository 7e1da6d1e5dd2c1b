//! What the loaders make of a disk, without a machine.
//!
//! The EFI loader's own library reads the disk. GRUB is modelled: its scripts follow the same rule
//! ([`keelson_bootstate::decide`]) on the texts that stand beside the binary words. Both are
//! compared with the real ones in the suite `power_cut_sweep`.

use std::ops::Range;

use keelson_bootstate::grub_env::{self, BLOCK_SIZE, GrubRecord, RECORD_OFFSET};
use keelson_bootstate::layout::Partition;
use keelson_bootstate::{COPY_OFFSETS, Decision, GRUB_HASHES_OFFSET, Slot, Tries, decide};
use keelson_loader::disk::{Disk, DiskError};

use crate::target::payload;
use crate::{Image, NoPlace, Places, SECTOR, World};

/// A loader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loader {
    /// Our EFI program.
    Efi,
    /// GRUB, started by BIOS.
    Grub,
}

impl Loader {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Efi, Self::Grub];
}

/// What a loader does.
#[derive(Clone, Debug)]
pub struct Choice {
    /// The slot it starts.
    pub slot: Slot,
    /// The disk after it wrote that a try was taken, if it did.
    pub counted: Option<Image>,
}

/// Lets a loader choose; an error is a disk that needs a person.
pub fn choose(
    loader: Loader,
    disk: &Image,
    places: &Places,
    world: &World,
) -> Result<Choice, String> {
    match loader {
        Loader::Efi => efi::choose(disk, world),
        Loader::Grub => grub(disk, places, world).map_err(|error| error.to_string())?,
    }
}

/// Whether a loader would start what is in a slot.
pub fn accepts(loader: Loader, disk: &Image, places: &Places, world: &World, slot: Slot) -> bool {
    match loader {
        Loader::Efi => efi::accepts(disk, world, slot),
        Loader::Grub => grub_accepts(disk, places, world, slot).unwrap_or(false),
    }
}

fn grub(disk: &Image, places: &Places, world: &World) -> Result<Result<Choice, String>, NoPlace> {
    let state = places.of(Partition::BootState)?.start;
    let block = |at: u64| {
        let mut bytes = [0; BLOCK_SIZE];
        disk.read(at, &mut bytes)
            .map_or(Vec::new(), |()| bytes.to_vec())
    };
    let texts = COPY_OFFSETS.map(|copy| block(state + copy + RECORD_OFFSET));
    let record =
        GrubRecord::newest([&texts[0], &texts[1]]).and_then(|(record, _)| record.to_record());
    let file = grub_file(disk, &places.of(Partition::GrubEnv)?);
    let tries = file.map_or(Tries::Unreadable, |at| grub_env::decode_tries(&block(at)));

    let decision = decide(record.as_ref(), tries);
    let mut counted = None;
    let mut order = decision.order();
    if let (Decision::Trial { tries, .. }, Some(at)) = (decision, file) {
        let mut disk = disk.clone();
        disk.write(at, &grub_env::encode_tries(tries));
        counted = Some(disk);
    } else if let Decision::Trial { default, .. } = decision {
        order = [default, default.other()];
    }
    for slot in order {
        if grub_accepts(disk, places, world, slot)? {
            return Ok(Ok(Choice { slot, counted }));
        }
    }
    Ok(Err("GRUB starts no slot".to_owned()))
}

fn grub_file(disk: &Image, partition: &Range<u64>) -> Option<u64> {
    let bytes = crate::target::read_what_is_there(disk, partition.clone());
    let at = u64::try_from(grub_env::find(&bytes)?).ok()?;
    Some(partition.start + at)
}

/// The list of hashes is that of a build, and so is what it names: script and payload. Headers and
/// signatures are nothing to GRUB.
fn grub_accepts(disk: &Image, places: &Places, world: &World, slot: Slot) -> Result<bool, NoPlace> {
    let boot = places.of(Partition::boot(slot))?;
    let holds = |at: u64, bytes: &[u8]| {
        let mut found = vec![0; bytes.len()];
        disk.read(at, &mut found).is_ok() && found == bytes
    };
    let texts = boot.start + u64::try_from(GRUB_HASHES_OFFSET).unwrap_or(u64::MAX);
    Ok(world.builds.iter().any(|build| {
        holds(texts, &build.page.as_bytes()[GRUB_HASHES_OFFSET..])
            && holds(payload(&boot), &build.payload)
    }))
}

/// A disk in memory as the loader wants it.
pub(crate) struct Sectors {
    image: Image,
    written: bool,
}

impl Sectors {
    pub(crate) fn of(image: &Image) -> Self {
        Self {
            image: image.clone(),
            written: false,
        }
    }
}

impl Disk for Sectors {
    fn sector_size(&self) -> usize {
        512
    }

    fn last_sector(&self) -> u64 {
        self.image.size() / SECTOR - 1
    }

    fn read(&mut self, first: u64, into: &mut [u8]) -> Result<(), DiskError> {
        let read = self.image.read(first.saturating_mul(SECTOR), into);
        // The code that UEFI has for it.
        read.map_err(|error| DiskError::Read {
            sector: error.sector,
            status: 7,
        })
    }

    fn write(&mut self, first: u64, from: &[u8]) -> Result<(), DiskError> {
        self.image.write(first.saturating_mul(SECTOR), from);
        self.written = true;
        Ok(())
    }

    fn flush(&mut self) -> Result<(), DiskError> {
        Ok(())
    }
}

mod efi {
    use keelson_loader::slot::Verified;
    use keelson_loader::{boot, table};

    use super::{Choice, Image, Sectors, Slot, World};

    pub(super) fn choose(disk: &Image, world: &World) -> Result<Choice, String> {
        let mut disk = Sectors::of(disk);
        let outcome = boot::choose(&mut disk, &world.trust).map_err(|error| error.to_string())?;
        let Some(chosen) = outcome.chosen else {
            let lines: Vec<_> = outcome.report.lines().collect();
            return Err(lines.join("; "));
        };
        Ok(Choice {
            slot: chosen.slot,
            counted: disk.written.then_some(disk.image),
        })
    }

    pub(super) fn accepts(disk: &Image, world: &World, slot: Slot) -> bool {
        let mut disk = Sectors::of(disk);
        table::read(&mut disk).is_ok_and(|partitions| {
            Verified::read(&mut disk, &partitions, slot, &world.trust).is_ok()
        })
    }
}
