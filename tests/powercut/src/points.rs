//! Where the power can fail, as data.
//!
//! Between two flushes a disk may write what it was given in any order, so after a cut any part of
//! it can be there. The parts of a window between two flushes are its sectors when the writes
//! are small, and whole writes when they are large. Windows of up to eight parts get every
//! subset; larger ones every prefix, every single missing part and some random subsets. In
//! either case one more sector may have been cut in the middle.

use std::fmt;
use std::ops::Range;

use crate::{SECTOR, Shape};

/// Windows of up to so many parts get every subset.
const EXHAUSTIVE: usize = 8;
/// And of up to so many every torn sector with every subset of the others: a record has three.
const ALL_TEARS: usize = 4;
/// Writes of up to so many sectors are taken apart: a header page has eight.
const TAKEN_APART: u64 = 8;

/// A moment at which the power fails, and what is on the disk then.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CutPoint {
    /// All operations before this one are on the disk.
    pub durable: usize,
    /// Of what was done since, this is on the disk too, in the order in which it was done.
    pub kept: Vec<Part>,
    /// A sector that was being written.
    pub torn: Option<TornSector>,
}

/// A part of a write.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Part {
    /// Number of the operation.
    pub operation: usize,
    /// Which of its bytes.
    pub bytes: Range<u64>,
}

/// A sector that was being written when the power failed.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TornSector {
    /// Number of the write.
    pub operation: usize,
    /// First byte of the sector, counted from the start of the write.
    pub offset: u64,
    /// What is in it now.
    pub tear: Tear,
}

/// What a sector holds whose write was cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Tear {
    /// The first half is new, the second one old.
    FirstHalf,
    /// Something else.
    Garbage,
    /// The drive reports an error.
    ReadError,
    /// The second half is new, the first one old.
    SecondHalf,
}

impl Tear {
    /// All kinds.
    pub const ALL: [Self; 4] = [
        Self::FirstHalf,
        Self::Garbage,
        Self::ReadError,
        Self::SecondHalf,
    ];
}

/// How much is tried where not everything can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sampling {
    /// Other points with another seed, the same ones with the same seed.
    pub seed: u64,
    /// Random subsets of a large window.
    pub subsets: usize,
    /// Torn sectors for each subset of a window of five to eight parts.
    pub tears: usize,
}

/// Plans all points, those with fewer durable operations first. The first one has nothing
/// on the disk, the last one everything.
pub fn plan(operations: &[Shape], sampling: Sampling) -> Vec<CutPoint> {
    let mut random = Random(sampling.seed);
    let mut points = vec![CutPoint::nothing_since(0)];
    let mut durable = 0;
    for window in operations.split_inclusive(|shape| *shape == Shape::Flush) {
        let parts = parts(durable, window);
        if parts.len() <= EXHAUSTIVE {
            exhaust(durable, &parts, sampling.tears, &mut random, &mut points);
        } else {
            sample(durable, &parts, sampling.subsets, &mut random, &mut points);
        }
        durable += window.len();
    }
    points
}

impl CutPoint {
    fn nothing_since(durable: usize) -> Self {
        Self {
            durable,
            kept: Vec::new(),
            torn: None,
        }
    }
}

impl fmt::Display for CutPoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "after {} operations", self.durable)?;
        for part in &self.kept {
            let Part { operation, bytes } = part;
            write!(f, ", bytes {}-{} of {operation}", bytes.start, bytes.end)?;
        }
        match &self.torn {
            Some(torn) => write!(
                f,
                ", {:?} in the sector at {} of {}",
                torn.tear, torn.offset, torn.operation
            ),
            None => Ok(()),
        }
    }
}

/// What a window consists of.
fn parts(first: usize, window: &[Shape]) -> Vec<Part> {
    let mut parts = Vec::new();
    for (operation, shape) in (first..).zip(window) {
        let Shape::Change { length, .. } = *shape else {
            continue;
        };
        let step = if length <= TAKEN_APART * SECTOR {
            SECTOR
        } else {
            length
        };
        let mut start = 0;
        while start < length {
            let end = (start + step).min(length);
            let bytes = start..end;
            parts.push(Part { operation, bytes });
            start = end;
        }
    }
    parts
}

