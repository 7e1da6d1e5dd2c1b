//! The search: from a fresh disk through every operation and every cut.

use std::collections::{HashMap, HashSet};
use std::rc::Rc;

use keelson_bootstate::plan::Stored;
use keelson_bootstate::{MAX_SEQUENCE, Slot, TRIES_PER_TRIAL};

use crate::disk::{Cell, Disk, GARBAGE, Part, World, cuts};
use crate::loader::Loader;
use crate::mistakes::Mistake;
use crate::node::{Carried, Operation, carry_out, operations};

/// More states than this and the search would not end: a mistake in the model.
const MOST_STATES: usize = 2_000_000;

/// A machine with its power off, or running from a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct State {
    disk: Disk,
    running: Option<Slot>,
    known: Known,
}

/// What somebody knows who saw all operations, and the disk need not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Known {
    /// The slots that may be started, A and B.
    allowed: [bool; 2],
    /// How often the trial was started.
    starts: u8,
    /// The trial that has begun and must be started next.
    due: Option<Slot>,
    /// Whether a slot was damaged; once is enough.
    damaged: bool,
}

/// How a state came about.
#[derive(Debug, Clone, Copy)]
#[expect(dead_code, reason = "read by people, in the history of a violation")]
enum Event {
    Fresh,
    Started(Slot),
    CutWhileCounting,
    Cut(Operation),
    Done(Operation),
    CutAfter(Operation),
    Damaged(Slot),
    Reboot,
}

/// What a search found.
#[derive(Debug)]
pub(crate) enum Found {
    /// Nothing wrong.
    Nothing {
        /// Different disks.
        disks: usize,
        /// Cuts of power.
        cuts: usize,
        /// Boots from different states.
        boots: usize,
    },
    /// Something wrong: what, and how it came about.
    Violation(String),
}

pub(crate) struct Search {
    world: World,
    loader: Loader,
    mistake: Option<Mistake>,
    states: Vec<(State, usize, Event)>,
    seen: HashSet<State>,
    carried: HashMap<(Disk, Operation), Rc<Carried>>,
    cuts: usize,
    boots: usize,
}

impl Search {
    pub(crate) fn new(world: World, loader: Loader, mistake: Option<Mistake>) -> Self {
        Self {
            world,
            loader,
            mistake,
            states: Vec::new(),
            seen: HashSet::new(),
            carried: HashMap::new(),
            cuts: 0,
            boots: 0,
        }
    }

    /// Searches from a fresh disk whose record has this sequence.
    pub(crate) fn run(mut self, sequence: u32) -> Found {
        let disk = self.world.fresh_disk(sequence);
        let disk = self.world.plain(&disk, self.loader);
        let known = Known {
            allowed: [true, false],
            starts: 0,
            due: None,
            damaged: false,
        };
        self.add(0, Event::Fresh, disk, None, known);
        let mut at = 0;
        while let Some((state, _, _)) = self.states.get(at).copied() {
            let went_on = match state.running {
                None => self.boot(at, &state),
                Some(slot) => self.run_node(at, &state, slot),
            };
            if let Err(violation) = went_on {
                let history = self.history(at);
                return Found::Violation(format!("{violation} ({history})"));
            }
            assert!(self.states.len() < MOST_STATES, "the search does not end");
            at += 1;
        }
        let mut disks: Vec<&Disk> = self.states.iter().map(|(state, ..)| &state.disk).collect();
        disks.sort_unstable();
        disks.dedup();
        Found::Nothing {
            disks: disks.len(),
            cuts: self.cuts,
            boots: self.boots,
        }
    }

