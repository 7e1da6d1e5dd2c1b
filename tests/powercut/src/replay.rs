//! Makes the disk of every cut point: what is durable once, and a copy with the rest per point.

use crate::points::{CutPoint, Part, Random, Tear, TornSector};
use crate::{Image, Operation, SECTOR};

/// Walks along a list of operations.
#[derive(Debug)]
pub struct Replay<'a> {
    operations: &'a [Operation],
    /// The disk with the first `done` operations.
    durable: Image,
    done: usize,
    base: &'a Image,
}

impl<'a> Replay<'a> {
    /// Starts with the disk before all of them.
    pub fn new(base: &'a Image, operations: &'a [Operation]) -> Self {
        Self {
            operations,
            durable: base.clone(),
            done: 0,
            base,
        }
    }

    /// The disk at a point. Cheap as long as points come in the order of the plan.
    pub fn at(&mut self, point: &CutPoint) -> Image {
        if point.durable < self.done {
            self.durable = self.base.clone();
            self.done = 0;
        }
        for operation in &self.operations[self.done..point.durable] {
            operation.apply(&mut self.durable);
        }
        self.done = point.durable;
        let mut disk = self.durable.clone();
        for part in &point.kept {
            self.write(&mut disk, part);
        }
        if let Some(torn) = &point.torn {
            self.tear(&mut disk, torn);
        }
        disk
    }

    fn write(&self, disk: &mut Image, part: &Part) {
        let Part { operation, bytes } = part;
        match &self.operations[*operation] {
            Operation::Discard { offset, .. } => {
                disk.discard(offset + bytes.start, bytes.end - bytes.start);
            }
            Operation::Flush => {}
            Operation::Write { offset, data } => {
                disk.write(
                    offset + bytes.start,
                    &data[index(bytes.start)..index(bytes.end)],
                );
            }
        }
    }

    fn tear(&self, disk: &mut Image, torn: &TornSector) {
        let (start, new) = match &self.operations[torn.operation] {
            // Nothing is written, so nothing is torn: the old bytes stay.
            Operation::Discard { .. } | Operation::Flush => return,
            Operation::Write { offset, data } => {
                let from = index(torn.offset);
                let to = data.len().min(from + index(SECTOR));
                (offset + torn.offset, &data[from..to])
            }
        };
        let half = new.len() / 2;
        match torn.tear {
            Tear::FirstHalf => disk.write(start, &new[..half]),
            Tear::Garbage => {
                disk.write(start, &Random(start).bytes(new.len()));
            }
            Tear::ReadError => disk.break_sector(start / SECTOR),
            Tear::SecondHalf => disk.write(start + SECTOR / 2, &new[half..]),
        }
    }
}

/// Every number here is smaller than the length of a slice.
fn index(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::{
        ProptestConfig, Strategy, any, prop_assert, prop_assert_eq, prop_oneof, proptest,
    };

    use super::*;
    use crate::points::{Sampling, plan};

    const SIZE: u64 = 64 * SECTOR;

    const SAMPLING: Sampling = Sampling {
        seed: 3,
        subsets: 4,
        tears: 1,
    };

    fn operations() -> impl Strategy<Value = Vec<Operation>> {
        let one = prop_oneof![
            any::<bool>().prop_map(|_| Operation::Flush),
            (0..40_u64, 1..24_usize, 1..255_u8).prop_map(|(at, sectors, fill)| {
                Operation::write(at * SECTOR, &vec![fill; sectors * 512])
            }),
            (0..40_u64, 1..24_u64).prop_map(|(at, sectors)| Operation::Discard {
                offset: at * SECTOR,
                length: sectors * SECTOR,
            }),
        ];
        vec(one, 0..7)
    }

    fn sector(image: &Image, number: u64) -> Option<[u8; 512]> {
        let mut bytes = [0; 512];
        image.read(number * SECTOR, &mut bytes).ok()?;
        Some(bytes)
    }

    /// Plays the operations without any cleverness.
    fn played(operations: &[Operation]) -> Image {
        let mut image = Image::blank(SIZE);
        for operation in operations {
            operation.apply(&mut image);
        }
        image
    }

    proptest! {
        // A case has up to ten thousand points.
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn every_sector_is_one_that_was_there_or_the_torn_one(operations in operations()) {
            let shapes: Vec<_> = operations.iter().map(Operation::shape).collect();
            let base = Image::blank(SIZE);
            let mut replay = Replay::new(&base, &operations);
            for point in plan(&shapes, SAMPLING) {
                let disk = replay.at(&point);
                let end = operations[point.durable..]
                    .iter()
                    .position(|operation| *operation == Operation::Flush)
                    .map_or(operations.len(), |length| point.durable + length);
                let torn = point.torn.as_ref().and_then(|torn| match &operations[torn.operation] {
                    Operation::Write { offset, .. } => Some((offset + torn.offset) / SECTOR),
                    _ => None,
                });
                // What each sector held at any moment of this window.
                let moments: Vec<Image> = (point.durable..=end)
                    .map(|moment| played(&operations[..moment]))
                    .collect();
                for number in 0..SIZE / SECTOR {
                    let known = moments.iter().any(|image| sector(image, number) == sector(&disk, number));
                    prop_assert!(known || torn == Some(number), "sector {number} at {point:?}");
                }
            }
        }

        #[test]
        fn points_in_any_order_give_the_same_disks(operations in operations()) {
            let shapes: Vec<_> = operations.iter().map(Operation::shape).collect();
            let base = Image::blank(SIZE);
            let points = plan(&shapes, SAMPLING);
            let mut replay = Replay::new(&base, &operations);
            let forward: Vec<Image> = points.iter().map(|point| replay.at(point)).collect();
            let mut backward: Vec<Image> = points.iter().rev().map(|point| replay.at(point)).collect();
            backward.reverse();
            prop_assert!(forward == backward);
            prop_assert_eq!(forward.last().unwrap(), &played(&operations));
        }
    }

    #[test]
    fn a_torn_sector_is_half_old_half_new_or_worse() {
        let old = Operation::write(512, &[1; 512]);
        let operations = [old, Operation::Flush, Operation::write(512, &[2; 512])];
        let base = Image::blank(SIZE);
        let mut replay = Replay::new(&base, &operations);
        let mut torn = |tear| {
            let torn = TornSector {
                operation: 2,
                offset: 0,
                tear,
            };
            sector(
                &replay.at(&CutPoint {
                    durable: 2,
                    kept: Vec::new(),
                    torn: Some(torn),
                }),
                1,
            )
        };
        let halves = |first, second| {
            let mut bytes = [first; 512];
            bytes[256..].fill(second);
            Some(bytes)
        };
        assert_eq!(torn(Tear::FirstHalf), halves(2, 1));
        assert_eq!(torn(Tear::SecondHalf), halves(1, 2));
        assert_eq!(torn(Tear::ReadError), None);
        let garbage = torn(Tear::Garbage);
        assert!(garbage.is_some() && garbage != halves(1, 1) && garbage != halves(2, 2));
    }
}
