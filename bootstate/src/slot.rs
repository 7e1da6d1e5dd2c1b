//! The two slots and the identity of what is in them.

use core::fmt;

/// One of the two places a system is installed to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Slot {
    /// BOOT-A with ROOT-A; the slot of a fresh image.
    A,
    /// BOOT-B with ROOT-B.
    B,
}

impl Slot {
    /// Both, A first.
    pub const ALL: [Self; 2] = [Self::A, Self::B];

    /// The slot that is not this one.
    pub const fn other(self) -> Self {
        match self {
            Self::A => Self::B,
            Self::B => Self::A,
        }
    }

    /// How boot loader variables and boot facts write it: `a` or `b`.
    pub const fn letter(self) -> char {
        match self {
            Self::A => 'a',
            Self::B => 'b',
        }
    }

    /// The word of the boot record: 1 or 2, so that an erased word is no slot.
    pub(crate) const fn to_word(self) -> u32 {
        match self {
            Self::A => 1,
            Self::B => 2,
        }
    }

    pub(crate) const fn from_word(word: u32) -> Option<Self> {
        match word {
            1 => Some(Self::A),
            2 => Some(Self::B),
            _ => None,
        }
    }
}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::A => "A",
            Self::B => "B",
        })
    }
}

/// Identity of a build: the first 16 bytes of the SHA-256 of its slot payload.
///
/// The payload holds the kernel and, in its command line, the root hash, so equal ids mean the
/// same system to the last byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct BuildId([u8; 16]);

impl BuildId {
    /// The id of the build whose payload has this hash.
    pub fn from_payload_hash(hash: &[u8; 32]) -> Self {
        let mut id = [0; 16];
        id.copy_from_slice(hash.split_at(16).0);
        Self(id)
    }

    /// The bytes as the boot record holds them; all zero means "no build".
    pub const fn to_bytes(self) -> [u8; 16] {
        self.0
    }

    pub(crate) fn from_record(bytes: [u8; 16]) -> Option<Self> {
        (bytes != [0; 16]).then_some(Self(bytes))
    }
}

impl fmt::Display for BuildId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}
