//! A whole disk in memory: only pages that are not zero, shared between copies.
//!
//! A copy costs one reference per page, so a disk is copied for every cut point.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use rustix::fs::{SeekFrom, seek};
use rustix::io::Errno;

use crate::SECTOR;

/// Bytes that are shared or copied together; a multiple of every sector size.
const PAGE: usize = 4096;
const PAGE_BYTES: u64 = 4096;

type Page = [u8; PAGE];

/// The contents of a disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    size: u64,
    /// By number; a page that is all zero is left out.
    pages: BTreeMap<u64, Arc<Page>>,
    /// Sectors whose last write was cut so badly that the drive reports an error.
    unreadable: BTreeSet<u64>,
}

/// A sector that cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unreadable {
    /// Its number.
    pub sector: u64,
}

impl Image {
    /// A disk of zeros.
    pub fn blank(size: u64) -> Self {
        Self {
            size,
            pages: BTreeMap::new(),
            unreadable: BTreeSet::new(),
        }
    }

    /// Reads a raw image; its holes are not read.
    pub fn load(file: &File) -> io::Result<Self> {
        let mut image = Self::blank(file.metadata()?.len());
        let mut page: Page = [0; PAGE];
        let mut number = 0;
        while let Some(data) = extent(file, SeekFrom::Data(number * PAGE_BYTES))? {
            let hole = extent(file, SeekFrom::Hole(data))?.unwrap_or(image.size);
            number = number.max(data / PAGE_BYTES);
            while number * PAGE_BYTES < hole {
                read_padded(file, number * PAGE_BYTES, &mut page)?;
                if page != [0; PAGE] {
                    image.pages.insert(number, Arc::new(page));
                }
                number += 1;
            }
        }
        Ok(image)
    }

    /// Writes what differs from `before`, which the file holds now.
    pub fn store(&self, file: &File, before: &Self) -> io::Result<()> {
        for (at, bytes) in self.changes(before) {
            file.write_all_at(bytes, at)?;
        }
        Ok(())
    }

    /// Bytes of the disk.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Reads a range; what lies behind the end of the disk is zero.
    pub fn read(&self, offset: u64, into: &mut [u8]) -> Result<(), Unreadable> {
        let end = offset + length(into);
        let sectors = offset / SECTOR..end.div_ceil(SECTOR);
        if let Some(sector) = self.unreadable.range(sectors).next() {
            return Err(Unreadable { sector: *sector });
        }
        for (number, within, piece) in pieces(offset, into.len()) {
            match self.pages.get(&number) {
                Some(page) => into[piece].copy_from_slice(&page[within]),
                None => into[piece].fill(0),
            }
        }
        Ok(())
    }

    /// Writes a range. Sectors that are written whole can be read again.
    pub fn write(&mut self, offset: u64, bytes: &[u8]) {
        for (number, within, piece) in pieces(offset, bytes.len()) {
            self.change(number, |page| page[within].copy_from_slice(&bytes[piece]));
        }
        self.repair(offset, length(bytes));
    }

    /// Fills a range with zeros.
    pub fn discard(&mut self, offset: u64, bytes: u64) {
        let end = offset + bytes;
        let (first, last) = (offset.div_ceil(PAGE_BYTES), end / PAGE_BYTES);
        if first < last {
            let inner: Vec<u64> = self.pages.range(first..last).map(|page| *page.0).collect();
            for number in inner {
                self.pages.remove(&number);
            }
        }
        let head = (first * PAGE_BYTES).min(end);
        let tail = (last * PAGE_BYTES).max(head);
        for (from, to) in [(offset, head), (tail, end)] {
            let zeros = vec![0; usize::try_from(to - from).unwrap_or(0)];
            self.write(from, &zeros);
        }
        self.repair(offset, bytes);
    }

    /// From now on reads of this sector fail, until it is written.
    pub fn break_sector(&mut self, sector: u64) {
        self.unreadable.insert(sector);
    }

    /// Whether every sector can be read.
    pub fn is_readable(&self) -> bool {
        self.unreadable.is_empty()
    }

    /// Offsets and bytes of what this disk holds other than `before`, in order.
    pub fn changes<'a>(&'a self, before: &'a Self) -> impl Iterator<Item = (u64, &'a [u8])> {
        const ZEROS: &Page = &[0; PAGE];
        let gone = before
            .pages
            .keys()
            .filter(|number| !self.pages.contains_key(number))
            .map(|number| (*number, ZEROS));
        let new = self.pages.iter().filter_map(|(number, page)| {
            let same = before
                .pages
                .get(number)
                .is_some_and(|old| Arc::ptr_eq(old, page) || old == page);
            (!same).then_some((*number, &**page))
        });
        let all: BTreeMap<u64, &Page> = gone.chain(new).collect();
        all.into_iter()
            .map(|(number, page)| (number * PAGE_BYTES, &page[..]))
    }

    fn change(&mut self, number: u64, edit: impl FnOnce(&mut Page)) {
        let page = self
            .pages
            .entry(number)
            .or_insert_with(|| Arc::new([0; PAGE]));
        edit(Arc::make_mut(page));
        if **page == [0; PAGE] {
            self.pages.remove(&number);
        }
    }

    fn repair(&mut self, offset: u64, bytes: u64) {
        let whole = offset.div_ceil(SECTOR)..(offset + bytes) / SECTOR;
        if !self.unreadable.is_empty() && !whole.is_empty() {
            self.unreadable.retain(|sector| !whole.contains(sector));
        }
    }
}

