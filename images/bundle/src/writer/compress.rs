//! Compression of single blocks, with or without a range of a base.

use std::ops::Range;

use zstd::zstd_safe::{self, CCtx, CParameter};

use super::WriteError;
use super::base::{BaseParts, Pages, is_zeros};
use crate::blocks::ReadAt;
use crate::hash::Hash;
use crate::index::{Block, BlockKind, Part, Place};

/// How hard blocks that hold something new are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Level(pub i32);

/// Blocks that only move need no search.
const MOVED: Level = Level(3);

/// Frames refer at most so far back: a block of 16 MiB behind its range of the base.
const WINDOW_LOG: u32 = 26;

/// A block with its stored bytes.
pub(super) type Packed = (Block, Vec<u8>);

/// Packs the block at `place` of a part.
pub(super) fn pack(
    place: Place,
    from: &dyn ReadAt,
    base: Option<&BaseParts<'_>>,
    level: Level,
) -> Result<Packed, WriteError> {
    let mut plain = vec![0; as_len(place.len.into())];
    from.read_exact_at(&mut plain, place.offset)
        .map_err(|source| WriteError::Read {
            part: place.part,
            source,
        })?;
    let (kind, stored) = if is_zeros(&plain) {
        (BlockKind::Zeros, Vec::new())
    } else if let Some(base) = base {
        against(place, &plain, base, level)?
    } else {
        (BlockKind::Zstd, compress(place.part, &plain, &[], level)?)
    };
    let block = Block {
        part: place.part,
        kind,
        // Blocks have at most 16 MiB, and zstd adds less than a hundredth.
        stored_len: u32::try_from(stored.len()).unwrap_or(u32::MAX),
        offset: place.offset,
        plain_len: place.len,
        stored_hash: Hash::of(&stored),
        hash: Hash::of(&plain),
    };
    Ok((block, stored))
}

/// What a node must read of its running system is as short as it can be: nearly all blocks are a
/// piece of it that has moved.
fn against(
    place: Place,
    plain: &[u8],
    base: &BaseParts<'_>,
    level: Level,
) -> Result<(BlockKind, Vec<u8>), WriteError> {
    let part = base.part(place.part);
    let (range, level) = match part.pages.range_of(plain, place.offset) {
        Some(moved) => (moved, MOVED),
        None => (part.around(place), level),
    };
    let near = part.read(place.part, &range)?;
    if near.is_empty() {
        return Ok((BlockKind::Zstd, compress(place.part, plain, &[], level)?));
    }
    let stored = compress(place.part, plain, &near, level)?;
    Ok((BlockKind::ZstdWithBase(range), stored))
}

fn compress(part: Part, plain: &[u8], prefix: &[u8], level: Level) -> Result<Vec<u8>, WriteError> {
    let failed = |code| WriteError::Compress {
        part,
        reason: zstd_safe::get_error_name(code),
    };
    let mut context = CCtx::create();
    let mut set = |parameter| context.set_parameter(parameter).map_err(failed);
    set(CParameter::CompressionLevel(level.0))?;
    // The hashes of the index say more.
    set(CParameter::ChecksumFlag(false))?;
    if !prefix.is_empty() {
        set(CParameter::WindowLog(WINDOW_LOG))?;
        // Finds what is the same at any distance; the search of the level only looks nearby.
        set(CParameter::EnableLongDistanceMatching(true))?;
        context.ref_prefix(prefix).map_err(failed)?;
    }
    let mut stored = Vec::with_capacity(zstd_safe::compress_bound(plain.len()));
    context.compress2(&mut stored, plain).map_err(failed)?;
    stored.shrink_to_fit();
    Ok(stored)
}

pub(super) fn as_len(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

/// Where the bytes of a range are.
pub(super) fn length(range: &Range<u64>) -> usize {
    as_len(range.end.saturating_sub(range.start))
}

/// The pages of a base by content.
pub(super) fn pages(part: Part, from: &dyn ReadAt, size: u64) -> Result<Pages, WriteError> {
    Pages::of(from, size).map_err(|source| WriteError::Read { part, source })
}
