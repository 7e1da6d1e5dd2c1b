//! What GRUB reads and writes: environment blocks of 1024 bytes.
//!
//! GRUB's scripts know no binary words. So the boot record stands behind each binary copy once more
//! as text, and GRUB counts its tries in a file of its own on GRUBENV. A block starts with a line
//! that marks it; then come `name=value` lines; `#` fills the rest.
//!
//! A block of a record has a half in each of its two sectors, `s1 t1 d1` and `d2 t2 s2`: sequence,
//! slot on trial (`-` for none) and default slot. A block counts when both halves agree, so one
//! that was torn between its sectors does not. The halves have opposite orders, so that two
//! sectors torn at the same byte do not agree either.
//!
//! The block of the tries has one variable, `tries`, with one `1` per try, because GRUB cannot add.
//! All else, and a block without it, counts as used up, as in [`Tries`].

mod text;

use crate::record::{BootRecord, Copy, MAX_SEQUENCE};
use crate::slot::Slot;
use crate::tries::{TRIES_PER_TRIAL, Tries};
use crate::words::{array_at, put};

/// Bytes of a block, two sectors of 512.
pub const BLOCK_SIZE: usize = 1024;

/// Where the text of a record is, from the start of its binary copy on: the next sector of a disk
/// with large ones, so that one torn write does not hit both forms.
pub const RECORD_OFFSET: u64 = 4096;

/// How every block starts.
pub const MARK: &[u8] = b"# GRUB Environment Block\n";

const HALF: usize = BLOCK_SIZE / 2;

/// `grubenv` as the root folder of a FAT writes it.
const FILE: &[u8] = b"GRUBENV    ";

/// A file of GRUB starts at a cluster, which is at least one sector.
const SEARCH_STEP: usize = 512;

/// A boot record as GRUB sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GrubRecord {
    sequence: u32,
    trial: Option<Slot>,
    default: Slot,
}

impl GrubRecord {
    /// Reads the text of a copy; `None` when GRUB would not take it.
    pub fn decode(block: &[u8]) -> Option<Self> {
        let half = |sequence, trial, default| {
            let sequence = text::sequence(text::variable(block, sequence)?)?;
            let trial = match text::variable(block, trial)? {
                b"-" => None,
                name => Some(text::slot(name)?),
            };
            let default = text::slot(text::variable(block, default)?)?;
            Some(Self {
                sequence,
                trial,
                default,
            })
        };
        let first: Self = half("s1", "t1", "d1")?;
        let sound = half("s2", "t2", "d2")? == first && first.trial != Some(first.default);
        sound.then_some(first)
    }

    /// The text of a copy.
    pub fn encode(&self) -> [u8; BLOCK_SIZE] {
        let mut block = [b'#'; BLOCK_SIZE];
        let mut digits = [0; 10];
        let sequence = text::decimal(self.sequence, &mut digits);
        let trial = self.trial.map_or("-", text::letter).as_bytes();
        let default = text::letter(self.default).as_bytes();

        put(&mut block, 0, MARK);
        let mut at = MARK.len();
        for (name, value) in [("s1", sequence), ("t1", trial), ("d1", default)] {
            at = text::put_line(&mut block, at, name, value);
        }
        // One long value fills the sector.
        put(&mut block, at, b"pad=");
        for byte in block.iter_mut().take(HALF - 1).skip(at + 4) {
            *byte = b'.';
        }
        put(&mut block, HALF - 1, b"\n");
        let mut at = HALF;
        for (name, value) in [("d2", default), ("t2", trial), ("s2", sequence)] {
            at = text::put_line(&mut block, at, name, value);
        }
        block
    }

    /// Picks the copy that counts for GRUB.
    pub fn newest(blocks: [&[u8]; 2]) -> Option<(Self, Copy)> {
        let [first, second] = blocks.map(Self::decode);
        match (first, second) {
            (Some(one), Some(two)) if two.sequence > one.sequence => Some((two, Copy::Second)),
            (Some(one), _) => Some((one, Copy::First)),
            (None, Some(two)) => Some((two, Copy::Second)),
            (None, None) => None,
        }
    }

    /// The record to decide by; GRUB knows nothing about builds.
    pub fn to_record(self) -> Option<BootRecord> {
        BootRecord::new(self.sequence, self.trial, self.default, [None; 2])
    }

    /// Its sequence.
    pub const fn sequence(&self) -> u32 {
        self.sequence
    }
}

impl From<&BootRecord> for GrubRecord {
    fn from(record: &BootRecord) -> Self {
        Self {
            sequence: record.sequence(),
            trial: record.trial(),
            default: record.default_slot(),
        }
    }
}

/// Reads GRUB's tries from a block.
pub fn decode_tries(block: &[u8]) -> Tries {
    let tries = text::variable(block, "tries").filter(|ones| ones.iter().all(|c| *c == b'1'));
    match tries.map(|ones| u8::try_from(ones.len())) {
        Some(Ok(used)) if used <= TRIES_PER_TRIAL => Tries::Used(used),
        _ => Tries::Unreadable,
    }
}

/// The block with GRUB's tries.
pub fn encode_tries(tries: Tries) -> [u8; BLOCK_SIZE] {
    let mut block = [b'#'; BLOCK_SIZE];
    put(&mut block, 0, MARK);
    let ones = [b'1'; TRIES_PER_TRIAL as usize];
    let used = ones.get(..usize::from(tries.used())).unwrap_or_default();
    text::put_line(&mut block, MARK.len(), "tries", used);
    block
}

/// Where GRUB's file is in the bytes of GRUBENV: where the folder of its FAT says, which nobody
/// writes to on a node. The mark at its start is for a partition that has no FAT: a power cut may
/// have torn it, and then the file has to be found to be written anew.
pub fn find(partition: &[u8]) -> Option<usize> {
    by_folder(partition).or_else(|| by_mark(partition))
}

/// Reads the FAT's first sector and root folder. The imager wrote the file in one piece.
fn by_folder(partition: &[u8]) -> Option<usize> {
    const ENTRY: usize = 32;
    let word = |at| array_at(partition, at).map(|bytes| usize::from(u16::from_le_bytes(bytes)));
    let byte = |at: usize| partition.get(at).copied().map(usize::from);
    let sector = word(11)?;
    let fats = byte(16)?.checked_mul(word(22)?)?;
    let folder = word(14)?.checked_add(fats)?.checked_mul(sector)?;
    let entries = word(17)?.checked_mul(ENTRY)?;
    let files = folder.checked_add(entries)?;
    let entry = partition
        .get(folder..files)?
        .chunks_exact(ENTRY)
        .find(|entry| entry.starts_with(FILE))?;
    let cluster = usize::from(u16::from_le_bytes(array_at(entry, 26)?)).checked_sub(2)?;
    let before = cluster.checked_mul(byte(13)?)?.checked_mul(sector)?;
    let at = files.checked_add(before)?;
    let end = at.checked_add(BLOCK_SIZE)?;
    partition.get(at..end).map(|_| at)
}

fn by_mark(partition: &[u8]) -> Option<usize> {
    (0..partition.len()).step_by(SEARCH_STEP).find(|at| {
        partition
            .get(*at..)
            .is_some_and(|rest| rest.len() >= BLOCK_SIZE && rest.starts_with(MARK))
    })
}

#[cfg(test)]
mod tests;
