//! The blocks: read, checked, unpacked and checked again.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::ops::Range;
use std::os::unix::fs::FileExt;

use zstd::zstd_safe::{self, DCtx};

use crate::hash::Hash;
use crate::head::Head;
use crate::index::{Block, BlockKind, Part};

/// Bytes at any place: a file, a partition, a piece of one.
pub trait ReadAt {
    /// Fills `buffer` with the bytes from `offset` on.
    ///
    /// # Errors
    /// When they cannot be read or there are not as many.
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()>;
}

/// The system that a delta was made against.
#[derive(Clone, Copy)]
pub struct Base<'a> {
    /// Its boot part, without the header of the slot.
    pub boot: &'a dyn ReadAt,
    /// Its root part.
    pub root: &'a dyn ReadAt,
}

/// Takes the blocks of a bundle in their order, with memory for one of them.
#[derive(Debug)]
pub struct BlockReader<'h> {
    head: &'h Head,
    stored: Vec<u8>,
    base: Vec<u8>,
    plain: Vec<u8>,
}

/// A block whose stored bytes are here and are what was signed.
#[derive(Debug)]
pub struct Stored<'r> {
    number: usize,
    block: &'r Block,
    bytes: &'r [u8],
    base: &'r mut Vec<u8>,
    plain: &'r mut Vec<u8>,
}

/// Why a block cannot be had. Nothing of it may be written.
#[derive(Debug, thiserror::Error)]
pub enum BlockError {
    /// The system that the delta needs cannot be read.
    #[error("block {block}: cannot read bytes {} to {} of the {part} part of the running system", .range.start, .range.end)]
    Base {
        /// Number of the block.
        block: usize,
        /// Which part of it.
        part: Part,
        /// Which bytes.
        range: Range<u64>,
        /// What the system said.
        source: io::Error,
    },
    /// The stored bytes are not those that were signed.
    #[error("block {block} was changed on the way: its stored bytes do not have the signed hash")]
    Damaged {
        /// Number of the block.
        block: usize,
    },
    /// The bundle ends too early.
    #[error("the bundle ends inside of block {block}: the file is not complete")]
    Ended {
        /// Number of the block.
        block: usize,
    },
    /// The bundle has no such block.
    #[error("the bundle has no block {block}")]
    NoBlock {
        /// Number of the block.
        block: usize,
    },
    /// A delta without its base.
    #[error("block {block} of this delta needs the system that it was made against")]
    NoBase {
        /// Number of the block.
        block: usize,
    },
    /// The source of the bytes failed.
    #[error("cannot read block {block} of the bundle")]
    Read {
        /// Number of the block.
        block: usize,
        /// What the system said.
        source: io::Error,
    },
    /// The frame is not one, or too long.
    #[error("block {block} cannot be unpacked: {reason}")]
    Unpack {
        /// Number of the block.
        block: usize,
        /// What zstd said.
        reason: &'static str,
    },
    /// What was unpacked is not what was signed.
    #[error("block {block}: the unpacked bytes do not have the signed hash{}", hint(*.delta))]
    Wrong {
        /// Number of the block.
        block: usize,
        /// Whether it came from a delta.
        delta: bool,
    },
}

impl<'h> BlockReader<'h> {
    /// For the blocks of this bundle; memory is taken now, once.
    pub fn new(head: &'h Head) -> Self {
        let blocks = head.blocks();
        let most = |len: fn(&Block) -> usize| {
            Vec::with_capacity(blocks.iter().map(len).max().unwrap_or_default())
        };
        Self {
            head,
            stored: most(|block| as_len(block.stored_len.into())),
            base: most(|block| match &block.kind {
                BlockKind::ZstdWithBase(range) => as_len(range.end - range.start),
                BlockKind::Zstd | BlockKind::Zeros => 0,
            }),
            plain: most(|block| as_len(block.plain_len.into())),
        }
    }