/// Cuts a range into pages: page number, range within the page, range within the caller's bytes.
fn pieces(
    offset: u64,
    length: usize,
) -> impl Iterator<Item = (u64, std::ops::Range<usize>, std::ops::Range<usize>)> {
    let mut done = 0;
    std::iter::from_fn(move || {
        if done == length {
            return None;
        }
        let at = offset + u64::try_from(done).ok()?;
        let start = usize::try_from(at % PAGE_BYTES).ok()?;
        let count = (PAGE - start).min(length - done);
        let piece = done..done + count;
        done += count;
        Some((at / PAGE_BYTES, start..start + count, piece))
    })
}

fn length(bytes: &[u8]) -> u64 {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX)
}

/// The next byte of that kind; `None` when only a hole is left.
fn extent(file: &File, to: SeekFrom) -> io::Result<Option<u64>> {
    match seek(file, to) {
        Ok(offset) => Ok(Some(offset)),
        Err(Errno::NXIO) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn read_padded(file: &File, offset: u64, page: &mut Page) -> io::Result<()> {
    page.fill(0);
    let mut filled = 0;
    while filled < PAGE {
        let at = offset + u64::try_from(filled).map_err(io::Error::other)?;
        match file.read_at(&mut page[filled..], at)? {
            0 => break,
            count => filled += count,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::{Just, Strategy, any, prop_assert_eq, prop_oneof, proptest};

    use super::*;

    const SIZE: u64 = 10 * PAGE_BYTES;

    #[derive(Clone, Debug)]
    enum Edit {
        Write(u64, Vec<u8>),
        Discard(u64, u64),
    }

    fn edit() -> impl Strategy<Value = Edit> {
        let at = 0..SIZE;
        prop_oneof![
            (at.clone(), 0..9000_usize, prop_oneof![Just(0), any::<u8>()])
                .prop_map(|(at, length, fill)| Edit::Write(at, vec![fill; length])),
            (at, 0..20_000_u64).prop_map(|(at, bytes)| Edit::Discard(at, bytes)),
        ]
    }

    fn apply(edits: &[Edit]) -> (Image, Vec<u8>) {
        let mut image = Image::blank(SIZE);
        let mut plain = vec![0; usize::try_from(SIZE).unwrap()];
        for edit in edits {
            let (at, bytes) = match edit {
                Edit::Write(at, bytes) => (*at, bytes.clone()),
                Edit::Discard(at, count) => (*at, vec![0; usize::try_from(*count).unwrap()]),
            };
            let room = usize::try_from(SIZE - at).unwrap();
            let bytes = &bytes[..bytes.len().min(room)];
            match edit {
                Edit::Write(..) => image.write(at, bytes),
                Edit::Discard(..) => image.discard(at, length(bytes)),
            }
            let at = usize::try_from(at).unwrap();
            plain[at..at + bytes.len()].copy_from_slice(bytes);
        }
        (image, plain)
    }

    fn all(image: &Image) -> Vec<u8> {
        let mut bytes = vec![1; usize::try_from(image.size()).unwrap()];
        image.read(0, &mut bytes).unwrap();
        bytes
    }

    proptest! {
        #[test]
        fn reads_what_was_written(edits in vec(edit(), 0..12)) {
            let (image, plain) = apply(&edits);
            prop_assert_eq!(all(&image), plain);
        }

        #[test]
        fn a_file_follows_by_changes_and_reads_back(one in vec(edit(), 0..8), two in vec(edit(), 0..8)) {
            let (one, _) = apply(&one);
            let (two, plain) = apply(&two);
            let file = tempfile::tempfile().unwrap();
            file.set_len(SIZE).unwrap();
            one.store(&file, &Image::blank(SIZE)).unwrap();
            prop_assert_eq!(&Image::load(&file).unwrap(), &one);
            two.store(&file, &one).unwrap();
            let back = Image::load(&file).unwrap();
            prop_assert_eq!(all(&back), plain);
            prop_assert_eq!(back, two);
        }
    }

    #[test]
    fn a_broken_sector_fails_until_it_is_written_whole() {
        let mut image = Image::blank(SIZE);
        image.break_sector(3);
        let mut sector = [0; 512];
        let broken = Err(Unreadable { sector: 3 });
        assert_eq!(image.read(3 * 512 + 5, &mut sector[..1]), broken);
        assert_eq!(image.read(2 * 512, &mut sector), Ok(()));
        image.write(3 * 512, &[1; 511]);
        assert_eq!(image.read(3 * 512, &mut sector), broken);
        let copy = image.clone();
        image.write(3 * 512, &[1; 512]);
        assert_eq!(image.read(3 * 512, &mut sector), Ok(()));
        assert!(image.is_readable() && !copy.is_readable());
    }
}