    /// Power comes on.
    fn boot(&mut self, at: usize, state: &State) -> Result<(), String> {
        let State { disk, known, .. } = state;
        self.boots += 1;
        self.check_texts(disk)?;
        let boot = self.loader.boot(&mut self.world, disk, self.mistake);
        let Some((slot, trial)) = boot.started else {
            return Err("no slot is started".into());
        };
        if self.loader.complete(&self.world, disk, slot).is_none() {
            return Err(format!("slot {slot} is started but not complete"));
        }
        let usable = |slot: &Slot| {
            known.allowed[*slot as usize]
                && self.loader.complete(&self.world, disk, *slot).is_some()
        };
        // With nothing else left, the other slot is right.
        if !known.allowed[slot as usize] && Slot::ALL.iter().any(usable) {
            return Err(format!(
                "slot {slot} is started, which is neither the default nor on trial"
            ));
        }
        if known.due.is_some_and(|due| due != slot || !trial) {
            return Err("a trial gets no start".into());
        }
        let starts = known.starts + u8::from(trial);
        if starts > TRIES_PER_TRIAL {
            return Err(format!("a trial is started {starts} times"));
        }
        self.damage(at, state, slot)?;

        let due = None;
        for cut in cuts(disk, &boot.counted) {
            self.cuts += 1;
            let cut = self.world.plain(&cut, self.loader);
            self.add(
                at,
                Event::CutWhileCounting,
                cut,
                None,
                Known { due, ..*known },
            );
        }
        let mut counted = *disk;
        for (cell, value) in boot.counted {
            counted[cell.index()] = value;
        }
        let counted = self.world.plain(&counted, self.loader);
        let known = Known {
            starts,
            due,
            ..*known
        };
        self.add(at, Event::Started(slot), counted, Some(slot), known);
        Ok(())
    }

    /// GRUB may know less than the node, never more.
    fn check_texts(&mut self, disk: &Disk) -> Result<(), String> {
        let text = self
            .world
            .newest_text(disk)
            .map(|(text, _)| text.sequence());
        let record = self.world.stored(disk).ok();
        let record = record.map(|stored| stored.record().sequence());
        // The highest sequence stays until it is overwritten by a low one.
        match (text, record) {
            (Some(text), Some(record)) if text > record && text != MAX_SEQUENCE => {
                Err("GRUB's text is ahead of the record".into())
            }
            _ => Ok(()),
        }
    }

    /// What follows when something is damaged while the power is off.
    fn damage(&mut self, at: usize, state: &State, started: Slot) -> Result<(), String> {
        let State { disk, known, .. } = state;
        let mut damaged = *disk;
        damaged[Part::Payload.of(started).index()] = GARBAGE;
        let boot = self.loader.boot(&mut self.world, &damaged, self.mistake);
        if let Some((other, _)) = boot.started {
            if self.loader.complete(&self.world, &damaged, other).is_none() {
                return Err(format!(
                    "with slot {started} damaged, slot {other} is started but not complete"
                ));
            }
            if !known.damaged {
                let known = Known {
                    due: None,
                    damaged: true,
                    ..*known
                };
                let damaged = self.world.plain(&damaged, self.loader);
                self.add(at, Event::Damaged(started), damaged, None, known);
            }
        }
        let stored = self.world.stored(disk);
        if self.mistake.is_some() || !stored.is_ok_and(|stored| stored.is_whole()) {
            return Ok(());
        }
        for cell in 0..6 {
            let mut damaged = *disk;
            damaged[cell] = GARBAGE;
            let boot = self.loader.boot(&mut self.world, &damaged, None);
            if boot.started.map(|(slot, _)| slot) != Some(started) {
                return Err(format!(
                    "with cell {cell} damaged, another slot is started than {started}"
                ));
            }
        }
        Ok(())
    }