/// Every subset but the empty one, which the window before has had; and for each of them other
/// parts torn.
fn exhaust(
    durable: usize,
    parts: &[Part],
    tears: usize,
    random: &mut Random,
    points: &mut Vec<CutPoint>,
) {
    for mask in 0..1_u32 << parts.len() {
        let is_kept = |bit: usize| mask & (1 << bit) != 0;
        let numbered = || parts.iter().enumerate();
        let kept: Vec<Part> = numbered()
            .filter(|(bit, _)| is_kept(*bit))
            .map(|(_, part)| part.clone())
            .collect();
        let mut torn = Vec::new();
        for (_, part) in numbered().filter(|(bit, _)| !is_kept(*bit)) {
            tear(durable, &kept, part, random, &mut torn);
        }
        let wanted = if parts.len() <= ALL_TEARS {
            torn.len()
        } else {
            tears.min(torn.len())
        };
        for _ in 0..wanted {
            points.push(torn.swap_remove(random.below(torn.len())));
        }
        if !kept.is_empty() {
            points.push(CutPoint {
                durable,
                kept,
                torn: None,
            });
        }
    }
}

fn sample(
    durable: usize,
    parts: &[Part],
    subsets: usize,
    random: &mut Random,
    points: &mut Vec<CutPoint>,
) {
    let mut push = |kept: Vec<Part>| {
        points.push(CutPoint {
            durable,
            kept,
            torn: None,
        });
    };
    for (missing, _) in parts.iter().enumerate() {
        let others = parts.iter().enumerate().filter(|(n, _)| *n != missing);
        push(others.map(|(_, part)| part.clone()).collect());
    }
    for _ in 0..subsets {
        let chosen = parts.iter().filter(|_| random.next().is_multiple_of(2));
        push(chosen.cloned().collect());
    }
    for (done, part) in parts.iter().enumerate() {
        tear(durable, &parts[..done], part, random, points);
        let kept = parts[..=done].to_vec();
        points.push(CutPoint {
            durable,
            kept,
            torn: None,
        });
    }
}

/// A part that is being written: a small one at its sector in every way, a large one at its first
/// sector, its last one and one between, in one way each.
fn tear(
    durable: usize,
    kept: &[Part],
    part: &Part,
    random: &mut Random,
    points: &mut Vec<CutPoint>,
) {
    let sectors = (part.bytes.end - part.bytes.start).div_ceil(SECTOR);
    let mut push = |sector: u64, tear: Tear| {
        let offset = part.bytes.start + sector * SECTOR;
        let mut kept = kept.to_vec();
        if sector > 0 {
            let bytes = part.bytes.start..offset;
            let operation = part.operation;
            kept.push(Part { operation, bytes });
            kept.sort_by_key(|part| (part.operation, part.bytes.start));
        }
        let operation = part.operation;
        let torn = Some(TornSector {
            operation,
            offset,
            tear,
        });
        points.push(CutPoint {
            durable,
            kept,
            torn,
        });
    };
    if sectors == 1 {
        for kind in Tear::ALL {
            push(0, kind);
        }
    } else {
        push(0, Tear::FirstHalf);
        push(random.next() % sectors, Tear::Garbage);
        push(sectors - 1, Tear::ReadError);
    }
}

