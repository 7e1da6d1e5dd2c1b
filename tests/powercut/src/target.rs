//! Does the steps of a plan on a disk in memory and writes down what that does to the disk.

use std::ops::Range;

use keelson_bootstate::grub_env::{self, BLOCK_SIZE, GrubRecord, RECORD_OFFSET};
use keelson_bootstate::layout::Partition;
use keelson_bootstate::plan::{Step, Stored};
use keelson_bootstate::{COPY_OFFSETS, Copy, HEADER_SIZE, NoRecord, Slot, Tries};
use thiserror::Error;

use crate::{Build, Image, NoPlace, Operation, Places, SECTOR};

/// How much is written at once; small builds still take several pieces.
const PIECE: usize = 16 * 1024;

/// Why a step was not done.
#[derive(Debug, Error)]
pub enum StepError {
    /// The disk has no file of GRUB.
    #[error("GRUBENV holds no environment block")]
    NoGrubFile,
    /// A step needs a build and there is none.
    #[error("nothing was said to be installed")]
    NothingToInstall,
    /// A partition.
    #[error(transparent)]
    Place(#[from] NoPlace),
    /// What was read back is not what was written.
    #[error("slot {0} reads back other than it was written")]
    ReadBack(Slot),
}

/// A disk that something is done to.
#[derive(Clone, Debug)]
pub struct Target {
    disk: Image,
    places: Places,
    operations: Vec<Operation>,
}

impl Target {
    /// Starts with this disk.
    pub fn new(disk: Image) -> Result<Self, NoPlace> {
        Ok(Self {
            places: Places::find(&disk)?,
            disk,
            operations: Vec::new(),
        })
    }

    /// The disk as it is now.
    pub fn disk(&self) -> &Image {
        &self.disk
    }

    /// Where its partitions are.
    pub fn places(&self) -> &Places {
        &self.places
    }

    /// What was done so far.
    pub fn into_operations(self) -> Vec<Operation> {
        self.operations
    }

    /// What BOOTSTATE holds; what cannot be read counts as zeros.
    pub fn stored(&self) -> Result<Result<Stored, NoRecord>, NoPlace> {
        let [first, second] = self.copies()?;
        Ok(Stored::read([&first, &second]))
    }

    /// GRUB's blocks of both copies.
    pub fn texts(&self) -> Result<[Vec<u8>; 2], NoPlace> {
        let text = usize::try_from(RECORD_OFFSET).unwrap_or(usize::MAX);
        Ok(self.copies()?.map(|copy| copy[text..].to_vec()))
    }

    /// Writes bytes.
    pub fn write(&mut self, offset: u64, bytes: &[u8]) {
        self.disk.write(offset, bytes);
        self.operations.push(Operation::write(offset, bytes));
    }

    /// Waits until everything is on the medium.
    pub fn flush(&mut self) {
        self.operations.push(Operation::Flush);
    }

    /// Does these steps. `build` is what goes to a slot.
    pub fn run(
        &mut self,
        steps: impl IntoIterator<Item = Step>,
        build: Option<&Build>,
    ) -> Result<(), StepError> {
        for step in steps {
            self.step(&step, build)?;
        }
        Ok(())
    }

