//! Reads what QEMU's block driver `blklogwrites` wrote down: every write, discard and flush of a
//! disk in the order in which they were done. The format is that of Linux' dm-log-writes.
//!
//! | bytes | what |
//! |---|---|
//! | sector 0 | u64 magic, u64 version 1, u64 number of entries, u32 sector size |
//! | each entry, one sector | u64 first sector, u64 sectors, u64 flags, u64 length of a mark |
//! | after it | the data, unless it is a discard |
//!
//! A write is in the log once the disk below has done it, so the order of writes that were under
//! way together is the order in which they ended. The flag for "through the cache" (FUA) is not
//! believed: such a write counts as one that a flush must follow, which is the harder case.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use thiserror::Error;

use crate::{Operation, Shape};

const MAGIC: u64 = 0x006a_7366_7773_6872;
const VERSION: u64 = 1;
/// What an entry has before it is padded to a sector.
const ENTRY_BYTES: usize = 32;

const FLUSH: u64 = 1;
const FUA: u64 = 2;
const DISCARD: u64 = 4;
const MARK: u64 = 8;

/// Why a log cannot be used.
#[derive(Debug, Error)]
pub enum LogError {
    /// An entry reaches behind the end of the numbers.
    #[error("entry {entry} of the write log {} lies behind every disk", path.display())]
    Beyond {
        /// The log.
        path: PathBuf,
        /// Number of the entry.
        entry: u64,
    },
    /// An entry has a flag this program does not know.
    #[error("entry {entry} of the write log {} has unknown flags {flags:#x}", path.display())]
    Flags {
        /// The log.
        path: PathBuf,
        /// Number of the entry.
        entry: u64,
        /// Its flags.
        flags: u64,
    },
    /// The start of the file is something else.
    #[error("{} is no write log of version 1", path.display())]
    NotALog {
        /// The file.
        path: PathBuf,
    },
    /// The file cannot be read, or ends too early.
    #[error("cannot read the write log {}", path.display())]
    Read {
        /// The log.
        path: PathBuf,
        /// The reason.
        #[source]
        source: io::Error,
    },
}

/// A log, with its entries in memory and their data in its file.
#[derive(Debug)]
pub struct WriteLog {
    path: PathBuf,
    file: File,
    entries: Vec<Entry>,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    kind: Kind,
    offset: u64,
    length: u64,
    /// Where in the log its data is.
    data: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Discard,
    Flush,
    Write,
}

impl WriteLog {
    /// Reads the entries of a log.
    pub fn open(path: &Path) -> Result<Self, LogError> {
        let read = |source| LogError::Read {
            path: path.to_owned(),
            source,
        };
        let file = File::open(path).map_err(read)?;
        let mut start = [0; 28];
        file.read_exact_at(&mut start, 0).map_err(read)?;
        let sector = u64::from(u32::from_le_bytes(array(&start, 24)));
        if word(&start, 0) != MAGIC
            || word(&start, 8) != VERSION
            || !sector.is_power_of_two()
            || sector < 512
        {
            return Err(LogError::NotALog {
                path: path.to_owned(),
            });
        }
        let mut log = Self {
            path: path.to_owned(),
            file,
            entries: Vec::new(),
        };
        let mut at = sector;
        for number in 0..word(&start, 16) {
            at = log.read_entry(number, at, sector)?;
        }
        Ok(log)
    }

    /// What was done, without the bytes.
    pub fn shapes(&self) -> Vec<Shape> {
        self.entries.iter().map(Entry::shape).collect()
    }

    /// One thing that was done.
    pub fn operation(&self, number: usize) -> Result<Operation, LogError> {
        match self.entries.get(number) {
            Some(entry) => self.load(entry),
            None => Ok(Operation::Flush),
        }
    }

    /// What was done to these parts of the disk, and all flushes: one for any number of flushes
    /// with nothing between them.
    pub fn operations_in(&self, parts: &[Range<u64>]) -> Result<Vec<Operation>, LogError> {
        let mut operations = Vec::new();
        for entry in &self.entries {
            let end = entry.offset + entry.length;
            let wanted = match entry.kind {
                Kind::Flush => !matches!(operations.last(), None | Some(Operation::Flush)),
                Kind::Discard | Kind::Write => parts
                    .iter()
                    .any(|part| entry.offset < part.end && part.start < end),
            };
            if wanted {
                operations.push(self.load(entry)?);
            }
        }
        Ok(operations)
    }

