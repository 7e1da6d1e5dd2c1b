//! The update bundle: one signed file with a whole system, or with what changed since another one.
//!
//! | bytes | what |
//! |---|---|
//! | 24 | magic `KEELBNDL`, then four numbers of 32 bits: version 1, length of the manifest, number of signatures, length of the index |
//! | | manifest, JSON |
//! | 256 each | signatures over the manifest |
//! | 96 each | index: one entry for each block |
//! | | the stored blocks, one after the other |
//!
//! Everything is bounded before memory is taken for it: the head by fixed limits, the blocks by
//! the index, the index by its hash in the signed manifest. [`UnverifiedHead::read`] gives bytes
//! that only [`UnverifiedHead::verify`] turns into a [`Head`], and only a head gives blocks: what
//! nobody we trust has signed is never unpacked.
//!
//! Blocks are independent, so a transfer goes on at any of them ([`Head::position`]). Each is a zstd frame of
//! its own; in a delta its dictionary is a range of the system that the delta was made against.
//! [`BlockReader`] checks a block's stored bytes before unpacking and the plain ones after it, so
//! what it gives may be written. All numbers are little-endian.
//!
//! Opens no file and asks no clock: who calls brings a reader.

#![forbid(unsafe_code)]

mod blocks;
mod compatibility;
mod hash;
mod head;
mod index;
mod manifest;
mod prefix;
#[cfg(feature = "writer")]
pub mod writer;

pub use blocks::{Base, BlockError, BlockReader, ReadAt, Region, Stored};
pub use compatibility::{Machine, Objection, objections};
pub use hash::{Hash, ParseHashError};
pub use head::{Head, UnverifiedHead, VerifyError};
pub use index::{Block, BlockKind, DECODER_MEMORY, IndexError, Part};
pub use manifest::{Architecture, Manifest, ManifestError, PartFacts};
pub use prefix::ReadHeadError;

/// The newest format of STATE that systems built from this source read; a bundle says it as the
/// version of its component [`STATE_COMPONENT`].
pub const STATE_FORMAT: u32 = 1;

/// The component of a manifest whose version is the format of STATE.
pub const STATE_COMPONENT: &str = "state";
