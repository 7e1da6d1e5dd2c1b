//! Writes a bundle to the slot that is not running, on a thread of its own: block by block as they
//! come, at the lowest disk priority, never faster than allowed, and read back at the end.
//!
//! A bundle has the payload first, a plan the root part: until the header is written, which is the
//! last thing, the slot holds nothing, so their order does not matter.

use std::io::{self, Read};
use std::sync::Arc;
use std::time::Instant;

use keelson_bootstate::layout::Partition;
use keelson_bootstate::plan::{self, PlanError, Step};
use keelson_bootstate::{HEADER_SIZE, Slot, SlotHeader};
use keelson_bundle::{Base, Block, BlockError, BlockReader, Hash, Head, Part, ReadAt};
use keelson_sys::io_priority::{self, Idle};
use sha2::{Digest, Sha256};
use tokio::sync::{mpsc, watch};

use super::brake::{Brake, Cancelled};
use super::disk::Disk;
use super::steps::{self, Executor, RecordError, StepError};

/// Bytes that are written before they are flushed and let go of: a slow card takes a fifth of a
/// second for them, and so long at most does the datastore wait.
const PIECE: usize = 2 * 1024 * 1024;

/// Where the payload starts.
const PAYLOAD: u64 = HEADER_SIZE as u64;

/// What is to be done.
pub(crate) struct Work {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) head: Arc<Head>,
    pub(crate) slot: Slot,
    /// The slot may hold the first blocks of this bundle already.
    pub(crate) resume: bool,
    pub(crate) brake: Arc<Brake>,
    /// The stored bytes of all blocks that are not there yet, in their order.
    pub(crate) chunks: Chunks,
    pub(crate) progress: watch::Sender<Progress>,
}

/// How far the work is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Progress {
    pub(crate) stage: Stage,
    /// Blocks that are in the slot.
    pub(crate) blocks: usize,
    /// Bytes of the slot that are written and known to be right.
    pub(crate) written: u64,
    /// Bytes that were read back.
    pub(crate) verified: u64,
}

/// What is done at the moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Stage {
    /// What is in the slot is compared with the bundle.
    #[default]
    Checking,
    /// Blocks are awaited and written.
    Receiving,
    /// Everything is read back.
    Verifying,
}

