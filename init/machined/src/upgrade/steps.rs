//! Executes the plans of keelson-bootstate, step by step, as they stand.

use std::io;

use keelson_bootstate::layout::Partition;
use keelson_bootstate::plan::{Step, Stored};
use keelson_bootstate::{Copy, HEADER_SIZE, NoRecord, SlotHeader, Tries, grub_env};

use super::disk::Disk;

/// Bytes of a copy of the boot record with its text for GRUB.
const COPY_LEN: usize = 4096 + grub_env::BLOCK_SIZE;

/// A step could not be done; the ones after it were not tried.
#[derive(Debug, thiserror::Error)]
#[error("cannot {step}")]
pub(crate) struct StepError {
    pub(crate) step: Step,
    pub(crate) source: io::Error,
}

/// The boot record cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RecordError {
    #[error("cannot read the boot record")]
    Read(#[source] io::Error),
    #[error(transparent)]
    None(#[from] NoRecord),
}

/// Executes steps on a disk.
pub(crate) struct Executor<'d> {
    disk: &'d dyn Disk,
    /// Partitions that were written since the last flush.
    dirty: Vec<Partition>,
}

impl<'d> Executor<'d> {
    pub(crate) fn new(disk: &'d dyn Disk) -> Self {
        Self {
            disk,
            dirty: Vec::new(),
        }
    }

    /// Does a step; says whether it could: the content of slots is for who has it.
    pub(crate) fn step(&mut self, step: Step) -> Result<bool, StepError> {
        let failed = |source| StepError { step, source };
        match step {
            Step::ClearTries => self
                .write(Partition::Tries, &Tries::FRESH.encode(), 0)
                .map_err(failed)?,
            Step::ClearGrubTries => self.clear_grub_tries().map_err(failed)?,
            Step::Flush => self.flush().map_err(failed)?,
            Step::InvalidateHeader(slot) => self
                .write(Partition::boot(slot), &[0; HEADER_SIZE], 0)
                .map_err(failed)?,
            Step::WriteRecord { copy, record } => self
                .write(Partition::BootState, &record.encode(), copy.offset())
                .map_err(failed)?,
            Step::WriteGrubRecord { copy, record } => {
                let offset = copy.offset() + grub_env::RECORD_OFFSET;
                let text = grub_env::GrubRecord::from(&record).encode();
                self.write(Partition::BootState, &text, offset)
                    .map_err(failed)?;
            }
            Step::ReadBackContent(_)
            | Step::ReadBackHeader(_)
            | Step::WriteHeader(_)
            | Step::WritePayload(_)
            | Step::WriteRoot(_) => return Ok(false),
        }
        Ok(true)
    }

    /// Writes; the next flush waits for it.
    pub(crate) fn write(
        &mut self,
        partition: Partition,
        bytes: &[u8],
        offset: u64,
    ) -> io::Result<()> {
        if !self.dirty.contains(&partition) {
            self.dirty.push(partition);
        }
        self.disk.write(partition, bytes, offset)
    }

    fn flush(&mut self) -> io::Result<()> {
        for partition in std::mem::take(&mut self.dirty) {
            self.disk.flush(partition)?;
        }
        Ok(())
    }

    /// In place: the loader finds the file by where the imager put it.
    fn clear_grub_tries(&mut self) -> io::Result<()> {
        let content = grub_partition(self.disk)?;
        let at = grub_env::find(&content).ok_or_else(|| {
            io::Error::new(io::ErrorKind::InvalidData, "GRUBENV has no file of GRUB")
        })?;
        let block = grub_env::encode_tries(Tries::FRESH);
        let offset = u64::try_from(at).map_err(io::Error::other)?;
        self.write(Partition::GrubEnv, &block, offset)
    }
}

/// Executes a plan without content: one that only concerns the record.
pub(crate) fn execute(disk: &dyn Disk, steps: impl Iterator<Item = Step>) -> Result<(), StepError> {
    let mut executor = Executor::new(disk);
    for step in steps {
        if !executor.step(step)? {
            let source = io::Error::other("this plan has no content");
            return Err(StepError { step, source });
        }
    }
    Ok(())
}

/// What BOOTSTATE holds.
pub(crate) fn stored(disk: &dyn Disk) -> Result<Stored, RecordError> {
    let [first, second] = copies(disk).map_err(RecordError::Read)?;
    Ok(Stored::read([&first, &second])?)
}

/// Both texts that GRUB reads.
pub(crate) fn texts(disk: &dyn Disk) -> io::Result<[Vec<u8>; 2]> {
    Ok(copies(disk)?.map(|copy| copy.get(4096..).unwrap_or_default().to_vec()))
}

