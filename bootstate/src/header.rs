//! The slot header: what the first bytes of BOOT-A and BOOT-B say about a build.
//!
//! | offset | size | field |
//! |---|---|---|
//! | 0 | 8 | magic `KEELSLOT` |
//! | 8 | 4 | version of this format, 1 |
//! | 12 | 4 | zero |
//! | 16 | 8 | length of the payload, which starts at 4096 |
//! | 24 | 32 | SHA-256 of the payload |
//! | 56 | 8 | length of the root part in ROOT-A or ROOT-B |
//! | 64 | 32 | SHA-256 of the root part |
//! | 96 | 32 | version of the build, text, zero padded |
//!
//! These 128 bytes are signed. What follows them is in [`crate::SlotPage`].

use core::fmt;

use crate::layout::{self, MIB};
use crate::slot::BuildId;
use crate::words::{array_at, put, u32_at, u64_at};

/// Bytes in front of the payload: a whole sector on every disk.
pub const HEADER_SIZE: usize = 4096;

/// Bytes that the header itself takes, and that are signed.
pub const SIGNED_SIZE: usize = 128;

/// The largest payload that fits into a slot.
pub const MAX_PAYLOAD: u64 = layout::BOOT_SLOT_MIB * MIB - 4096;

/// The largest root part that fits into a slot.
pub const MAX_ROOT: u64 = layout::ROOT_SLOT_MIB * MIB;

/// Blocks of the root part: those of dm-verity.
const ROOT_BLOCK: u64 = 4096;

/// Longest version text.
pub const VERSION_SIZE: usize = 32;

const MAGIC: [u8; 8] = *b"KEELSLOT";
const FORMAT: u32 = 1;

/// What a slot holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SlotHeader {
    payload_len: u64,
    sha256: [u8; 32],
    root_len: u64,
    root_sha256: [u8; 32],
    version: Version,
}

/// The fields of a header before they are checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SlotHeaderFields<'a> {
    /// Bytes of the payload in BOOT-A or BOOT-B.
    pub payload_len: u64,
    /// What they hash to.
    pub sha256: [u8; 32],
    /// Bytes of the root part in ROOT-A or ROOT-B: file system and verity tree.
    pub root_len: u64,
    /// What they hash to.
    pub root_sha256: [u8; 32],
    /// Version of the build, such as `0.2.0`.
    pub version: &'a str,
}

/// The version of a build: 1 to 32 letters, digits and `.+-~_`, which every console, file name and
/// loader script can show.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Version([u8; VERSION_SIZE]);

/// Why a slot cannot be used, seen from its header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeaderError {
    /// Nothing was ever installed here: the start is all zero or all one.
    Blank,
    /// A later format.
    Format(u32),
    /// The bytes are something else.
    NotAHeader,
    /// The payload length is zero or larger than the slot.
    PayloadLength(u64),
    /// A word that must be zero is not.
    Reserved,
    /// The length of the root part is zero, no multiple of 4096, or larger than the slot.
    RootLength(u64),
    /// Fewer than [`HEADER_SIZE`] bytes were given.
    TooShort,
    /// The version is no text of the allowed kind.
    Version,
}

impl SlotHeader {
    /// A header of these fields, if they can be.
    pub fn new(fields: SlotHeaderFields<'_>) -> Result<Self, HeaderError> {
        let SlotHeaderFields {
            payload_len,
            sha256,
            root_len,
            root_sha256,
            version,
        } = fields;
        let version = Version::new(version).ok_or(HeaderError::Version)?;
        if payload_len == 0 || payload_len > MAX_PAYLOAD {
            return Err(HeaderError::PayloadLength(payload_len));
        }
        if root_len == 0 || root_len > MAX_ROOT || !root_len.is_multiple_of(ROOT_BLOCK) {
            return Err(HeaderError::RootLength(root_len));
        }
        Ok(Self {
            payload_len,
            sha256,
            root_len,
            root_sha256,
            version,
        })
    }