/// The slot is not complete.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InstallError {
    #[error(transparent)]
    Block(#[from] BlockError),
    #[error(transparent)]
    Cancelled(#[from] Cancelled),
    #[error(
        "what was written to the {part} part of slot {slot} is not what the disk gives back: it fails"
    )]
    Differs { slot: Slot, part: Part },
    #[error("the header of slot {slot} is not what the disk gives back: it fails")]
    HeaderDiffers { slot: Slot },
    #[error(transparent)]
    Plan(#[from] PlanError),
    #[error("cannot read the {part} part of slot {slot}")]
    Read {
        slot: Slot,
        part: Part,
        source: io::Error,
    },
    #[error(transparent)]
    Record(#[from] RecordError),
    #[error("an upgrade writes to the disk")]
    Step(#[from] StepError),
    #[error("cannot write block {block} to slot {slot}")]
    Write {
        slot: Slot,
        block: usize,
        source: io::Error,
    },
}

impl Work {
    /// Does it all; the slot can be started afterwards.
    pub(crate) fn run(mut self) -> Result<(), InstallError> {
        let _idle = idle();
        let disk = Arc::clone(&self.disk);
        let stored = steps::stored(&*disk)?;
        let mut executor = Executor::new(&*disk);
        for step in plan::install(&stored, self.slot)? {
            if executor.step(step)? {
                continue;
            }
            match step {
                Step::WriteRoot(_) => self.write_blocks(&mut executor)?,
                Step::ReadBackContent(slot) => self.read_back(slot)?,
                Step::WriteHeader(slot) => {
                    let page = self.head.manifest().header();
                    executor
                        .write(Partition::boot(slot), page, 0)
                        .map_err(|source| StepError { step, source })?;
                }
                Step::ReadBackHeader(slot) => {
                    disk.forget(Partition::boot(slot), 0, PAYLOAD);
                    let (page, _) =
                        steps::page(&*disk, slot).map_err(|source| StepError { step, source })?;
                    if page != *self.head.manifest().header() {
                        return Err(InstallError::HeaderDiffers { slot });
                    }
                }
                // Written with the root part.
                _ => {}
            }
        }
        Ok(())
    }

    fn write_blocks(&mut self, executor: &mut Executor<'_>) -> Result<(), InstallError> {
        let first = if self.resume { self.present()? } else { 0 };
        let (head, disk) = (Arc::clone(&self.head), Arc::clone(&self.disk));
        let (boot, root) = bases(&*disk, self.slot.other());
        let base = Base {
            boot: &boot,
            root: &root,
        };
        let mut reader = BlockReader::new(&head);
        self.told(first, Stage::Receiving);
        for (number, block) in head.blocks().iter().enumerate().skip(first) {
            let stored = match reader.read(number, &mut self.chunks) {
                // Nobody sends any more: somebody else has decided so.
                Err(BlockError::Ended { .. }) => return Err(Cancelled.into()),
                stored => stored?,
            };
            let plain = stored.unpack(Some(base))?;
            let target = Target::of(block, self.slot);
            write_block(executor, &*disk, &self.brake, target, plain).map_err(
                |error| match error {
                    WriteError::Cancelled(cancelled) => cancelled.into(),
                    WriteError::Io(source) => InstallError::Write {
                        slot: self.slot,
                        block: number,
                        source,
                    },
                },
            )?;
            self.told(number + 1, Stage::Receiving);
        }
        Ok(())
    }

    /// Blocks at the beginning that the slot holds already.
    fn present(&self) -> Result<usize, InstallError> {
        let mut plain = Vec::new();
        for (number, block) in self.head.blocks().iter().enumerate() {
            let since = Instant::now();
            let target = Target::of(block, self.slot);
            plain.resize(length(block), 0);
            self.disk
                .read(target.partition, &mut plain, target.offset)
                .map_err(|source| InstallError::Read {
                    slot: self.slot,
                    part: block.part(),
                    source,
                })?;
            self.disk
                .forget(target.partition, target.offset, block.plain_len().into());
            if Hash::of(&plain) != *block.hash() {
                return Ok(number);
            }
            self.told(number + 1, Stage::Checking);
            self.brake.wait(block.plain_len().into(), since)?;
        }
        Ok(self.head.blocks().len())
    }

    fn read_back(&self, slot: Slot) -> Result<(), InstallError> {
        let manifest = self.head.manifest();
        let parts = [
            (Part::Boot, manifest.boot().size, manifest.boot().sha256),
            (Part::Root, manifest.root().size, manifest.root().sha256),
        ];
        let mut verified = 0;
        for (part, size, wanted) in parts {
            let found = digest(&*self.disk, slot, part, size, &self.brake, |bytes| {
                verified += bytes;
                self.progress.send_modify(|progress| {
                    progress.stage = Stage::Verifying;
                    progress.verified = verified;
                });
            });
            match found {
                Ok(found) if found == wanted => {}
                Ok(_) => return Err(InstallError::Differs { slot, part }),
                Err(WriteError::Cancelled(cancelled)) => return Err(cancelled.into()),
                Err(WriteError::Io(source)) => {
                    return Err(InstallError::Read { slot, part, source });
                }
            }
        }
        Ok(())
    }

    fn told(&self, blocks: usize, stage: Stage) {
        let written = self
            .head
            .blocks()
            .iter()
            .take(blocks)
            .map(|block| u64::from(block.plain_len()))
            .sum();
        self.progress.send_modify(|progress| {
            *progress = Progress {
                stage,
                blocks,
                written,
                verified: 0,
            };
        });
    }
}

/// This thread gets the disk when nobody else wants it.
fn idle() -> Option<Idle> {
    io_priority::idle()
        .inspect_err(|error| {
            tracing::warn!("upgrade: the disk is used at the usual priority: {error}");
        })
        .ok()
}

/// What a slot holds is not what its header says.
#[derive(Debug, thiserror::Error)]
pub(crate) enum VerifyError {
    #[error(transparent)]
    Cancelled(#[from] Cancelled),
    #[error(
        "the {part} part does not have the hash in its header: it was changed, or the disk fails"
    )]
    Differs { part: Part },
    #[error("cannot read the {part} part")]
    Read { part: Part, source: io::Error },
}

/// Compares the content of a slot with its header. `news` is called with the bytes that were read.
pub(crate) fn verify(
    disk: &dyn Disk,
    slot: Slot,
    header: &SlotHeader,
    brake: &Brake,
    mut news: impl FnMut(u64),
) -> Result<(), VerifyError> {
    let _idle = idle();
    let parts = [
        (Part::Boot, header.payload_len(), *header.sha256()),
        (Part::Root, header.root_len(), *header.root_sha256()),
    ];
    for (part, size, wanted) in parts {
        let found = digest(disk, slot, part, size, brake, &mut news);
        match found {
            Ok(found) if found == wanted.into() => {}
            Ok(_) => return Err(VerifyError::Differs { part }),
            Err(WriteError::Cancelled(cancelled)) => return Err(cancelled.into()),
            Err(WriteError::Io(source)) => return Err(VerifyError::Read { part, source }),
        }
    }
    Ok(())
}

/// The digest of a part as the medium has it.
fn digest(
    disk: &dyn Disk,
    slot: Slot,
    part: Part,
    size: u64,
    brake: &Brake,
    mut news: impl FnMut(u64),
) -> Result<Hash, WriteError> {
    let (partition, start) = place(part, slot);
    disk.forget(partition, start, size);
    let mut hash = Sha256::new();
    let mut buffer = vec![0; PIECE];
    let mut done = 0;
    while done < size {
        let since = Instant::now();
        let left = usize::try_from(size - done).unwrap_or(PIECE).min(PIECE);
        let piece = buffer.get_mut(..left).unwrap_or_default();
        disk.read(partition, piece, start + done)?;
        hash.update(&*piece);
        let length = u64::try_from(left).unwrap_or_default();
        disk.forget(partition, start + done, length);
        done += length;
        news(length);
        brake.wait(length, since)?;
    }
    let hash: [u8; 32] = hash.finalize().into();
    Ok(hash.into())
}

/// Why a piece was not written or read.
#[derive(Debug, thiserror::Error)]
enum WriteError {
    #[error(transparent)]
    Cancelled(#[from] Cancelled),
    #[error(transparent)]
    Io(#[from] io::Error),
}

fn write_block(
    executor: &mut Executor<'_>,
    disk: &dyn Disk,
    brake: &Brake,
    target: Target,
    plain: &[u8],
) -> Result<(), WriteError> {
    let mut offset = target.offset;
    for piece in plain.chunks(PIECE) {
        let since = Instant::now();
        let length = u64::try_from(piece.len()).unwrap_or_default();
        executor.write(target.partition, piece, offset)?;
        disk.flush(target.partition)?;
        disk.forget(target.partition, offset, length);
        offset += length;
        brake.wait(length, since)?;
    }
    Ok(())
}

/// Where a block goes.
#[derive(Clone, Copy, Debug)]
struct Target {
    partition: Partition,
    offset: u64,
}

impl Target {
    fn of(block: &Block, slot: Slot) -> Self {
        let (partition, start) = place(block.part(), slot);
        Self {
            partition,
            offset: start + block.offset(),
        }
    }
}

/// Where a part of a slot is.
pub(crate) fn place(part: Part, slot: Slot) -> (Partition, u64) {
    match part {
        Part::Boot => (Partition::boot(slot), PAYLOAD),
        Part::Root => (Partition::root(slot), 0),
    }
}

fn length(block: &Block) -> usize {
    usize::try_from(block.plain_len()).unwrap_or_default()
}

/// A part of the running slot, which a delta is unpacked against.
struct InSlot<'d> {
    disk: &'d dyn Disk,
    partition: Partition,
    start: u64,
}

fn bases(disk: &dyn Disk, running: Slot) -> (InSlot<'_>, InSlot<'_>) {
    let of = |part| {
        let (partition, start) = place(part, running);
        InSlot {
            disk,
            partition,
            start,
        }
    };
    (of(Part::Boot), of(Part::Root))
}

impl ReadAt for InSlot<'_> {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let offset = self.start + offset;
        self.disk.read(self.partition, buffer, offset)?;
        let length = u64::try_from(buffer.len()).unwrap_or_default();
        self.disk.forget(self.partition, offset, length);
        Ok(())
    }
}

/// What is sent, as one stream.
#[derive(Debug)]
pub(crate) struct Chunks {
    receiver: mpsc::Receiver<Vec<u8>>,
    rest: Vec<u8>,
    used: usize,
}

impl From<mpsc::Receiver<Vec<u8>>> for Chunks {
    fn from(receiver: mpsc::Receiver<Vec<u8>>) -> Self {
        Self {
            receiver,
            rest: Vec::new(),
            used: 0,
        }
    }
}

impl Read for Chunks {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.used == self.rest.len() {
            match self.receiver.blocking_recv() {
                Some(chunk) => {
                    self.rest = chunk;
                    self.used = 0;
                }
                None => return Ok(0),
            }
        }
        let rest = self.rest.get(self.used..).unwrap_or_default();
        let length = rest.len().min(buffer.len());
        let (Some(to), Some(from)) = (buffer.get_mut(..length), rest.get(..length)) else {
            return Ok(0);
        };
        to.copy_from_slice(from);
        self.used += length;
        Ok(length)
    }
}

#[cfg(test)]
mod tests;