    /// The node runs and does what it may.
    fn run_node(&mut self, at: usize, state: &State, running: Slot) -> Result<(), String> {
        let State { disk, known, .. } = state;
        self.add(at, Event::Reboot, *disk, None, *known);
        let stored = self.world.stored(disk);
        let stored = stored.map_err(|error| format!("no boot record is left: {error}"))?;
        for operation in operations(&self.world, self.loader, disk, &stored, running) {
            let carried = self.carry_out(disk, &stored, operation);
            for (cut, began) in &carried.cuts {
                let known = known.after_cut(operation, self.mistake, *began);
                self.add(at, Event::Cut(operation), *cut, None, known);
            }
            let known = self.known_after(known, operation, &carried.disk)?;
            for cut in &carried.after {
                self.add(at, Event::CutAfter(operation), *cut, None, known);
            }
            let running = Some(running);
            self.add(at, Event::Done(operation), carried.disk, running, known);
        }
        Ok(())
    }

    /// What an operation does to a disk is the same whatever is known.
    fn carry_out(&mut self, disk: &Disk, stored: &Stored, operation: Operation) -> Rc<Carried> {
        if let Some(carried) = self.carried.get(&(*disk, operation)) {
            return Rc::clone(carried);
        }
        let carried = carry_out(
            &mut self.world,
            self.loader,
            disk,
            stored,
            operation,
            self.mistake,
        );
        self.cuts += carried.tried;
        let carried = Rc::new(carried);
        self.carried.insert((*disk, operation), Rc::clone(&carried));
        carried
    }

    /// What is known once an operation is over.
    fn known_after(
        &mut self,
        known: &Known,
        operation: Operation,
        disk: &Disk,
    ) -> Result<Known, String> {
        let only = |slot: Slot| [slot == Slot::A, slot == Slot::B];
        let stored = self.world.stored(disk);
        let stored = stored.map_err(|error| format!("no boot record is left: {error}"))?;
        let record = stored.record();
        let none = Known {
            allowed: only(record.default_slot()),
            starts: 0,
            due: None,
            damaged: known.damaged,
        };
        Ok(match operation {
            // Which way an operation went that was cut is clear from now on.
            Operation::Heal => {
                let mut allowed = none.allowed;
                if let Some(trial) = record.trial() {
                    allowed[trial as usize] = true;
                }
                if (0..2).any(|slot| allowed[slot] && !known.allowed[slot]) {
                    return Err("healing brought back what was over".into());
                }
                Known { allowed, ..*known }
            }
            Operation::Install(..) if self.mistake == Some(Mistake::RecordFirst) => Known {
                allowed: [true; 2],
                ..none
            },
            Operation::Install(..) | Operation::Withdraw => none,
            Operation::StartTrial(slot) => Known {
                allowed: [true; 2],
                due: Some(slot),
                ..none
            },
            Operation::MarkGood(slot) => Known {
                allowed: only(slot),
                ..none
            },
        })
    }

    /// Notes a state to go on from. Its disk is plain.
    fn add(&mut self, from: usize, event: Event, disk: Disk, running: Option<Slot>, known: Known) {
        let state = State {
            disk,
            running,
            known,
        };
        if self.seen.insert(state) {
            self.states.push((state, from, event));
        }
    }

    /// What led to a state, the last first.
    fn history(&self, at: usize) -> String {
        let (mut at, mut events) = (at, Vec::new());
        loop {
            let (_, from, event) = self.states[at];
            events.push(format!("{event:?}"));
            if at == from {
                break events.join(" < ");
            }
            at = from;
        }
    }
}

impl Known {
    /// What is known after a cut in an operation. `began`: its record with a trial is the one that
    /// counts.
    fn after_cut(&self, operation: Operation, mistake: Option<Mistake>, began: bool) -> Self {
        let mut allowed = self.allowed;
        match (operation, mistake) {
            (Operation::StartTrial(slot) | Operation::MarkGood(slot), _)
            // Here the trial is wanted, only too early.
            | (Operation::Install(slot, _), Some(Mistake::RecordFirst)) => {
                allowed[slot as usize] = true;
            }
            _ => {}
        }
        let starts = if began { 0 } else { self.starts };
        Self {
            allowed,
            starts,
            due: None,
            ..*self
        }
    }
}

/// Cells of the record are the first six.
const _: () = assert!(Cell::Tries.index() == 6);
