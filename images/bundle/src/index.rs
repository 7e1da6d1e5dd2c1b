//! The index: where each block goes, how it is stored and what it must hash to.

use std::fmt;
use std::ops::Range;

use keelson_bootstate::layout::MIB;
use keelson_bootstate::{MAX_PAYLOAD, MAX_ROOT};

use crate::hash::Hash;
use crate::manifest::Manifest;

/// Most memory that unpacking any bundle takes: a block, its stored bytes and, in a delta, the
/// range of the old system that it is unpacked against.
pub const DECODER_MEMORY: u64 = 48 * MIB;

/// Bytes of an entry.
pub(crate) const ENTRY_SIZE: usize = 96;

/// One half of a system.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Part {
    /// What follows the header in BOOT-A or BOOT-B: kernel, initramfs, command line.
    Boot,
    /// What is in ROOT-A or ROOT-B: the root file system with its hash tree.
    Root,
}

/// How a block is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BlockKind {
    /// A zstd frame.
    Zstd,
    /// A zstd frame that refers to this range of the same part of the base.
    ZstdWithBase(Range<u64>),
    /// Not at all: it is zeros.
    Zeros,
}

/// One block, as the signed index describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    pub(crate) part: Part,
    pub(crate) kind: BlockKind,
    pub(crate) stored_len: u32,
    pub(crate) offset: u64,
    pub(crate) plain_len: u32,
    pub(crate) stored_hash: Hash,
    pub(crate) hash: Hash,
}

/// What is wrong with an index that was signed: whoever made the bundle made a mistake.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IndexError {
    /// A delta's block without a base in the manifest, or a range that no base has.
    #[error("block {block}: it refers to bytes of a base that cannot be there")]
    Base {
        /// Number of the block.
        block: usize,
    },
    /// The number of entries is not that of the blocks of both parts.
    #[error("it has {found} bytes; {blocks} blocks need {needed}")]
    Length {
        /// Bytes it has.
        found: usize,
        /// Blocks of both parts.
        blocks: u64,
        /// Bytes these need.
        needed: u64,
    },
    /// A node could not unpack the block.
    #[error(
        "block {block}: unpacking it takes {bytes} bytes of memory; at most {DECODER_MEMORY} are given"
    )]
    Memory {
        /// Number of the block.
        block: usize,
        /// What it would take.
        bytes: u64,
    },
    /// A field is not what its place in the order demands.
    #[error("block {block}: {field} is {found}, not {wanted}")]
    Place {
        /// Number of the block.
        block: usize,
        /// The field.
        field: &'static str,
        /// What the entry says.
        found: u64,
        /// What it must say.
        wanted: u64,
    },
    /// The length of the stored bytes is not possible.
    #[error("block {block}: {stored} stored bytes for {len} plain ones")]
    StoredLength {
        /// Number of the block.
        block: usize,
        /// Stored bytes.
        stored: u32,
        /// Plain bytes.
        len: u32,
    },
    /// The way it is stored is not known.
    #[error("block {block}: this program does not know blocks of kind {kind}")]
    Kind {
        /// Number of the block.
        block: usize,
        /// What the entry says.
        kind: u8,
    },
}

impl Block {
    /// Which part it belongs to.
    pub const fn part(&self) -> Part {
        self.part
    }

    /// How it is stored.
    pub const fn kind(&self) -> &BlockKind {
        &self.kind
    }

    /// Where its plain bytes go, counted from the start of the part.
    pub const fn offset(&self) -> u64 {
        self.offset
    }

    /// How many plain bytes it has; never zero.
    pub const fn plain_len(&self) -> u32 {
        self.plain_len
    }

    /// How many bytes of the bundle it takes.
    pub const fn stored_len(&self) -> u32 {
        self.stored_len
    }

    /// What the plain bytes hash to: who has written them can check them later.
    pub const fn hash(&self) -> &Hash {
        &self.hash
    }

    fn memory(&self) -> u64 {
        let base = match &self.kind {
            BlockKind::ZstdWithBase(range) => range.end.saturating_sub(range.start),
            BlockKind::Zstd | BlockKind::Zeros => 0,
        };
        base.saturating_add(u64::from(self.stored_len) + u64::from(self.plain_len))
    }
}