    fn step(&mut self, step: &Step, build: Option<&Build>) -> Result<(), StepError> {
        let build = || build.ok_or(StepError::NothingToInstall);
        match step {
            Step::ClearTries => {
                let place = self.places.of(Partition::Tries)?;
                self.write(place.start, &Tries::FRESH.encode());
            }
            Step::ClearGrubTries => {
                let at = self.grub_file()?;
                self.write(at, &grub_env::encode_tries(Tries::FRESH));
            }
            Step::Flush => self.flush(),
            Step::InvalidateHeader(slot) => {
                let place = self.boot(*slot)?;
                self.write(place.start, &[0; HEADER_SIZE]);
            }
            Step::ReadBackContent(slot) => {
                let build = build()?;
                let (boot, root) = (self.boot(*slot)?, self.root(*slot)?);
                let same = self.holds(payload(&boot), &build.payload)
                    && self.holds(root.start, &build.root);
                if !same {
                    return Err(StepError::ReadBack(*slot));
                }
            }
            Step::ReadBackHeader(slot) => {
                let place = self.boot(*slot)?;
                if !self.holds(place.start, build()?.page.as_bytes()) {
                    return Err(StepError::ReadBack(*slot));
                }
            }
            Step::WriteGrubRecord { copy, record } => {
                let place = self.copy(*copy)?;
                self.write(
                    place.start + RECORD_OFFSET,
                    &GrubRecord::from(record).encode(),
                );
            }
            Step::WriteHeader(slot) => {
                let place = self.boot(*slot)?;
                self.write(place.start, build()?.page.as_bytes());
            }
            Step::WritePayload(slot) => {
                let place = self.boot(*slot)?;
                self.write_in_pieces(payload(&place), &build()?.payload);
            }
            Step::WriteRecord { copy, record } => {
                let place = self.copy(*copy)?;
                self.write(place.start, &record.encode());
            }
            Step::WriteRoot(slot) => {
                let place = self.root(*slot)?;
                self.write_in_pieces(place.start, &build()?.root);
            }
        }
        Ok(())
    }

    fn write_in_pieces(&mut self, start: u64, bytes: &[u8]) {
        let mut offset = start;
        for piece in bytes.chunks(PIECE) {
            self.write(offset, piece);
            offset += u64::try_from(piece.len()).unwrap_or(0);
        }
    }

    fn holds(&self, offset: u64, bytes: &[u8]) -> bool {
        let mut found = vec![0; bytes.len()];
        self.disk.read(offset, &mut found).is_ok() && found == bytes
    }

    fn boot(&self, slot: Slot) -> Result<Range<u64>, NoPlace> {
        self.places.of(Partition::boot(slot))
    }

    fn root(&self, slot: Slot) -> Result<Range<u64>, NoPlace> {
        self.places.of(Partition::root(slot))
    }

    /// From a copy of the record on to the end of its text.
    fn copy(&self, copy: Copy) -> Result<Range<u64>, NoPlace> {
        let place = self.places.of(Partition::BootState)?;
        let start = place.start
            + match copy {
                Copy::First => COPY_OFFSETS[0],
                Copy::Second => COPY_OFFSETS[1],
            };
        Ok(start..start + RECORD_OFFSET + u64::try_from(BLOCK_SIZE).unwrap_or(0))
    }

    fn copies(&self) -> Result<[Vec<u8>; 2], NoPlace> {
        let [first, second] = [Copy::First, Copy::Second].map(|copy| self.copy(copy));
        Ok([first?, second?].map(|place| read_what_is_there(&self.disk, place)))
    }

    fn grub_file(&self) -> Result<u64, StepError> {
        let place = self.places.of(Partition::GrubEnv)?;
        let bytes = read_what_is_there(&self.disk, place.clone());
        let at = grub_env::find(&bytes).ok_or(StepError::NoGrubFile)?;
        Ok(place.start + u64::try_from(at).unwrap_or(0))
    }
}

/// Where a payload starts on the disk.
pub(crate) fn payload(boot: &Range<u64>) -> u64 {
    boot.start + u64::try_from(HEADER_SIZE).unwrap_or(0)
}

/// The bytes of a range with zeros for sectors that cannot be read.
pub(crate) fn read_what_is_there(disk: &Image, range: Range<u64>) -> Vec<u8> {
    let length = usize::try_from(range.end - range.start).unwrap_or(0);
    let mut bytes = vec![0; length];
    if disk.read(range.start, &mut bytes).is_ok() {
        return bytes;
    }
    let mut offset = range.start;
    for sector in bytes.chunks_mut(512) {
        if disk.read(offset, sector).is_err() {
            sector.fill(0);
        }
        offset += SECTOR;
    }
    bytes
}
