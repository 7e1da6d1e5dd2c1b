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

/// What a mark says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// What is here is to be erased and made anew, because a person asked for it.
    Erase,
    /// What is here is being made and worth nothing.
    Unfinished,
}

impl Mark {
    const ALL: [Self; 2] = [Self::Erase, Self::Unfinished];

    /// Reads the tail of a partition.
    pub fn read(tail: &[u8]) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|mark| tail.starts_with(mark.text()))
    }

    /// The tail with this mark.
    pub fn tail(self) -> Vec<u8> {
        let mut block = self.text().to_vec();
        block.resize(TAIL_LEN, 0);
        block
    }

    fn text(self) -> &'static [u8] {
        match self {
            Self::Erase => b"keelson: this file system is to be erased\n",
            Self::Unfinished => b"keelson: this file system is being made\n",
        }
    }
}

/// The tail without a mark.
pub(crate) fn unmarked() -> Vec<u8> {
    vec![0; TAIL_LEN]
}