fn copies(disk: &dyn Disk) -> io::Result<[Vec<u8>; 2]> {
    let read = |copy: Copy| {
        let mut bytes = vec![0; COPY_LEN];
        disk.read(Partition::BootState, &mut bytes, copy.offset())?;
        Ok::<_, io::Error>(bytes)
    };
    Ok([read(Copy::First)?, read(Copy::Second)?])
}

/// Tries that the EFI loader has counted.
pub(crate) fn efi_tries(disk: &dyn Disk) -> io::Result<Tries> {
    let mut sector = [0; keelson_bootstate::TRIES_SIZE];
    disk.read(Partition::Tries, &mut sector, 0)?;
    Ok(Tries::decode(&sector))
}

/// Tries that GRUB has counted.
pub(crate) fn grub_tries(disk: &dyn Disk) -> io::Result<Tries> {
    let content = grub_partition(disk)?;
    let block = grub_env::find(&content).and_then(|at| content.get(at..at + grub_env::BLOCK_SIZE));
    Ok(block.map_or(Tries::Unreadable, grub_env::decode_tries))
}

/// The page in front of a slot's payload, and the header if it is one.
pub(crate) fn page(
    disk: &dyn Disk,
    slot: keelson_bootstate::Slot,
) -> io::Result<(
    [u8; HEADER_SIZE],
    Result<SlotHeader, keelson_bootstate::HeaderError>,
)> {
    let mut bytes = [0; HEADER_SIZE];
    disk.read(Partition::boot(slot), &mut bytes, 0)?;
    let header = SlotHeader::decode(&bytes);
    Ok((bytes, header))
}

/// GRUBENV is 1 MiB.
fn grub_partition(disk: &dyn Disk) -> io::Result<Vec<u8>> {
    let size = disk.size(Partition::GrubEnv)?.min(MOST_GRUBENV);
    let mut content = vec![0; usize::try_from(size).map_err(io::Error::other)?];
    disk.read(Partition::GrubEnv, &mut content, 0)?;
    disk.forget(Partition::GrubEnv, 0, size);
    Ok(content)
}

/// What the layout gives it; a larger partition is another one's.
const MOST_GRUBENV: u64 = 1024 * 1024;

#[cfg(test)]
mod tests {
    use keelson_bootstate::{BuildId, Slot, plan};

    use super::*;
    use crate::upgrade::disk::tests::partitions;

    fn build(byte: u8) -> BuildId {
        BuildId::from_payload_hash(&[byte; 32])
    }

    /// A disk as the imager leaves it.
    fn fresh(folder: &std::path::Path) -> super::super::disk::Devices {
        let disk = partitions(folder);
        let texts = texts(&disk).unwrap();
        let rebuilt = plan::rebuild(Slot::A, Some(build(1)), [&texts[0], &texts[1]]);
        execute(&disk, rebuilt).unwrap();
        disk.write(
            Partition::GrubEnv,
            &grub_env::encode_tries(Tries::Used(2)),
            4096,
        )
        .unwrap();
        disk.write(Partition::Tries, &Tries::Used(1).encode(), 0)
            .unwrap();
        disk
    }

    #[test]
    fn a_trial_begins_with_fresh_tries_and_ends_with_a_new_default() {
        let folder = tempfile::tempdir().unwrap();
        let disk = fresh(folder.path());
        assert_eq!(grub_tries(&disk).unwrap(), Tries::Used(2));
        let known = stored(&disk).unwrap();
        assert!(known.is_whole());
        assert_eq!(known.record().default_slot(), Slot::A);

        execute(
            &disk,
            plan::start_trial(&known, Slot::B, build(2), true).unwrap(),
        )
        .unwrap();
        let known = stored(&disk).unwrap();
        assert_eq!(known.record().trial(), Some(Slot::B));
        assert_eq!(known.record().build(Slot::B), Some(build(2)));
        assert_eq!(efi_tries(&disk).unwrap(), Tries::FRESH);
        assert_eq!(grub_tries(&disk).unwrap(), Tries::FRESH);

        execute(&disk, plan::mark_good(&known, Slot::B)).unwrap();
        let known = stored(&disk).unwrap();
        assert_eq!(known.record().default_slot(), Slot::B);
        assert_eq!(known.record().trial(), None);
    }

    #[test]
    fn a_disk_without_a_record_and_a_grubenv_without_a_file_are_errors() {
        let folder = tempfile::tempdir().unwrap();
        let disk = partitions(folder.path());
        assert!(matches!(stored(&disk), Err(RecordError::None(_))));
        assert_eq!(grub_tries(&disk).unwrap(), Tries::Unreadable);
        let error = execute(&disk, [Step::ClearGrubTries].into_iter()).unwrap_err();
        assert_eq!(error.to_string(), "cannot clear the tries of GRUB");
        let error = execute(&disk, [Step::WriteRoot(Slot::B)].into_iter()).unwrap_err();
        assert_eq!(error.to_string(), "cannot write the root part of slot B");
    }
}