    /// Reads the stored bytes of a block, which come next in `from`, and checks their hash.
    ///
    /// # Errors
    /// When there are too few or they are not what was signed.
    pub fn read(&mut self, number: usize, from: &mut impl Read) -> Result<Stored<'_>, BlockError> {
        let block = self
            .head
            .blocks()
            .get(number)
            .ok_or(BlockError::NoBlock { block: number })?;
        self.stored.clear();
        self.stored.resize(as_len(block.stored_len.into()), 0);
        from.read_exact(&mut self.stored)
            .map_err(|source| match source.kind() {
                io::ErrorKind::UnexpectedEof => BlockError::Ended { block: number },
                _ => BlockError::Read {
                    block: number,
                    source,
                },
            })?;
        if Hash::of(&self.stored) != block.stored_hash {
            return Err(BlockError::Damaged { block: number });
        }
        Ok(Stored {
            number,
            block,
            bytes: &self.stored,
            base: &mut self.base,
            plain: &mut self.plain,
        })
    }
}

impl<'r> Stored<'r> {
    /// What the index says about it.
    pub const fn block(&self) -> &'r Block {
        self.block
    }

    /// The plain bytes of the block, which go to [`Block::offset`] of its part. A delta needs the
    /// system that it was made against.
    ///
    /// # Errors
    /// When they are not what was signed: a delta on another system than its base, most of all.
    pub fn unpack(self, base: Option<Base<'_>>) -> Result<&'r [u8], BlockError> {
        let (number, block) = (self.number, self.block);
        let len = as_len(block.plain_len.into());
        self.plain.clear();
        match &block.kind {
            BlockKind::Zeros => self.plain.resize(len, 0),
            BlockKind::Zstd => {
                self.plain.reserve_exact(len);
                decompress(number, self.bytes, &[], self.plain)?;
            }
            BlockKind::ZstdWithBase(range) => {
                let base = base.ok_or(BlockError::NoBase { block: number })?;
                self.base.clear();
                self.base.resize(as_len(range.end - range.start), 0);
                base.part(block.part)
                    .read_exact_at(self.base, range.start)
                    .map_err(|source| BlockError::Base {
                        block: number,
                        part: block.part,
                        range: range.clone(),
                        source,
                    })?;
                self.plain.reserve_exact(len);
                decompress(number, self.bytes, self.base, self.plain)?;
            }
        }
        if self.plain.len() != len || Hash::of(self.plain) != block.hash {
            return Err(BlockError::Wrong {
                block: number,
                delta: matches!(block.kind, BlockKind::ZstdWithBase(_)),
            });
        }
        Ok(self.plain)
    }
}

/// Unpacks in one step: what it writes to is its window too, so nothing else takes memory. It
/// writes no more than there is room in `plain`.
fn decompress(
    block: usize,
    stored: &[u8],
    base: &[u8],
    plain: &mut Vec<u8>,
) -> Result<(), BlockError> {
    let failed = |code| BlockError::Unpack {
        block,
        reason: zstd_safe::get_error_name(code),
    };
    let mut context = DCtx::create();
    if !base.is_empty() {
        context.ref_prefix(base).map_err(failed)?;
    }
    context.decompress(plain, stored).map_err(failed)?;
    Ok(())
}

impl<'a> Base<'a> {
    fn part(&self, part: Part) -> &'a dyn ReadAt {
        match part {
            Part::Boot => self.boot,
            Part::Root => self.root,
        }
    }
}

impl ReadAt for File {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        FileExt::read_exact_at(self, buffer, offset)
    }
}

impl ReadAt for Vec<u8> {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let from = usize::try_from(offset)
            .ok()
            .and_then(|offset| self.get(offset..)?.get(..buffer.len()))
            .ok_or(io::ErrorKind::UnexpectedEof)?;
        buffer.copy_from_slice(from);
        Ok(())
    }
}

/// The bytes of a file from some place on, such as a partition of a disk.
#[derive(Debug)]
pub struct Region {
    /// The file.
    pub file: File,
    /// Its byte that counts as the first one.
    pub start: u64,
}

impl ReadAt for Region {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let offset = self
            .start
            .checked_add(offset)
            .ok_or(io::ErrorKind::UnexpectedEof)?;
        FileExt::read_exact_at(&self.file, buffer, offset)
    }
}

impl fmt::Debug for Base<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Base").finish_non_exhaustive()
    }
}

/// The index keeps every length below [`crate::DECODER_MEMORY`].
fn as_len(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or_default()
}

const fn hint(delta: bool) -> &'static str {
    if delta {
        ": is this the system that the delta was made against?"
    } else {
        ""
    }
}
