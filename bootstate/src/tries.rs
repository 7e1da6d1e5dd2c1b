//! The tries of a slot on trial: one sector at the start of TRIES.
//!
//! | word | field |
//! |---|---|
//! | 0 | magic `KSTR` |
//! | 1 to 3 | one per try: 0 free, 1 used; used ones come first |
//! | 4 to 127 | zero |
//!
//! Unary, so that a U-Boot script that cannot add takes a try by writing one word. The loader
//! writes the sector before it starts the trial, and it writes nothing else, ever. Garbage counts
//! as "all used": a slot that never proved itself is not worth a risk.

use core::fmt;

use crate::words::{array_at, put, u32_at};

/// Bytes of the sector; a disk with larger sectors pads with zeros.
pub const TRIES_SIZE: usize = 512;

/// How often a trial is started before the default slot is used again.
pub const TRIES_PER_TRIAL: u8 = 3;

const MAGIC: [u8; 4] = *b"KSTR";

/// How many tries were used, or that nobody can tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tries {
    /// So many, at most [`TRIES_PER_TRIAL`].
    Used(u8),
    /// The sector holds something else.
    Unreadable,
}

impl Tries {
    /// None used: what the imager and an upgrade write.
    pub const FRESH: Self = Self::Used(0);

    /// Reads the sector.
    pub fn decode(bytes: &[u8]) -> Self {
        Self::try_decode(bytes).unwrap_or(Self::Unreadable)
    }

    fn try_decode(bytes: &[u8]) -> Option<Self> {
        let sector: [u8; TRIES_SIZE] = array_at(bytes, 0)?;
        if !sector.starts_with(&MAGIC) {
            return None;
        }
        let mut used = 0;
        while used < TRIES_PER_TRIAL && u32_at(&sector, 4 + 4 * usize::from(used)) == Some(1) {
            used += 1;
        }
        // Compared whole: a used try after a free one, another value or padding that is not zero
        // are all garbage.
        (sector == Self::Used(used).encode()).then_some(Self::Used(used))
    }

    /// The bytes of the sector; [`Tries::Unreadable`] gives a sector with all tries used.
    pub fn encode(self) -> [u8; TRIES_SIZE] {
        let mut sector = [0; TRIES_SIZE];
        put(&mut sector, 0, &MAGIC);
        for n in 0..self.used() {
            put(&mut sector, 4 + 4 * usize::from(n), &1u32.to_le_bytes());
        }
        sector
    }

    /// The state after one more try, or `None` when there is none left.
    pub fn take_one(self) -> Option<Self> {
        (self.used() < TRIES_PER_TRIAL).then(|| Self::Used(self.used() + 1))
    }

    /// Tries used, as far as the decision is concerned.
    pub const fn used(self) -> u8 {
        match self {
            Self::Used(n) if n < TRIES_PER_TRIAL => n,
            Self::Used(_) | Self::Unreadable => TRIES_PER_TRIAL,
        }
    }
}

impl fmt::Display for Tries {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Used(_) => write!(f, "{} of {TRIES_PER_TRIAL} tries used", self.used()),
            Self::Unreadable => f.write_str("tries unreadable"),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, prop_assert, prop_assert_eq, proptest};

    use super::*;

    #[test]
    fn fixed_bytes_and_round_trip() {
        for used in 0..=TRIES_PER_TRIAL {
            assert_eq!(
                Tries::decode(&Tries::Used(used).encode()),
                Tries::Used(used)
            );
        }
        let two = Tries::Used(2).encode();
        assert_eq!(&two[..16], b"KSTR\x01\0\0\0\x01\0\0\0\0\0\0\0");
        assert!(two[16..].iter().all(|b| *b == 0));
    }

    #[test]
    fn three_tries_then_none() {
        let mut tries = Tries::FRESH;
        for n in 1..=3 {
            tries = tries.take_one().unwrap();
            assert_eq!(tries, Tries::Used(n));
        }
        assert_eq!(tries.take_one(), None);
        assert_eq!(Tries::Unreadable.take_one(), None);
    }

    #[test]
    fn a_gap_is_garbage() {
        let mut sector = Tries::Used(1).encode();
        sector[12] = 1;
        assert_eq!(Tries::decode(&sector), Tries::Unreadable);
    }

    proptest! {
        #[test]
        fn damage_reads_as_garbage_or_as_exactly_what_is_written(
            used in 0..=TRIES_PER_TRIAL, from in 0usize..512,
            damage in proptest::collection::vec(any::<u8>(), 1..512)
        ) {
            let mut sector = Tries::Used(used).encode();
            for (byte, xor) in sector[from..].iter_mut().zip(&damage) {
                *byte ^= xor;
            }
            match Tries::decode(&sector) {
                Tries::Used(n) => prop_assert_eq!(&Tries::Used(n).encode()[..], &sector[..]),
                Tries::Unreadable => prop_assert!(sector != Tries::Used(used).encode()),
            }
        }

        #[test]
        fn any_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            prop_assert_eq!(Tries::decode(&bytes), Tries::Unreadable);
        }
    }
}
