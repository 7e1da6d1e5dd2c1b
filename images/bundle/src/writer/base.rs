//! The system that a delta is made against: which range of it helps a block most.

use std::collections::HashMap;
use std::io;
use std::ops::Range;

use super::WriteError;
use super::compress::{as_len, length, pages};
use crate::blocks::ReadAt;
use crate::hash::Hash;
use crate::index::{Part, Place};
use crate::manifest::PartFacts;

/// What has changed is looked for so far before and behind the same place: more than a program
/// grows from one version to the next, and little enough memory for a small node.
const AROUND: u64 = 8 * 1024 * 1024;

/// The unit of a root file system; everything in it starts at a multiple.
const PAGE: usize = 4096;
const PAGE_BYTES: u64 = 4096;

/// Both parts of a base.
pub(super) struct BaseParts<'a> {
    boot: BasePart<'a>,
    root: BasePart<'a>,
}

/// One of them.
pub(super) struct BasePart<'a> {
    from: &'a (dyn ReadAt + Sync),
    size: u64,
    pub(super) pages: Pages,
}

impl<'a> BaseParts<'a> {
    pub(super) fn new(
        boot: (&'a (dyn ReadAt + Sync), PartFacts),
        root: (&'a (dyn ReadAt + Sync), PartFacts),
    ) -> Result<Self, WriteError> {
        let part = |part, (from, facts): (&'a (dyn ReadAt + Sync), PartFacts)| {
            Ok(BasePart {
                from,
                size: facts.size,
                pages: pages(part, from, facts.size)?,
            })
        };
        Ok(Self {
            boot: part(Part::Boot, boot)?,
            root: part(Part::Root, root)?,
        })
    }

    pub(super) fn part(&self, part: Part) -> &BasePart<'a> {
        match part {
            Part::Boot => &self.boot,
            Part::Root => &self.root,
        }
    }
}

impl BasePart<'_> {
    /// The same place with what is around it.
    pub(super) fn around(&self, place: Place) -> Range<u64> {
        let end = place.offset + u64::from(place.len) + AROUND;
        let end = end.min(self.size);
        place.offset.saturating_sub(AROUND).min(end)..end
    }

    pub(super) fn read(&self, part: Part, range: &Range<u64>) -> Result<Vec<u8>, WriteError> {
        let mut bytes = vec![0; length(range)];
        self.from
            .read_exact_at(&mut bytes, range.start)
            .map_err(|source| WriteError::Read { part, source })?;
        Ok(bytes)
    }
}

/// Where each page of a part is; of equal pages, the first.
#[derive(Debug)]
pub(super) struct Pages {
    all: Vec<Option<PageHash>>,
    first: HashMap<PageHash, u64>,
}

/// The beginning of a SHA-256: pages that only seem equal cost size, never correctness.
type PageHash = [u8; 8];

impl Pages {
    pub(super) fn of(from: &dyn ReadAt, size: u64) -> io::Result<Self> {
        let mut all = Vec::new();
        let mut first = HashMap::new();
        let mut chunk = vec![0; 256 * PAGE];
        let mut offset = 0;
        while offset + PAGE_BYTES <= size {
            let whole = as_len((size - offset) / PAGE_BYTES * PAGE_BYTES).min(chunk.len());
            let (pages, _) = chunk.split_at_mut(whole);
            from.read_exact_at(pages, offset)?;
            for page in pages.chunks_exact(PAGE) {
                let hash = hash(page);
                if let Some(hash) = hash {
                    first.entry(hash).or_insert(offset);
                }
                all.push(hash);
                offset += PAGE_BYTES;
            }
        }
        Ok(Self { all, first })
    }

    /// The range that holds every page of a block, when there is one that is hardly longer than
    /// the block itself.
    pub(super) fn range_of(&self, block: &[u8], offset: u64) -> Option<Range<u64>> {
        let mut hull: Option<Range<u64>> = None;
        let mut expected = offset;
        for page in block.chunks(PAGE) {
            if let Some(wanted) = hash(page) {
                let found = if self.at(expected) == Some(wanted) {
                    expected
                } else {
                    *self.first.get(&wanted)?
                };
                let so_far = hull.unwrap_or(found..found);
                hull = Some(so_far.start.min(found)..so_far.end.max(found + PAGE_BYTES));
                expected = found;
            }
            expected += PAGE_BYTES;
        }
        let most = u64::try_from(block.len()).ok()?.saturating_add(AROUND);
        hull.filter(|range| range.end - range.start <= most)
    }

    fn at(&self, offset: u64) -> Option<PageHash> {
        *self.all.get(as_len(offset / PAGE_BYTES))?
    }
}

/// None for zeros, which are everywhere and cost nothing.
fn hash(page: &[u8]) -> Option<PageHash> {
    if is_zeros(page) {
        return None;
    }
    Hash::of(page).as_bytes().first_chunk().copied()
}

/// In steps of pages, which the processor compares at once.
pub(super) fn is_zeros(bytes: &[u8]) -> bool {
    const ZEROS: [u8; PAGE] = [0; PAGE];
    bytes.chunks(PAGE).all(|page| ZEROS.starts_with(page))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Pages with these numbers.
    fn pages(numbers: &[u8]) -> Vec<u8> {
        numbers.iter().flat_map(|number| [*number; PAGE]).collect()
    }

    fn range(base: &[u8], block: &[u8], offset: u64) -> Option<Range<u64>> {
        let base = pages(base);
        let size = base.len() as u64;
        let range = Pages::of(&base, size)
            .unwrap()
            .range_of(&pages(block), offset * PAGE_BYTES)?;
        Some(range.start / PAGE_BYTES..range.end / PAGE_BYTES)
    }

    #[test]
    fn what_only_moved_is_found_where_it_is() {
        let base = [1, 2, 3, 0, 4, 5, 6, 7];
        assert_eq!(range(&base, &[3, 0, 4], 2), Some(2..5));
        assert_eq!(range(&base, &[3, 0, 4], 5), Some(2..5));
        assert_eq!(range(&base, &[7, 5, 6], 0), Some(5..8));
        assert_eq!(range(&base, &[5, 9, 6], 5), None, "9 is new");
        assert_eq!(range(&base, &[0, 0], 0), None, "nothing to refer to");
    }

    #[test]
    fn of_equal_pages_the_one_that_follows_counts() {
        let base = [1, 8, 2, 3, 8, 4];
        assert_eq!(range(&base, &[3, 8, 4], 0), Some(3..6));
        assert_eq!(range(&base, &[8, 4], 4), Some(4..6));
    }

    #[test]
    fn a_scattered_block_is_searched_by_zstd() {
        let mut base = vec![0; 4000];
        base[0] = 1;
        base[3999] = 2;
        assert_eq!(range(&base, &[1, 2], 0), None);
    }
}