    /// Reads a header from the start of a slot.
    pub fn decode(bytes: &[u8]) -> Result<Self, HeaderError> {
        let page: [u8; HEADER_SIZE] = array_at(bytes, 0).ok_or(HeaderError::TooShort)?;
        let header: [u8; SIGNED_SIZE] = array_at(&page, 0).ok_or(HeaderError::TooShort)?;
        if header.iter().all(|b| *b == 0) || header.iter().all(|b| *b == 0xff) {
            return Err(HeaderError::Blank);
        }
        if !header.starts_with(&MAGIC) {
            return Err(HeaderError::NotAHeader);
        }
        match u32_at(&header, 8).ok_or(HeaderError::TooShort)? {
            FORMAT => {}
            format => return Err(HeaderError::Format(format)),
        }
        if u32_at(&header, 12) != Some(0) {
            return Err(HeaderError::Reserved);
        }
        let hash = |at| array_at(&header, at).ok_or(HeaderError::TooShort);
        let length = |at| u64_at(&header, at).ok_or(HeaderError::TooShort);
        let version: [u8; VERSION_SIZE] = array_at(&header, 96).ok_or(HeaderError::TooShort)?;
        Self::new(SlotHeaderFields {
            payload_len: length(16)?,
            sha256: hash(24)?,
            root_len: length(56)?,
            root_sha256: hash(64)?,
            version: text(&version).ok_or(HeaderError::Version)?,
        })
    }

    /// The bytes at the start of a slot, which are what is signed.
    pub fn encode(&self) -> [u8; SIGNED_SIZE] {
        let mut bytes = [0; SIGNED_SIZE];
        put(&mut bytes, 0, &MAGIC);
        put(&mut bytes, 8, &FORMAT.to_le_bytes());
        put(&mut bytes, 16, &self.payload_len.to_le_bytes());
        put(&mut bytes, 24, &self.sha256);
        put(&mut bytes, 56, &self.root_len.to_le_bytes());
        put(&mut bytes, 64, &self.root_sha256);
        put(&mut bytes, 96, &self.version.0);
        bytes
    }

    /// Bytes of payload after the header; never zero, never more than [`MAX_PAYLOAD`].
    pub const fn payload_len(&self) -> u64 {
        self.payload_len
    }

    /// What the payload must hash to.
    pub const fn sha256(&self) -> &[u8; 32] {
        &self.sha256
    }

    /// Bytes of the root part; never zero, never more than [`MAX_ROOT`].
    pub const fn root_len(&self) -> u64 {
        self.root_len
    }

    /// What the root part must hash to.
    pub const fn root_sha256(&self) -> &[u8; 32] {
        &self.root_sha256
    }

    /// Version of the build.
    pub const fn version(&self) -> &Version {
        &self.version
    }

    /// Which build the slot holds.
    pub fn build_id(&self) -> BuildId {
        BuildId::from_payload_hash(&self.sha256)
    }
}

impl Version {
    /// `None` for an empty or too long text and for other characters than the allowed ones.
    pub fn new(version: &str) -> Option<Self> {
        let fine = |c: u8| c.is_ascii_alphanumeric() || b".+-~_".contains(&c);
        if version.is_empty() || version.len() > VERSION_SIZE || !version.bytes().all(fine) {
            return None;
        }
        let mut bytes = [0; VERSION_SIZE];
        put(&mut bytes, 0, version.as_bytes());
        Some(Self(bytes))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        text(&self.0).unwrap_or_default()
    }
}

/// The text in front of the zeros.
fn text(bytes: &[u8; VERSION_SIZE]) -> Option<&str> {
    let end = bytes.iter().position(|b| *b == 0).unwrap_or(VERSION_SIZE);
    let (text, padding) = bytes.split_at(end);
    if padding.iter().any(|b| *b != 0) {
        return None;
    }
    core::str::from_utf8(text).ok()
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Debug for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl fmt::Display for HeaderError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Blank => f.write_str("nothing is installed in it"),
            Self::Format(format) => {
                write!(
                    f,
                    "its header has format {format}; this program knows {FORMAT}"
                )
            }
            Self::NotAHeader => f.write_str("it does not start with a slot header"),
            Self::PayloadLength(len) => {
                write!(
                    f,
                    "its header gives a payload of {len} bytes; 1 to {MAX_PAYLOAD} fit"
                )
            }
            Self::Reserved => f.write_str("a word of its header that must be zero is not"),
            Self::RootLength(len) => write!(
                f,
                "its header gives a root part of {len} bytes; \
                 multiples of {ROOT_BLOCK} up to {MAX_ROOT} fit"
            ),
            Self::TooShort => write!(f, "fewer than {HEADER_SIZE} bytes of header"),
            Self::Version => write!(
                f,
                "the version in its header is not 1 to {VERSION_SIZE} letters, digits or .+-~_"
            ),
        }
    }
}

impl core::error::Error for HeaderError {}

#[cfg(test)]
pub(crate) mod tests;
