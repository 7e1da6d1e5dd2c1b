//! The boot record: which slot is the default and which one is on trial.
//!
//! One sector of 512 bytes, written at two places of BOOTSTATE by turns. Its first half is
//! 64 words; the second half repeats them, so that a U-Boot script without a checksum command can
//! check a copy with `cmp.l`.
//!
//! | word | field |
//! |---|---|
//! | 0 | magic `KSBR` |
//! | 1 | version, 1 |
//! | 2 | sequence, 1 to 2^31 - 1; the valid copy with the higher one counts |
//! | 3 | slot on trial: 0 none, 1 A, 2 B |
//! | 4 | default slot: 1 A, 2 B |
//! | 5 to 8 | build in slot A, zero for none |
//! | 9 to 12 | build in slot B, zero for none |
//! | 13 to 63 | zero |
//!
//! GRUB cannot read this form; behind each copy is the same record as text ([`crate::grub_env`]).

use core::fmt;

use crate::slot::{BuildId, Slot};
use crate::words::{array_at, put, u32_at};

/// Bytes of a record: a sector of the smallest kind; a disk with larger sectors pads with zeros.
pub const RECORD_SIZE: usize = 512;

/// Where in BOOTSTATE the two copies are: so far apart that no flash page or erase block of usual
/// size holds both.
pub const COPY_OFFSETS: [u64; 2] = [0, 64 * 1024];

/// The highest sequence: loader scripts compare signed words of 32 bits.
pub const MAX_SEQUENCE: u32 = 0x7fff_ffff;

const MAGIC: [u8; 4] = *b"KSBR";
const VERSION: u32 = 1;
const HALF: usize = RECORD_SIZE / 2;
const USED: usize = 13 * 4;

/// What the system decided about the slots.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BootRecord {
    sequence: u32,
    trial: Option<Slot>,
    default: Slot,
    builds: [Option<BuildId>; 2],
}

/// Which of the two places a record was read from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Copy {
    /// At the first of [`COPY_OFFSETS`].
    First,
    /// At the second.
    Second,
}

/// Why a copy does not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InvalidRecord {
    /// The two halves differ: a torn write or a flipped bit.
    HalvesDiffer,
    /// No record was ever written here.
    NotARecord,
    /// The sequence is zero or above [`MAX_SEQUENCE`].
    Sequence(u32),
    /// A slot word is neither A nor B, or trial and default are the same slot.
    Slots,
    /// Fewer than [`RECORD_SIZE`] bytes were given.
    TooShort,
    /// A later format.
    Version(u32),
    /// Words that must be zero are not.
    Padding,
}

/// Neither copy counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoRecord {
    /// What is wrong with the first copy.
    pub first: InvalidRecord,
    /// What is wrong with the second copy.
    pub second: InvalidRecord,
}

impl BootRecord {
    /// The record of a fresh disk: slot A is the default, slot B is empty, nothing is on trial.
    pub const fn fresh(build: BuildId) -> Self {
        Self {
            sequence: 1,
            trial: None,
            default: Slot::A,
            builds: [Some(build), None],
        }
    }

    /// A record; `None` when the sequence is out of range, or when the trial slot is the default
    /// slot, which would leave nothing to fall back to.
    pub fn new(
        sequence: u32,
        trial: Option<Slot>,
        default: Slot,
        builds: [Option<BuildId>; 2],
    ) -> Option<Self> {
        let sound = (1..=MAX_SEQUENCE).contains(&sequence) && trial != Some(default);
        sound.then_some(Self {
            sequence,
            trial,
            default,
            builds,
        })
    }

    /// For a disk that lost both copies: the running slot is the default. `after` is a sequence
    /// that was seen, 0 for none.
    pub(crate) const fn rebuilt(after: u32, running: Slot, build: Option<BuildId>) -> Self {
        Self {
            sequence: after,
            trial: None,
            default: running,
            builds: [None; 2],
        }
        .with_build(running, build)
        .successor()
    }

    /// The same record with the next sequence, to change and to write next.
    ///
    /// After the highest sequence comes 1, which counts only once the copy with the highest is
    /// overwritten as well: [`crate::plan`] does that.
    #[must_use]
    pub const fn successor(self) -> Self {
        let sequence = match self.sequence {
            MAX_SEQUENCE => 1,
            sequence => sequence + 1,
        };
        Self { sequence, ..self }
    }

    /// The same record with this slot as the default and nothing on trial.
    #[must_use]
    pub const fn with_default(self, default: Slot) -> Self {
        Self {
            trial: None,
            default,
            ..self
        }
    }

    /// The same record with nothing on trial.
    #[must_use]
    pub const fn without_trial(self) -> Self {
        Self {
            trial: None,
            ..self
        }
    }

    /// The same record with the slot that is not the default on trial.
    #[must_use]
    pub const fn with_trial(self) -> Self {
        Self {
            trial: Some(self.default.other()),
            ..self
        }
    }

    /// The same record with this build in a slot.
    #[must_use]
    pub const fn with_build(mut self, slot: Slot, build: Option<BuildId>) -> Self {
        match slot {
            Slot::A => self.builds[0] = build,
            Slot::B => self.builds[1] = build,
        }
        self
    }