/// A sequence of numbers without a pattern, the same one for the same seed (SplitMix64).
#[derive(Debug)]
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end`, which is not zero.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        let end = u64::try_from(end).unwrap_or(u64::MAX).max(1);
        usize::try_from(self.next() % end).unwrap_or(0)
    }

    pub(crate) fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| self.next().to_le_bytes()[0]).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::collection::vec;
    use proptest::prelude::{Just, Strategy, prop_assert, prop_assert_eq, prop_oneof, proptest};

    use super::*;

    const SAMPLING: Sampling = Sampling {
        seed: 1,
        subsets: 5,
        tears: 1,
    };

    fn change(length: u64) -> Shape {
        Shape::Change { offset: 0, length }
    }

    fn shapes() -> impl Strategy<Value = Vec<Shape>> {
        let one = prop_oneof![
            Just(Shape::Flush),
            (1..30_u64).prop_map(|sectors| change(sectors * SECTOR)),
        ];
        vec(one, 0..20)
    }

    #[test]
    fn a_record_of_three_sectors_is_exhaustive() {
        let points = plan(&[change(512), change(1024), Shape::Flush], SAMPLING);
        let whole: HashSet<_> = points
            .iter()
            .filter(|point| point.torn.is_none())
            .map(|point| point.kept.clone())
            .collect();
        assert_eq!(whole.len(), 8, "every subset, nothing twice");
        let torn = points.iter().filter(|point| point.torn.is_some()).count();
        assert_eq!(torn, 3 * 4 * 4, "sectors, subsets of the others, kinds");
        assert_eq!(points.len(), 8 + 48);
    }

    #[test]
    fn a_page_gets_every_subset_and_as_many_tears_as_wanted() {
        let count = |tears| {
            let sampling = Sampling { tears, ..SAMPLING };
            let points = plan(&[change(4096), Shape::Flush], sampling);
            let torn = points.iter().filter(|point| point.torn.is_some()).count();
            (points.len() - torn, torn)
        };
        assert_eq!(count(1), (256, 255));
        assert_eq!(count(1000), (256, 8 * 128 * 4));
    }

    #[test]
    fn a_large_window_gets_prefixes_single_losses_and_random_subsets() {
        let window = [change(1 << 20); 10];
        let points = plan(&window, SAMPLING);
        let kept: Vec<usize> = points
            .iter()
            .filter(|point| point.torn.is_none())
            .map(|point| point.kept.len())
            .collect();
        assert_eq!(kept.iter().filter(|count| **count == 9).count(), 10 + 1);
        assert_eq!(kept.len(), 1 + 10 + 5 + 10);
        assert_eq!(kept.last(), Some(&10));
        assert_eq!(plan(&window, SAMPLING), points);
        let other = Sampling {
            seed: 2,
            ..SAMPLING
        };
        assert_ne!(plan(&window, other), points);
    }

    proptest! {
        #[test]
        fn points_stay_inside_of_their_window(shapes in shapes()) {
            let points = plan(&shapes, SAMPLING);
            prop_assert_eq!(&points[0], &CutPoint::nothing_since(0));
            prop_assert!(points.is_sorted_by_key(|point| point.durable));
            for point in &points {
                let flushed = point.durable == 0 || shapes[point.durable - 1] == Shape::Flush;
                prop_assert!(flushed, "{point:?} starts in the middle of a window");
                let window = shapes[point.durable..]
                    .iter()
                    .position(|shape| *shape == Shape::Flush)
                    .map_or(shapes.len(), |length| point.durable + length);
                let inside = |operation: usize, bytes: Range<u64>| {
                    (point.durable..window).contains(&operation)
                        && matches!(shapes[operation], Shape::Change { length, .. } if bytes.end <= length)
                        && bytes.start.is_multiple_of(SECTOR)
                };
                prop_assert!(point.kept.iter().all(|part| inside(part.operation, part.bytes.clone())));
                prop_assert!(point.kept.is_sorted_by_key(|part| (part.operation, part.bytes.start)));
                if let Some(torn) = &point.torn {
                    prop_assert!(inside(torn.operation, torn.offset..torn.offset + SECTOR));
                    let written = |part: &&Part| part.operation == torn.operation
                        && part.bytes.contains(&torn.offset);
                    prop_assert_eq!(point.kept.iter().find(written), None, "torn and whole");
                }
            }
        }

        #[test]
        fn the_state_after_each_flush_is_among_them(shapes in shapes()) {
            let points = plan(&shapes, SAMPLING);
            for (number, shape) in shapes.iter().enumerate() {
                if *shape == Shape::Flush {
                    let bytes: u64 = shapes[..number].iter().map(length).sum();
                    let found = points.iter().any(|point| {
                        let before: u64 = shapes[..point.durable].iter().map(length).sum();
                        let kept: u64 = point.kept.iter().map(|part| part.bytes.end - part.bytes.start).sum();
                        point.torn.is_none() && point.durable <= number && before + kept == bytes
                    });
                    prop_assert!(found, "no point after flush {number}");
                }
            }
        }
    }

    fn length(shape: &Shape) -> u64 {
        match shape {
            Shape::Flush => 0,
            Shape::Change { length, .. } => *length,
        }
    }
}
