//! What is written in which order: every operation on slots as steps, which the node executes one
//! by one and the tests cut anywhere.
//!
//! Each plan starts by healing: both copies and both forms of the boot record are made to say the
//! same. Only then does the operation follow. A new record goes to the copy that does not count;
//! its binary form, which is the truth, is on the disk before GRUB's text is touched, so that GRUB
//! may know less than the node but never more.
//!
//! Executing is dumb: do the steps in order, stop at the first error. A plan that was stopped
//! anywhere leaves a disk from which every plan can be made again.

use core::fmt;

use crate::grub_env::{GrubRecord, RECORD_OFFSET};
use crate::record::{BootRecord, Copy, MAX_SEQUENCE, NoRecord, newest_record};
use crate::slot::{BuildId, Slot};

/// One step of a plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Write the TRIES sector of [`crate::Tries::FRESH`].
    ClearTries,
    /// Write the block of [`crate::grub_env::encode_tries`] with no try used over GRUB's file, in
    /// place.
    ClearGrubTries,
    /// Wait until everything written before is on the medium.
    Flush,
    /// Write zeros over the page in front of the payload: the slot holds nothing.
    InvalidateHeader(Slot),
    /// Read back payload and root part from the medium and compare their hashes.
    ReadBackContent(Slot),
    /// Read back the page from the medium and compare it.
    ReadBackHeader(Slot),
    /// Write the text of a record behind a copy.
    WriteGrubRecord {
        /// Which copy.
        copy: Copy,
        /// What it says.
        record: BootRecord,
    },
    /// Write the page in front of the payload.
    WriteHeader(Slot),
    /// Write the payload behind the page.
    WritePayload(Slot),
    /// Write the binary sector of a copy.
    WriteRecord {
        /// Which copy.
        copy: Copy,
        /// What it says.
        record: BootRecord,
    },
    /// Write the root part.
    WriteRoot(Slot),
}

/// Why there is no plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PlanError {
    /// The slot is the default: writing to it would leave nothing that is known to be good, and it
    /// needs no trial.
    DefaultSlot(Slot),
}

/// What BOOTSTATE holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stored {
    record: BootRecord,
    copy: Copy,
    other_is_whole: bool,
    text_is_whole: bool,
}

/// The record that counts at some point of a plan, and where it is.
#[derive(Debug, Clone, Copy)]
struct Newest {
    record: BootRecord,
    copy: Copy,
}

impl Stored {
    /// Looks at both copies: for each, the bytes of BOOTSTATE from [`Copy::offset`] on to the end
    /// of its text.
    pub fn read(copies: [&[u8]; 2]) -> Result<Self, NoRecord> {
        let [first, second] = copies;
        let (record, copy) = newest_record(first, second)?;
        let text = GrubRecord::from(&record).encode();
        let text_is_whole = |copy: &[u8]| {
            usize::try_from(RECORD_OFFSET)
                .ok()
                .and_then(|offset| copy.get(offset..))
                .is_some_and(|rest| rest.starts_with(&text))
        };
        let (this, other) = match copy {
            Copy::First => (first, second),
            Copy::Second => (second, first),
        };
        Ok(Self {
            record,
            copy,
            other_is_whole: BootRecord::decode(other) == Ok(record) && text_is_whole(other),
            text_is_whole: text_is_whole(this),
        })
    }

    /// The record that counts.
    pub const fn record(&self) -> &BootRecord {
        &self.record
    }

    const fn newest(&self) -> Newest {
        Newest {
            record: self.record,
            copy: self.copy,
        }
    }

    /// Whether copies and forms say the same, so that [`heal`] has nothing to do.
    pub const fn is_whole(&self) -> bool {
        self.other_is_whole && self.text_is_whole
    }
}

/// Makes all copies and forms say what the record that counts says. To be done at every boot.
pub fn heal(stored: &Stored) -> impl Iterator<Item = Step> + Clone + use<> {
    let Stored {
        record,
        copy,
        other_is_whole,
        text_is_whole,
    } = *stored;
    // The text of the copy that counts first: until it is whole, GRUB lives by the other copy's.
    let text = [Step::WriteGrubRecord { copy, record }, Step::Flush]
        .into_iter()
        .filter(move |_| !text_is_whole);
    let other = write(copy.other(), record)
        .into_iter()
        .filter(move |_| !other_is_whole);
    text.chain(other)
}

/// Writes both copies anew where neither counts, which no cut of power leaves: with the running
/// slot as the default. `texts` are GRUB's blocks of both copies, so that the new record counts for
/// GRUB too.
pub fn rebuild(
    running: Slot,
    build: Option<BuildId>,
    texts: [&[u8]; 2],
) -> impl Iterator<Item = Step> + Clone + use<> {
    let known = GrubRecord::newest(texts);
    let after = known.map_or(0, |(record, _)| record.sequence());
    let record = BootRecord::rebuilt(after, running, build);
    // What GRUB lives by is overwritten last.
    let last = known.map_or(Copy::Second, |(_, copy)| copy);
    let first = write(last.other(), record);
    first.into_iter().chain(write(last, record))
}