    /// Reads one copy.
    pub fn decode(bytes: &[u8]) -> Result<Self, InvalidRecord> {
        let record: [u8; RECORD_SIZE] = array_at(bytes, 0).ok_or(InvalidRecord::TooShort)?;
        let (first, second) = record.split_at(HALF);
        if !first.starts_with(&MAGIC) && !second.starts_with(&MAGIC) {
            return Err(InvalidRecord::NotARecord);
        }
        if first != second {
            return Err(InvalidRecord::HalvesDiffer);
        }
        let word = |n: usize| u32_at(first, n * 4).ok_or(InvalidRecord::TooShort);
        match word(1)? {
            VERSION => {}
            version => return Err(InvalidRecord::Version(version)),
        }
        let (used, padding) = first.split_at(USED);
        if padding.iter().any(|b| *b != 0) {
            return Err(InvalidRecord::Padding);
        }
        let trial = match word(3)? {
            0 => None,
            n => Some(Slot::from_word(n).ok_or(InvalidRecord::Slots)?),
        };
        let default = Slot::from_word(word(4)?).ok_or(InvalidRecord::Slots)?;
        let sequence = word(2)?;
        if !(1..=MAX_SEQUENCE).contains(&sequence) {
            return Err(InvalidRecord::Sequence(sequence));
        }
        let build = |at| {
            array_at(used, at)
                .map(BuildId::from_record)
                .ok_or(InvalidRecord::TooShort)
        };
        Self::new(sequence, trial, default, [build(20)?, build(36)?]).ok_or(InvalidRecord::Slots)
    }

    /// The bytes of one copy.
    pub fn encode(&self) -> [u8; RECORD_SIZE] {
        let mut bytes = [0; RECORD_SIZE];
        let build = |id: Option<BuildId>| id.map_or([0; 16], BuildId::to_bytes);
        for half in [0, HALF] {
            put(&mut bytes, half, &MAGIC);
            put(&mut bytes, half + 4, &VERSION.to_le_bytes());
            put(&mut bytes, half + 8, &self.sequence.to_le_bytes());
            put(
                &mut bytes,
                half + 12,
                &self.trial.map_or(0, Slot::to_word).to_le_bytes(),
            );
            put(&mut bytes, half + 16, &self.default.to_word().to_le_bytes());
            put(&mut bytes, half + 20, &build(self.builds[0]));
            put(&mut bytes, half + 36, &build(self.builds[1]));
        }
        bytes
    }

    /// Grows by one with every record written.
    pub const fn sequence(&self) -> u32 {
        self.sequence
    }

    /// The slot that is to prove itself; never the default slot.
    pub const fn trial(&self) -> Option<Slot> {
        self.trial
    }

    /// The slot that is known to be good.
    pub const fn default_slot(&self) -> Slot {
        self.default
    }

    /// The build in a slot, if the record knows one.
    pub const fn build(&self, slot: Slot) -> Option<BuildId> {
        match slot {
            Slot::A => self.builds[0],
            Slot::B => self.builds[1],
        }
    }
}

impl Copy {
    /// Both, in the order of [`COPY_OFFSETS`].
    pub const ALL: [Self; 2] = [Self::First, Self::Second];

    /// The one that is not this one.
    pub const fn other(self) -> Self {
        match self {
            Self::First => Self::Second,
            Self::Second => Self::First,
        }
    }

    /// Where in BOOTSTATE it starts.
    pub const fn offset(self) -> u64 {
        match self {
            Self::First => COPY_OFFSETS[0],
            Self::Second => COPY_OFFSETS[1],
        }
    }
}

/// Picks the copy that counts: valid, and of two valid ones the one with the higher sequence.
pub fn newest_record(first: &[u8], second: &[u8]) -> Result<(BootRecord, Copy), NoRecord> {
    match (BootRecord::decode(first), BootRecord::decode(second)) {
        (Ok(one), Ok(two)) if two.sequence > one.sequence => Ok((two, Copy::Second)),
        (Ok(one), _) => Ok((one, Copy::First)),
        (Err(_), Ok(two)) => Ok((two, Copy::Second)),
        (Err(first), Err(second)) => Err(NoRecord { first, second }),
    }
}

impl fmt::Display for InvalidRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::HalvesDiffer => f.write_str("its two halves differ"),
            Self::NotARecord => f.write_str("not a boot record"),
            Self::Sequence(sequence) => {
                write!(f, "sequence {sequence}; 1 to {MAX_SEQUENCE} are allowed")
            }
            Self::Slots => f.write_str("its slots make no sense"),
            Self::TooShort => write!(f, "fewer than {RECORD_SIZE} bytes"),
            Self::Version(version) => write!(f, "version {version}; this program knows {VERSION}"),
            Self::Padding => f.write_str("words that must be zero are not"),
        }
    }
}

impl core::error::Error for InvalidRecord {}

impl fmt::Display for NoRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "no valid boot record (first copy: {}; second copy: {})",
            self.first, self.second
        )
    }
}

impl core::error::Error for NoRecord {}

#[cfg(test)]
pub(crate) mod tests;