/// Reads the index of a manifest. The entries must cover both parts without gaps, boot first.
pub(crate) fn parse(bytes: &[u8], manifest: &Manifest) -> Result<Vec<Block>, IndexError> {
    let places = Place::all(manifest);
    let blocks = u64::try_from(places.len()).unwrap_or(u64::MAX);
    let (entries, rest) = bytes.as_chunks::<ENTRY_SIZE>();
    if !rest.is_empty() || entries.len() != places.len() {
        return Err(IndexError::Length {
            found: bytes.len(),
            blocks,
            needed: blocks.saturating_mul(96),
        });
    }
    entries
        .iter()
        .zip(places)
        .enumerate()
        .map(|(block, (entry, place))| entry_at(block, entry, place, manifest.base().is_some()))
        .collect()
}

/// What the sizes in a manifest say about a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) part: Part,
    pub(crate) offset: u64,
    pub(crate) len: u32,
}

impl Place {
    /// Of all blocks, in the order of the index.
    pub(crate) fn all(manifest: &Manifest) -> Vec<Self> {
        let parts = [(Part::Boot, manifest.boot()), (Part::Root, manifest.root())];
        parts
            .into_iter()
            .flat_map(|(part, facts)| Self::of_part(part, facts.size, manifest.block_size()))
            .collect()
    }

    pub(crate) fn of_part(part: Part, size: u64, block_size: u32) -> impl Iterator<Item = Self> {
        let count = size.div_ceil(block_size.into());
        (0..count).map(move |number| {
            let offset = number * u64::from(block_size);
            let left = size - offset;
            Self {
                part,
                offset,
                len: u32::try_from(left).map_or(block_size, |left| left.min(block_size)),
            }
        })
    }
}

fn entry_at(
    block: usize,
    entry: &[u8; ENTRY_SIZE],
    place: Place,
    has_base: bool,
) -> Result<Block, IndexError> {
    let fields = Fields::of(entry);
    let demanded = [
        ("the part", fields.part.into(), place.part.to_byte().into()),
        ("a field that must be zero", fields.zero.into(), 0),
        ("the offset", fields.offset, place.offset),
        ("the length", fields.len.into(), place.len.into()),
    ];
    for (field, found, wanted) in demanded {
        if found != wanted {
            return Err(IndexError::Place {
                block,
                field,
                found,
                wanted,
            });
        }
    }
    let base = fields.base_offset..fields.base_offset.saturating_add(fields.base_len.into());
    let kind = match fields.kind {
        ZSTD => BlockKind::Zstd,
        ZSTD_WITH_BASE => BlockKind::ZstdWithBase(base.clone()),
        ZEROS => BlockKind::Zeros,
        kind => return Err(IndexError::Kind { block, kind }),
    };
    let base_fits = match kind {
        BlockKind::ZstdWithBase(_) => {
            has_base && fields.base_len > 0 && base.end <= place.part.capacity()
        }
        BlockKind::Zstd | BlockKind::Zeros => base == (0..0),
    };
    if !base_fits {
        return Err(IndexError::Base { block });
    }
    let possible = match kind {
        BlockKind::Zeros => 0..=0,
        // zstd never adds more than this to bytes that it cannot shorten.
        BlockKind::Zstd | BlockKind::ZstdWithBase(_) => 1..=fields.len + fields.len / 128 + 512,
    };
    if !possible.contains(&fields.stored_len) {
        return Err(IndexError::StoredLength {
            block,
            stored: fields.stored_len,
            len: fields.len,
        });
    }
    let found = Block {
        part: place.part,
        kind,
        stored_len: fields.stored_len,
        offset: fields.offset,
        plain_len: fields.len,
        stored_hash: fields.stored_hash,
        hash: fields.hash,
    };
    match found.memory() {
        bytes if bytes > DECODER_MEMORY => Err(IndexError::Memory { block, bytes }),
        _ => Ok(found),
    }
}

