//! Cuts of a whole machine: any moment of a recording, with everything that was written then.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use rustix::fs::{FallocateFlags, fallocate};
use thiserror::Error;

use crate::points::Random;
use crate::{CutPoint, LogError, Operation, Part, SECTOR, Shape, Tear, TornSector, WriteLog};

/// Why a disk was not made.
#[derive(Debug, Error)]
pub enum PlayError {
    /// The recording.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The image.
    #[error("cannot write the image of a cut")]
    Write(#[source] io::Error),
}

/// A cut at a random moment: half of what was not flushed then is lost, and the write that was
/// under way leaves garbage. Another seed gives another cut.
pub fn random_cut(operations: &[Shape], seed: u64) -> CutPoint {
    let mut random = Random(seed);
    let moment = random.below(operations.len());
    let before = &operations[..moment];
    let flush = before.iter().rposition(|shape| *shape == Shape::Flush);
    let durable = flush.map_or(0, |flush| flush + 1);
    let mut kept = Vec::new();
    for (operation, shape) in operations.iter().enumerate().take(moment).skip(durable) {
        if let Shape::Change { length, .. } = shape
            && random.next().is_multiple_of(2)
        {
            let bytes = 0..*length;
            kept.push(Part { operation, bytes });
        }
    }
    let torn = match operations.get(moment) {
        Some(Shape::Change { length, .. }) if *length >= SECTOR => Some(TornSector {
            operation: moment,
            offset: random.next() % (length / SECTOR) * SECTOR,
            tear: Tear::Garbage,
        }),
        _ => None,
    };
    CutPoint {
        durable,
        kept,
        torn,
    }
}

impl WriteLog {
    /// Does to an image what a cut leaves of the recording. The image holds what the disk held
    /// before it.
    pub fn play(&self, cut: &CutPoint, image: &File) -> Result<(), PlayError> {
        for number in 0..cut.durable {
            put(&self.operation(number)?, image).map_err(PlayError::Write)?;
        }
        for part in &cut.kept {
            put(&self.operation(part.operation)?, image).map_err(PlayError::Write)?;
        }
        if let Some(torn) = &cut.torn
            && let Operation::Write { offset, .. } = self.operation(torn.operation)?
        {
            let garbage = Random(offset).bytes(512);
            let torn = Operation::write(offset + torn.offset, &garbage);
            put(&torn, image).map_err(PlayError::Write)?;
        }
        Ok(())
    }
}

fn put(operation: &Operation, image: &File) -> io::Result<()> {
    match operation {
        Operation::Discard { offset, length } => {
            let hole = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
            Ok(fallocate(image, hole, *offset, *length)?)
        }
        Operation::Flush => Ok(()),
        Operation::Write { offset, data } => image.write_all_at(data, *offset),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cuts_are_anywhere_and_the_same_for_a_seed() {
        let write = Shape::Change {
            offset: 0,
            length: 4096,
        };
        let shapes = [[write; 9].as_slice(), &[Shape::Flush]].concat().repeat(20);
        let cuts: Vec<_> = (0..200).map(|seed| random_cut(&shapes, seed)).collect();
        assert_eq!(cuts[7], random_cut(&shapes, 7));
        for cut in &cuts {
            assert!(cut.durable.is_multiple_of(10), "{cut:?}");
            let window = cut.durable..cut.durable + 10;
            let parts = cut.kept.iter().map(|part| part.operation);
            let torn = cut.torn.iter().map(|torn| torn.operation);
            assert!(
                parts
                    .chain(torn)
                    .all(|operation| window.contains(&operation))
            );
        }
        assert!(cuts.iter().any(|cut| cut.durable == 0));
        assert!(cuts.iter().any(|cut| cut.durable == 190));
        assert_eq!(random_cut(&[], 1).durable, 0);
    }
}