/// Installs a build to a slot. A trial of it ends first; the slot holds nothing until all of the
/// new build is on the medium and was read back.
pub fn install(
    stored: &Stored,
    slot: Slot,
) -> Result<impl Iterator<Item = Step> + Clone + use<>, PlanError> {
    let record = stored.record;
    not_the_default(&record, slot)?;
    let mut now = stored.newest();
    let forgotten = record.successor().without_trial().with_build(slot, None);
    let needed = record.trial().is_some() || record.build(slot).is_some();
    let forget = needed.then(|| now.replace(forgotten));
    Ok(heal(stored).chain(forget.into_iter().flatten()).chain([
        Step::InvalidateHeader(slot),
        Step::Flush,
        Step::WriteRoot(slot),
        Step::WritePayload(slot),
        Step::Flush,
        Step::ReadBackContent(slot),
        Step::WriteHeader(slot),
        Step::Flush,
        Step::ReadBackHeader(slot),
    ]))
}

/// Puts an installed slot on trial. `grub`: the disk has a GRUBENV.
pub fn start_trial(
    stored: &Stored,
    slot: Slot,
    build: BuildId,
    grub: bool,
) -> Result<impl Iterator<Item = Step> + Clone + use<>, PlanError> {
    let record = stored.record;
    not_the_default(&record, slot)?;
    let mut now = stored.newest();
    // Clearing the tries of a trial that is under way would give it more than it may have.
    let ended = record.successor().without_trial();
    let end = record.trial().map(|_| now.replace(ended));
    let next = now.record.successor();
    let begin = now.replace(next.with_build(slot, Some(build)).with_trial());
    Ok(heal(stored)
        .chain(end.into_iter().flatten())
        .chain([Step::ClearTries])
        .chain(grub.then_some(Step::ClearGrubTries))
        .chain([Step::Flush])
        .chain(begin))
}

/// Makes the running slot the default: it proved itself.
pub fn mark_good(stored: &Stored, running: Slot) -> impl Iterator<Item = Step> + Clone + use<> {
    let record = stored.record;
    let good = record.successor().with_default(running);
    let needed = record.trial().is_some() || record.default_slot() != running;
    let replace = needed.then(|| stored.newest().replace(good));
    heal(stored).chain(replace.into_iter().flatten())
}

/// Ends a trial that failed or that nobody wants any more.
pub fn withdraw(stored: &Stored) -> impl Iterator<Item = Step> + Clone + use<> {
    let record = stored.record;
    let ended = record.successor().without_trial();
    let replace = record.trial().map(|_| stored.newest().replace(ended));
    heal(stored).chain(replace.into_iter().flatten())
}

fn not_the_default(record: &BootRecord, slot: Slot) -> Result<(), PlanError> {
    if record.default_slot() == slot {
        return Err(PlanError::DefaultSlot(slot));
    }
    Ok(())
}

impl Newest {
    /// Writes the next record to the copy that does not count.
    fn replace(&mut self, next: BootRecord) -> impl Iterator<Item = Step> + Clone + use<> {
        let first = write(self.copy.other(), next);
        let starts_anew = self.record.sequence() == MAX_SEQUENCE;
        // With the highest sequence, the copy that counts goes on to do so until it is overwritten.
        let again = next.successor();
        let second = write(self.copy, again);
        *self = if starts_anew {
            Self {
                record: again,
                copy: self.copy,
            }
        } else {
            Self {
                record: next,
                copy: self.copy.other(),
            }
        };
        first
            .into_iter()
            .chain(second.into_iter().filter(move |_| starts_anew))
    }
}

/// Writes both forms of a copy. The flush between them keeps GRUB from knowing more than the node.
const fn write(copy: Copy, record: BootRecord) -> [Step; 4] {
    [
        Step::WriteRecord { copy, record },
        Step::Flush,
        Step::WriteGrubRecord { copy, record },
        Step::Flush,
    ]
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ClearTries => f.write_str("clear the tries"),
            Self::ClearGrubTries => f.write_str("clear the tries of GRUB"),
            Self::Flush => f.write_str("flush"),
            Self::InvalidateHeader(slot) => write!(f, "empty slot {slot}"),
            Self::ReadBackContent(slot) => write!(f, "read back the content of slot {slot}"),
            Self::ReadBackHeader(slot) => write!(f, "read back the header of slot {slot}"),
            Self::WriteGrubRecord { copy, record } => {
                write!(
                    f,
                    "write boot record {} for GRUB ({copy:?} copy)",
                    record.sequence()
                )
            }
            Self::WriteHeader(slot) => write!(f, "write the header of slot {slot}"),
            Self::WritePayload(slot) => write!(f, "write the payload of slot {slot}"),
            Self::WriteRecord { copy, record } => {
                write!(f, "write boot record {} ({copy:?} copy)", record.sequence())
            }
            Self::WriteRoot(slot) => write!(f, "write the root part of slot {slot}"),
        }
    }
}

impl fmt::Display for PlanError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::DefaultSlot(slot) => write!(f, "slot {slot} is the default slot"),
        }
    }
}

impl core::error::Error for PlanError {}

#[cfg(test)]
mod tests;
