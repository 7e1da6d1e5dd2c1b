//! The node: which operations it may do, and their steps as writes.

use keelson_bootstate::plan::{self, Step, Stored};
use keelson_bootstate::{BootRecord, Slot, Tries};

use crate::disk::{BLANK, BUILDS, Build, Cell, Disk, Part, Value, World, build_id, cuts};
use crate::loader::Loader;
use crate::mistakes::Mistake;

/// What a node may do with its slots.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Operation {
    Heal,
    Install(Slot, Build),
    StartTrial(Slot),
    MarkGood(Slot),
    Withdraw,
}

/// An operation carried out.
#[derive(Debug)]
pub(crate) struct Carried {
    /// Disks that a cut of power during it can leave, and whether a record counts there that it
    /// wrote with a trial.
    pub(crate) cuts: Vec<(Disk, bool)>,
    /// How many cuts there were before equal ones became one.
    pub(crate) tried: usize,
    /// The disk when it is over.
    pub(crate) disk: Disk,
    /// Disks that a cut right after it can leave: only that one, if all was flushed.
    pub(crate) after: Vec<Disk>,
}

/// All operations of a node that runs from a slot of this disk.
pub(crate) fn operations(
    world: &World,
    loader: Loader,
    disk: &Disk,
    stored: &Stored,
    running: Slot,
) -> Vec<Operation> {
    let record = stored.record();
    let (default, other) = (record.default_slot(), record.default_slot().other());
    let mut operations = vec![Operation::Heal];
    if record.trial().is_some() {
        operations.push(Operation::Withdraw);
        if record.trial() == Some(running) {
            operations.push(Operation::MarkGood(running));
        }
    }
    let fits = |slot| loader.complete(world, disk, slot).is_some();
    if running != default && record.trial().is_none() && !fits(default) {
        // The default slot is damaged: what runs takes its place, so that it can be repaired.
        operations.push(Operation::MarkGood(running));
    }
    if running == default {
        operations.push(Operation::Install(other, next_build(world, disk)));
        if fits(other) {
            // A new build, the old one again, or a trial that failed once more.
            operations.push(Operation::StartTrial(other));
        }
    }
    operations
}

/// A build that no slot holds: with two slots there are two at most, as a slot that holds parts of
/// several is not looked into.
fn next_build(world: &World, disk: &Disk) -> Build {
    let held = |build: &Build| {
        Slot::ALL.iter().any(|slot| {
            Part::ALL
                .iter()
                .any(|part| world.build_at(disk, *slot, *part) == Some(*build))
        })
    };
    (1..=BUILDS).find(|build| !held(build)).unwrap_or(BUILDS)
}

/// The steps of an operation.
fn steps(
    world: &World,
    loader: Loader,
    disk: &Disk,
    stored: &Stored,
    operation: Operation,
) -> Vec<Step> {
    match operation {
        Operation::Heal => plan::heal(stored).collect(),
        Operation::Install(slot, _) => plan::install(stored, slot).unwrap().collect(),
        Operation::StartTrial(slot) => {
            let build = loader.complete(world, disk, slot).unwrap();
            let plan = plan::start_trial(stored, slot, build_id(build), true);
            plan.unwrap().collect()
        }
        Operation::MarkGood(slot) => plan::mark_good(stored, slot).collect(),
        Operation::Withdraw => plan::withdraw(stored).collect(),
    }
}

/// Carries out an operation.
pub(crate) fn carry_out(
    world: &mut World,
    loader: Loader,
    disk: &Disk,
    stored: &Stored,
    operation: Operation,
    mistake: Option<Mistake>,
) -> Carried {
    let mut steps = steps(world, loader, disk, stored, operation);
    if let Some(mistake) = mistake {
        steps = mistake.applied(stored, operation, steps);
    }
    let mut now = *disk;
    let mut left = Vec::new();
    let mut trials: Vec<BootRecord> = Vec::new();
    let mut unflushed: Vec<(Cell, Value)> = Vec::new();
    for step in steps {
        if step == Step::Flush {
            left.extend(cuts(&now, &unflushed));
            for (cell, value) in unflushed.drain(..) {
                now[cell.index()] = value;
            }
        } else {
            unflushed.extend(writes(world, operation, step));
        }
        if let Step::WriteRecord { record, .. } = step {
            trials.extend(record.trial().map(|_| record));
        }
    }
    let after = cuts(&now, &unflushed);
    for (cell, value) in unflushed {
        now[cell.index()] = value;
    }
    let tried = left.len() + after.len();
    let mut cuts: Vec<(Disk, bool)> = left
        .iter()
        .map(|cut| {
            let counts = world.stored(cut).ok();
            let began = counts.is_some_and(|stored| trials.contains(stored.record()));
            (world.plain(cut, loader), began)
        })
        .collect();
    cuts.sort_unstable();
    cuts.dedup();
    Carried {
        cuts,
        tried,
        disk: world.plain(&now, loader),
        after: after.iter().map(|cut| world.plain(cut, loader)).collect(),
    }
}

/// What a step writes.
fn writes(world: &mut World, operation: Operation, step: Step) -> Vec<(Cell, Value)> {
    let build = match operation {
        Operation::Install(_, build) => build,
        Operation::Heal
        | Operation::StartTrial(_)
        | Operation::MarkGood(_)
        | Operation::Withdraw => 0,
    };
    let page = [Part::Header, Part::GrubHashes, Part::GrubScript];
    match step {
        Step::ClearTries => vec![world.tries_write(Tries::FRESH)],
        Step::ClearGrubTries => world.grub_tries_writes(Tries::FRESH).to_vec(),
        Step::Flush | Step::ReadBackContent(_) | Step::ReadBackHeader(_) => Vec::new(),
        Step::InvalidateHeader(slot) => page.map(|part| (part.of(slot), BLANK)).to_vec(),
        Step::WriteHeader(slot) => page
            .map(|part| (part.of(slot), world.part(part, build)))
            .to_vec(),
        Step::WritePayload(slot) => {
            vec![(Part::Payload.of(slot), world.part(Part::Payload, build))]
        }
        Step::WriteRoot(slot) => vec![(Part::Root.of(slot), world.part(Part::Root, build))],
        Step::WriteRecord { copy, record } => vec![world.record_write(copy, &record)],
        Step::WriteGrubRecord { copy, record } => world.text_writes(copy, &record).to_vec(),
    }
}
