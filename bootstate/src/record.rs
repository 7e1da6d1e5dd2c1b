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
//! | 2 | sequence; the valid copy with the higher one counts |
//! | 3 | slot on trial: 0 none, 1 A, 2 B |
//! | 4 | default slot: 1 A, 2 B |
//! | 5 to 8 | build in slot A, zero for none |
//! | 9 to 12 | build in slot B, zero for none |
//! | 13 to 63 | zero |

use core::fmt;

use crate::slot::{BuildId, Slot};
use crate::words::{array_at, put, u32_at};

/// Bytes of a record: a sector of the smallest kind; a disk with larger sectors pads with zeros.
pub const RECORD_SIZE: usize = 512;

/// Where in BOOTSTATE the two copies are: so far apart that no flash page or erase block of usual
/// size holds both.
pub const COPY_OFFSETS: [u64; 2] = [0, 64 * 1024];

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

    /// A record; `None` when the trial slot is the default slot, which would leave nothing to
    /// fall back to.
    pub fn new(
        sequence: u32,
        trial: Option<Slot>,
        default: Slot,
        builds: [Option<BuildId>; 2],
    ) -> Option<Self> {
        (trial != Some(default)).then_some(Self {
            sequence,
            trial,
            default,
            builds,
        })
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
        let build = |at| {
            array_at(used, at)
                .map(BuildId::from_record)
                .ok_or(InvalidRecord::TooShort)
        };
        Self::new(word(2)?, trial, default, [build(20)?, build(36)?]).ok_or(InvalidRecord::Slots)
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
pub(crate) mod tests {
    use proptest::prelude::{Strategy, any, prop_assert_eq, proptest};

    use super::*;

    pub(crate) fn any_slot() -> impl Strategy<Value = Slot> {
        any::<bool>().prop_map(|b| if b { Slot::A } else { Slot::B })
    }

    fn any_build() -> impl Strategy<Value = Option<BuildId>> {
        any::<[u8; 16]>().prop_map(BuildId::from_record)
    }

    pub(crate) fn any_record() -> impl Strategy<Value = BootRecord> {
        (
            any::<u32>(),
            any::<bool>(),
            any_slot(),
            any_build(),
            any_build(),
        )
            .prop_map(|(sequence, trial, default, a, b)| {
                let trial = trial.then_some(default.other());
                BootRecord::new(sequence, trial, default, [a, b]).unwrap()
            })
    }

    #[test]
    fn fixed_bytes() {
        let hash = core::array::from_fn(|i| u8::try_from(i).unwrap());
        let bytes = BootRecord::fresh(BuildId::from_payload_hash(&hash)).encode();
        let words = b"KSBR\x01\0\0\0\x01\0\0\0\0\0\0\0\x01\0\0\0";
        for half in [0, 256] {
            assert_eq!(&bytes[half..half + 20], words);
            assert_eq!(bytes[half + 20..half + 36], hash[..16]);
            assert!(bytes[half + 36..half + 256].iter().all(|b| *b == 0));
        }
    }

    #[test]
    fn trial_and_default_differ() {
        assert_eq!(BootRecord::new(1, Some(Slot::B), Slot::B, [None; 2]), None);
        let mut bytes = BootRecord::new(1, Some(Slot::B), Slot::A, [None; 2])
            .unwrap()
            .encode();
        bytes[12] = 1;
        bytes[256 + 12] = 1;
        assert_eq!(BootRecord::decode(&bytes), Err(InvalidRecord::Slots));
    }

    proptest! {
        #[test]
        fn round_trip(record in any_record()) {
            prop_assert_eq!(BootRecord::decode(&record.encode()), Ok(record));
        }

        #[test]
        fn damage_in_one_half_is_seen(
            record in any_record(), half in 0usize..2, from in 0usize..256,
            damage in proptest::collection::vec(any::<u8>(), 1..256)
        ) {
            let mut bytes = record.encode();
            for (byte, xor) in bytes[half * 256..][..256][from..].iter_mut().zip(&damage) {
                *byte ^= xor;
            }
            let unchanged = bytes == record.encode();
            prop_assert_eq!(BootRecord::decode(&bytes).is_ok(), unchanged);
        }

        #[test]
        fn a_write_torn_at_any_byte_leaves_old_new_or_nothing(
            old in any_record(), new in any_record(), cut in 0usize..=512
        ) {
            let mut bytes = old.encode();
            bytes[..cut].copy_from_slice(&new.encode()[..cut]);
            if let Ok(read) = BootRecord::decode(&bytes) {
                proptest::prop_assert!(read == old || read == new);
            }
        }

        #[test]
        fn a_broken_copy_falls_back_to_the_other(
            good in any_record(), junk in proptest::collection::vec(any::<u8>(), 0..1024)
        ) {
            prop_assert_eq!(newest_record(&good.encode(), &junk), Ok((good, Copy::First)));
            prop_assert_eq!(newest_record(&junk, &good.encode()), Ok((good, Copy::Second)));
        }

        #[test]
        fn the_higher_sequence_counts(one in any_record(), two in any_record()) {
            let (read, _) = newest_record(&one.encode(), &two.encode()).unwrap();
            prop_assert_eq!(read.sequence, one.sequence.max(two.sequence));
        }

        #[test]
        fn repeated_junk_never_panics(half in proptest::collection::vec(any::<u8>(), 256), version in 0u32..3) {
            let mut bytes = half.repeat(2);
            for at in [0, 256] {
                bytes[at..at + 4].copy_from_slice(&MAGIC);
                bytes[at + 4..at + 8].copy_from_slice(&version.to_le_bytes());
            }
            if let Ok(record) = BootRecord::decode(&bytes) {
                prop_assert_eq!(&record.encode()[..], &bytes[..]);
            }
        }
    }
}