    /// Reads the entry at `at` and returns where the next one is.
    fn read_entry(&mut self, number: u64, at: u64, sector: u64) -> Result<u64, LogError> {
        let mut bytes = [0; ENTRY_BYTES];
        self.file
            .read_exact_at(&mut bytes, at)
            .map_err(|source| self.unread(source))?;
        let [first, count, flags] = [0, 8, 16].map(|offset| word(&bytes, offset));
        let kind = match flags & !FUA {
            0 => Some(Kind::Write),
            FLUSH => Some(Kind::Flush),
            DISCARD => Some(Kind::Discard),
            MARK => None,
            _ => {
                return Err(LogError::Flags {
                    path: self.path.clone(),
                    entry: number,
                    flags,
                });
            }
        };
        let beyond = || LogError::Beyond {
            path: self.path.clone(),
            entry: number,
        };
        let bytes_of = |sectors: u64| sectors.checked_mul(sector).ok_or_else(beyond);
        let (offset, length, data) = (bytes_of(first)?, bytes_of(count)?, at + sector);
        offset.checked_add(length).ok_or_else(beyond)?;
        let stored = match kind {
            Some(Kind::Discard) => 0,
            // Text, padded.
            None => word(&bytes, 24).next_multiple_of(sector),
            Some(Kind::Flush | Kind::Write) => length,
        };
        if let Some(kind) = kind {
            self.entries.push(Entry {
                kind,
                offset,
                length,
                data,
            });
        }
        data.checked_add(stored).ok_or_else(beyond)
    }

    fn load(&self, entry: &Entry) -> Result<Operation, LogError> {
        let (offset, length) = (entry.offset, entry.length);
        match entry.kind {
            Kind::Flush => Ok(Operation::Flush),
            Kind::Discard => Ok(Operation::Discard { offset, length }),
            Kind::Write => {
                let length = usize::try_from(length)
                    .map_err(|error| self.unread(io::Error::other(error)))?;
                let mut data = vec![0; length];
                self.file
                    .read_exact_at(&mut data, entry.data)
                    .map_err(|source| self.unread(source))?;
                let data = Arc::from(data);
                Ok(Operation::Write { offset, data })
            }
        }
    }

    fn unread(&self, source: io::Error) -> LogError {
        LogError::Read {
            path: self.path.clone(),
            source,
        }
    }
}

impl Entry {
    fn shape(&self) -> Shape {
        match self.kind {
            Kind::Flush => Shape::Flush,
            Kind::Discard | Kind::Write => Shape::Change {
                offset: self.offset,
                length: self.length,
            },
        }
    }
}

fn word(bytes: &[u8], offset: usize) -> u64 {
    u64::from_le_bytes(array(bytes, offset))
}