const ZSTD: u8 = 0;
const ZSTD_WITH_BASE: u8 = 1;
const ZEROS: u8 = 2;

/// An entry, taken apart:
///
/// | offset | size | field |
/// |---|---|---|
/// | 0 | 1 | part: 0 boot, 1 root |
/// | 1 | 1 | kind: 0 zstd, 1 zstd with base, 2 zeros |
/// | 2 | 2 | zero |
/// | 4 | 4 | length of the stored bytes |
/// | 8 | 8 | offset in the part |
/// | 16 | 4 | length of the plain bytes |
/// | 20 | 4 | length of the range of the base |
/// | 24 | 8 | its offset |
/// | 32 | 32 | SHA-256 of the stored bytes |
/// | 64 | 32 | SHA-256 of the plain bytes |
struct Fields {
    part: u8,
    kind: u8,
    zero: u16,
    stored_len: u32,
    offset: u64,
    len: u32,
    base_len: u32,
    base_offset: u64,
    stored_hash: Hash,
    hash: Hash,
}

impl Fields {
    fn of(entry: &[u8; ENTRY_SIZE]) -> Self {
        Self {
            part: u8::from_le_bytes(field(entry, 0)),
            kind: u8::from_le_bytes(field(entry, 1)),
            zero: u16::from_le_bytes(field(entry, 2)),
            stored_len: u32::from_le_bytes(field(entry, 4)),
            offset: u64::from_le_bytes(field(entry, 8)),
            len: u32::from_le_bytes(field(entry, 16)),
            base_len: u32::from_le_bytes(field(entry, 20)),
            base_offset: u64::from_le_bytes(field(entry, 24)),
            stored_hash: field(entry, 32).into(),
            hash: field(entry, 64).into(),
        }
    }
}

/// `N` bytes of an entry; all places above lie inside of it.
fn field<const N: usize>(entry: &[u8; ENTRY_SIZE], at: usize) -> [u8; N] {
    entry
        .get(at..)
        .and_then(<[u8]>::first_chunk)
        .copied()
        .unwrap_or([0; N])
}

#[cfg(feature = "writer")]
impl Block {
    /// The bytes of the entry.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let (kind, base) = match &self.kind {
            BlockKind::Zstd => (ZSTD, 0..0),
            BlockKind::ZstdWithBase(range) => (ZSTD_WITH_BASE, range.clone()),
            BlockKind::Zeros => (ZEROS, 0..0),
        };
        // A range that does not fit into 32 bits is refused by whoever reads it.
        let base_len = u32::try_from(base.end.saturating_sub(base.start)).unwrap_or(u32::MAX);
        let mut entry = vec![self.part.to_byte(), kind, 0, 0];
        entry.extend(self.stored_len.to_le_bytes());
        entry.extend(self.offset.to_le_bytes());
        entry.extend(self.plain_len.to_le_bytes());
        entry.extend(base_len.to_le_bytes());
        entry.extend(base.start.to_le_bytes());
        entry.extend(self.stored_hash.as_bytes());
        entry.extend(self.hash.as_bytes());
        entry
    }
}

/// How many stored bytes an entry speaks of.
#[cfg(feature = "writer")]
pub(crate) fn stored_len(entry: &[u8; ENTRY_SIZE]) -> Option<usize> {
    usize::try_from(Fields::of(entry).stored_len).ok()
}

/// Changes the hash of the stored bytes in an entry.
#[cfg(feature = "writer")]
pub(crate) fn set_stored_hash(entry: &mut [u8; ENTRY_SIZE], hash: &Hash) {
    let (_, from_hash) = entry.split_at_mut(32);
    from_hash
        .split_at_mut(32)
        .0
        .copy_from_slice(hash.as_bytes());
}

impl Part {
    const fn to_byte(self) -> u8 {
        match self {
            Self::Boot => 0,
            Self::Root => 1,
        }
    }

    /// Room for it in its partition.
    const fn capacity(self) -> u64 {
        match self {
            Self::Boot => MAX_PAYLOAD,
            Self::Root => MAX_ROOT,
        }
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Boot => "boot",
            Self::Root => "root",
        })
    }
}
