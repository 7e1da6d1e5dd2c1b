//! The mark that says "what is on this partition is being made and worth nothing".
//!
//! It sits in the last 4096 bytes of the partition, behind the file system. It is written and
//! flushed before mkfs starts and removed after mkfs was flushed, so at any power cut either the
//! mark is there (make it again) or the file system is complete. A label set as the last step
//! cannot give that: a cut inside mkfs leaves tables on the disk and no superblock to hold a label,
//! which looks like foreign data.

/// Space kept free behind the file system, one sector of the largest size.
pub const TAIL: u64 = 4096;
/// [`TAIL`] as the length of a buffer.
pub(crate) const TAIL_LEN: usize = 4096;

const TEXT: &[u8] = b"keelson: this file system is being made\n";

/// The tail with the mark.
pub fn marked() -> Vec<u8> {
    let mut block = TEXT.to_vec();
    block.resize(TAIL_LEN, 0);
    block
}

/// The tail without.
pub(crate) fn unmarked() -> Vec<u8> {
    vec![0; TAIL_LEN]
}

/// Whether the mark is there.
pub fn is_marked(tail: &[u8]) -> bool {
    tail.starts_with(TEXT)
}