/// Every caller's offset lies inside of its buffer.
fn array<const N: usize>(bytes: &[u8], offset: usize) -> [u8; N] {
    let mut array = [0; N];
    array.copy_from_slice(&bytes[offset..offset + N]);
    array
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::{Strategy, any, prop_assert_eq, prop_oneof, proptest};

    use super::*;

    /// Writes a log as QEMU does.
    fn written(operations: &[Operation], sector: u64) -> tempfile::NamedTempFile {
        let sectors = |bytes: u64| bytes / sector;
        let padded = |mut bytes: Vec<u8>| {
            bytes.resize(
                bytes
                    .len()
                    .next_multiple_of(usize::try_from(sector).unwrap()),
                0,
            );
            bytes
        };
        let entry = |words: [u64; 4]| padded(words.map(u64::to_le_bytes).concat());
        let count = u64::try_from(operations.len()).unwrap();
        let mut start = [MAGIC, VERSION, count].map(u64::to_le_bytes).concat();
        start.extend(u32::try_from(sector).unwrap().to_le_bytes());
        let mut log = padded(start);
        for operation in operations {
            match operation {
                Operation::Flush => log.extend(entry([0, 0, FLUSH, 0])),
                Operation::Discard { offset, length } => {
                    log.extend(entry([sectors(*offset), sectors(*length), DISCARD, 0]));
                }
                Operation::Write { offset, data } => {
                    let length = u64::try_from(data.len()).unwrap();
                    log.extend(entry([sectors(*offset), sectors(length), FUA, 0]));
                    log.extend(&data[..]);
                }
            }
        }
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), log).unwrap();
        file
    }

    fn read(log: &WriteLog) -> Vec<Operation> {
        (0..log.shapes().len())
            .map(|number| log.operation(number).unwrap())
            .collect()
    }

    fn operations(sector: u64) -> impl Strategy<Value = Vec<Operation>> {
        let bytes = move |count: u8| u64::from(count) * sector;
        let one = prop_oneof![
            any::<bool>().prop_map(|_| Operation::Flush),
            (any::<u8>(), any::<u8>()).prop_map(move |(at, length)| Operation::Discard {
                offset: bytes(at),
                length: bytes(length),
            }),
            (any::<u8>(), 0..4_u8, any::<u8>()).prop_map(move |(at, count, fill)| {
                let data = vec![fill; usize::try_from(bytes(count)).unwrap()];
                Operation::write(bytes(at), &data)
            }),
        ];
        vec(one, 0..20)
    }

    proptest! {
        #[test]
        fn what_was_written_is_read(small in operations(512), large in operations(4096)) {
            for (sector, operations) in [(512, small), (4096, large)] {
                let file = written(&operations, sector);
                let log = WriteLog::open(file.path()).unwrap();
                prop_assert_eq!(read(&log), &operations[..]);
                let shapes: Vec<_> = operations.iter().map(Operation::shape).collect();
                prop_assert_eq!(log.shapes(), shapes);
            }
        }

        #[test]
        fn any_bytes_are_a_log_or_an_error(bytes in vec(any::<u8>(), 0..3000), entries in 0..4_u64) {
            let file = tempfile::NamedTempFile::new().unwrap();
            let mut log = [MAGIC, VERSION, entries].map(u64::to_le_bytes).concat();
            log.extend(512_u32.to_le_bytes());
            log.resize(512, 0);
            log.extend(bytes);
            std::fs::write(file.path(), log).unwrap();
            if let Ok(log) = WriteLog::open(file.path()) {
                // Data may be missing; that is an error and no panic.
                let _ = log.operations_in(std::slice::from_ref(&(0..u64::MAX)));
            }
        }
    }

    #[test]
    fn only_some_parts_of_the_disk() {
        let write = |at: u64| Operation::write(at, &[1; 1024]);
        let operations = [
            write(0),
            Operation::Flush,
            write(4096),
            Operation::Flush,
            write(8192),
            Operation::Flush,
        ];
        let file = written(&operations, 512);
        let log = WriteLog::open(file.path()).unwrap();
        let parts = [512..513, 9215..9999];
        let expected = [write(0), Operation::Flush, write(8192), Operation::Flush];
        assert_eq!(log.operations_in(&parts).unwrap(), expected);
    }

    /// Written by QEMU 10: `qemu-io` with a write of a sector of 0x11 at 1024, a flush, zeros over
    /// 4096 bytes at 4096, a discard of 8192 bytes at 65536, and a flush.
    #[test]
    fn a_log_of_the_real_driver() {
        let path = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/src/log/qemu-io.log"));
        let log = WriteLog::open(path).unwrap();
        let expected = [
            Operation::write(1024, &[0x11; 512]),
            Operation::Flush,
            Operation::write(4096, &[0; 4096]),
            Operation::Discard {
                offset: 65536,
                length: 8192,
            },
            Operation::Flush,
        ];
        assert_eq!(read(&log), expected);
    }

    #[test]
    fn a_cut_is_played_to_an_image() {
        let operations = [
            Operation::write(0, &[1; 1024]),
            Operation::Flush,
            Operation::write(1024, &[2; 512]),
            Operation::write(4096, &[3; 512]),
            Operation::Discard {
                offset: 0,
                length: 512,
            },
        ];
        let file = written(&operations, 512);
        let log = WriteLog::open(file.path()).unwrap();
        let image = tempfile::tempfile().unwrap();
        image.set_len(8192).unwrap();
        let last = |operation: usize, length| crate::Part {
            operation,
            bytes: 0..length,
        };
        let cut = crate::CutPoint {
            durable: 2,
            kept: vec![last(3, 512), last(4, 512)],
            torn: None,
        };
        log.play(&cut, &image).unwrap();
        let mut bytes = [9; 8192];
        image.read_exact_at(&mut bytes, 0).unwrap();
        let filled = |range: Range<usize>, byte| bytes[range].iter().all(|b| *b == byte);
        assert!(filled(0..512, 0) && filled(512..1024, 1) && filled(1024..4096, 0));
        assert!(filled(4096..4608, 3) && filled(4608..8192, 0));
    }

    #[test]
    fn what_is_no_log() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), [7; 600]).unwrap();
        let error = WriteLog::open(file.path()).unwrap_err();
        assert!(matches!(error, LogError::NotALog { .. }), "{error}");
        let whole = written(&[Operation::write(0, &[1; 512])], 512);
        let bytes = std::fs::read(whole.path()).unwrap();
        std::fs::write(file.path(), &bytes[..1100]).unwrap();
        let log = WriteLog::open(file.path()).unwrap();
        let error = log.operation(0).unwrap_err();
        assert!(matches!(error, LogError::Read { .. }), "{error}");
    }
}
