//! The loaders: what each of them reads, how it counts, and what it starts.

use keelson_bootstate::{BootRecord, Copy, Decision, Slot, Tries, decide};

use crate::disk::{Build, Cell, Disk, Part, Value, World};
use crate::mistakes::Mistake;

/// Which loader starts the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Loader {
    /// Reads the binary record and TRIES.
    Efi,
    /// Reads the text and GRUBENV.
    Grub,
}

/// What a boot comes to.
#[derive(Debug, Clone)]
pub(crate) struct Boot {
    /// What is written and flushed before the slot is started.
    pub(crate) counted: Vec<(Cell, Value)>,
    /// The slot that is started, and whether as a trial.
    pub(crate) started: Option<(Slot, bool)>,
}

impl Loader {
    /// Boots from a disk.
    pub(crate) fn boot(self, world: &mut World, disk: &Disk, mistake: Option<Mistake>) -> Boot {
        let (record, mut tries) = self.read(world, disk);
        if mistake == Some(Mistake::GarbageTriesAreFresh) && tries == Tries::Unreadable {
            tries = Tries::FRESH;
        }
        let decision = decide(record.as_ref(), tries);
        let started = decision
            .order()
            .into_iter()
            .find(|slot| self.verified(world, disk, *slot).is_some());
        let (counted, started) = match (decision, started) {
            (Decision::Trial { slot, tries, .. }, Some(started)) if slot == started => {
                (self.count(world, tries), Some((started, true)))
            }
            (_, started) => (Vec::new(), started.map(|slot| (slot, false))),
        };
        if mistake == Some(Mistake::LoaderDoesNotCount) {
            let counted = Vec::new();
            return Boot { counted, started };
        }
        Boot { counted, started }
    }

    /// The record and the tries it lives by.
    fn read(self, world: &mut World, disk: &Disk) -> (Option<BootRecord>, Tries) {
        match self {
            Self::Efi => {
                let [first, second] = Copy::ALL.map(|copy| world.record(disk, copy));
                let newest = match (first, second) {
                    (Some(one), Some(two)) if two.sequence() > one.sequence() => Some(two),
                    (Some(one), _) => Some(one),
                    (None, two) => two,
                };
                (newest, world.tries(disk))
            }
            Self::Grub => {
                let newest = world.newest_text(disk);
                let record = newest.and_then(|(record, _)| record.to_record());
                (record, world.grub_tries(disk))
            }
        }
    }

    /// The build that a slot holds as far as the loader can tell: header and payload fit together.
    /// Nobody reads the root part before Linux does.
    pub(crate) fn verified(self, world: &World, disk: &Disk, slot: Slot) -> Option<Build> {
        let parts = match self {
            Self::Efi => &[Part::Header, Part::Payload][..],
            Self::Grub => &[Part::GrubHashes, Part::GrubScript, Part::Payload][..],
        };
        let build = world.build_at(disk, slot, Part::Payload)?;
        parts
            .iter()
            .all(|part| world.build_at(disk, slot, *part) == Some(build))
            .then_some(build)
    }

    /// The build of a slot that holds what Linux needs as well.
    pub(crate) fn complete(self, world: &World, disk: &Disk, slot: Slot) -> Option<Build> {
        let build = self.verified(world, disk, slot)?;
        (world.build_at(disk, slot, Part::Root) == Some(build)).then_some(build)
    }

    /// The part of a slot that it reads first.
    pub(crate) const fn first_part(self) -> Part {
        match self {
            Self::Efi => Part::Header,
            Self::Grub => Part::GrubHashes,
        }
    }

    /// Cells that only the other loader reads.
    pub(crate) const fn foreign(self) -> &'static [Cell] {
        match self {
            Self::Efi => &[
                Cell::GrubTries(0),
                Cell::GrubTries(1),
                Cell::GrubHashes(Slot::A),
                Cell::GrubHashes(Slot::B),
                Cell::GrubScript(Slot::A),
                Cell::GrubScript(Slot::B),
            ],
            Self::Grub => &[Cell::Tries, Cell::Header(Slot::A), Cell::Header(Slot::B)],
        }
    }

    fn count(self, world: &mut World, tries: Tries) -> Vec<(Cell, Value)> {
        match self {
            Self::Efi => vec![world.tries_write(tries)],
            Self::Grub => world.grub_tries_writes(tries).to_vec(),
        }
    }
}
