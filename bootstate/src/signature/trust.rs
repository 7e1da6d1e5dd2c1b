//! Which root keys count: a small file, the same in the loader and in the image.
//!
//! | offset | size | field |
//! |---|---|---|
//! | 0 | 8 | magic `KEELTRST` |
//! | 8 | 4 | version, 1 |
//! | 12 | 4 | lowest epoch that counts |
//! | 16 | 4 | number of root keys, 1 to 8 |
//! | 20 | 4 | zero |
//! | 24 | 32 each | root keys |

use core::fmt;

use super::PublicKey;
use crate::words::{array_at, put, u32_at};

/// Most root keys of a trust: today's, tomorrow's, and some kept offline.
pub const MAX_ROOTS: usize = 8;

const MAGIC: [u8; 8] = *b"KEELTRST";
const VERSION: u32 = 1;
const HEADER: usize = 24;
const KEY: usize = 32;

/// The root keys that count, and from which epoch on release keys do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trust {
    roots: [Option<PublicKey>; MAX_ROOTS],
    minimum_epoch: u32,
}

/// The bytes of a [`Trust`].
#[derive(Clone, Copy)]
pub struct TrustFile {
    bytes: [u8; HEADER + MAX_ROOTS * KEY],
    len: usize,
}

/// Why bytes are no trust.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TrustError {
    /// No root key, or more than [`MAX_ROOTS`].
    Count(u32),
    /// The file is longer or shorter than its number of keys needs.
    Length,
    /// The bytes are something else.
    NotATrust,
    /// A word that must be zero is not.
    Reserved,
    /// A later format.
    Version(u32),
}

impl Trust {
    /// A trust in these root keys; an error for none and for more than [`MAX_ROOTS`].
    pub fn new(roots: &[PublicKey], minimum_epoch: u32) -> Result<Self, TrustError> {
        if roots.is_empty() || roots.len() > MAX_ROOTS {
            let count = u32::try_from(roots.len()).unwrap_or(u32::MAX);
            return Err(TrustError::Count(count));
        }
        let mut trust = Self {
            roots: [None; MAX_ROOTS],
            minimum_epoch,
        };
        for (slot, root) in trust.roots.iter_mut().zip(roots) {
            *slot = Some(*root);
        }
        Ok(trust)
    }

    /// Reads the file.
    pub fn decode(bytes: &[u8]) -> Result<Self, TrustError> {
        if !bytes.starts_with(&MAGIC) {
            return Err(TrustError::NotATrust);
        }
        let word = |at| u32_at(bytes, at).ok_or(TrustError::Length);
        match word(8)? {
            VERSION => {}
            version => return Err(TrustError::Version(version)),
        }
        let (minimum_epoch, count) = (word(12)?, word(16)?);
        if word(20)? != 0 {
            return Err(TrustError::Reserved);
        }
        let number = usize::try_from(count).unwrap_or(usize::MAX);
        if !(1..=MAX_ROOTS).contains(&number) {
            return Err(TrustError::Count(count));
        }
        if bytes.len() != HEADER + number * KEY {
            return Err(TrustError::Length);
        }
        let mut roots = [None; MAX_ROOTS];
        for (n, root) in roots.iter_mut().take(number).enumerate() {
            let key = array_at(bytes, HEADER + n * KEY).ok_or(TrustError::Length)?;
            *root = Some(PublicKey::new(key));
        }
        Ok(Self {
            roots,
            minimum_epoch,
        })
    }

    /// The file.
    pub fn encode(&self) -> TrustFile {
        let mut bytes = [0; HEADER + MAX_ROOTS * KEY];
        let mut count = 0u32;
        let mut len = HEADER;
        for root in self.roots() {
            put(&mut bytes, len, &root.to_bytes());
            len += KEY;
            count += 1;
        }
        put(&mut bytes, 0, &MAGIC);
        put(&mut bytes, 8, &VERSION.to_le_bytes());
        put(&mut bytes, 12, &self.minimum_epoch.to_le_bytes());
        put(&mut bytes, 16, &count.to_le_bytes());
        TrustFile { bytes, len }
    }

    /// The root keys.
    pub fn roots(&self) -> impl Iterator<Item = PublicKey> {
        self.roots.iter().flatten().copied()
    }

    /// The lowest epoch of a release key that counts.
    pub const fn minimum_epoch(&self) -> u32 {
        self.minimum_epoch
    }
}

impl TrustFile {
    /// The bytes to write.
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }
}

impl fmt::Display for TrustError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Count(count) => write!(f, "{count} root keys; 1 to {MAX_ROOTS} are allowed"),
            Self::Length => f.write_str("its length is not that of its keys"),
            Self::NotATrust => f.write_str("it does not start like a list of trusted keys"),
            Self::Reserved => f.write_str("a word that must be zero is not"),
            Self::Version(version) => {
                write!(f, "it has version {version}; this program knows {VERSION}")
            }
        }
    }
}

impl core::error::Error for TrustError {}
