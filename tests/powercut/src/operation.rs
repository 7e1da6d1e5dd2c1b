//! What is done to a disk, one thing after the other.

use std::sync::Arc;

use crate::Image;

/// One thing that is done to a disk.
#[derive(Clone, PartialEq, Eq)]
pub enum Operation {
    /// These bytes are no longer wanted; they read as zeros once that is on the disk.
    Discard {
        /// First byte.
        offset: u64,
        /// How many bytes.
        length: u64,
    },
    /// Everything before is on the disk when this has ended.
    Flush,
    /// Bytes go to the disk's cache, and to the disk some time later.
    Write {
        /// First byte.
        offset: u64,
        /// The bytes.
        data: Arc<[u8]>,
    },
}

/// How an operation looks to the planner, who does not care for bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// [`Operation::Flush`].
    Flush,
    /// Any of the others.
    Change {
        /// First byte.
        offset: u64,
        /// How many bytes.
        length: u64,
    },
}

impl Operation {
    /// A write of these bytes.
    pub fn write(offset: u64, bytes: &[u8]) -> Self {
        Self::Write {
            offset,
            data: Arc::from(bytes),
        }
    }

    /// Where it is and how long.
    pub fn shape(&self) -> Shape {
        match self {
            Self::Flush => Shape::Flush,
            Self::Discard { offset, length } => Shape::Change {
                offset: *offset,
                length: *length,
            },
            Self::Write { offset, data } => Shape::Change {
                offset: *offset,
                length: u64::try_from(data.len()).unwrap_or(u64::MAX),
            },
        }
    }

    /// Does it, all of it.
    pub fn apply(&self, image: &mut Image) {
        match self {
            Self::Discard { offset, length } => image.discard(*offset, *length),
            Self::Flush => {}
            Self::Write { offset, data } => image.write(*offset, data),
        }
    }
}

impl std::fmt::Debug for Operation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Discard { offset, length } => write!(f, "discard {length} at {offset:#x}"),
            Self::Flush => f.write_str("flush"),
            Self::Write { offset, data } => write!(f, "write {} at {offset:#x}", data.len()),
        }
    }
}
