//! The partitions an upgrade reads and writes.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Seek, SeekFrom};
use std::num::NonZeroU64;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use keelson_bootstate::layout::Partition;
use keelson_control::BootFacts;
use rustix::fs::{Advice, fadvise};

/// What an upgrade needs of the disk.
pub(crate) trait Disk: Send + Sync {
    /// Bytes of a partition.
    fn size(&self, partition: Partition) -> io::Result<u64>;

    /// Fills `buffer` with the bytes from `offset` on.
    fn read(&self, partition: Partition, buffer: &mut [u8], offset: u64) -> io::Result<()>;

    /// Writes all bytes from `offset` on.
    fn write(&self, partition: Partition, bytes: &[u8], offset: u64) -> io::Result<()>;

    /// Waits until what was written to a partition is on the medium.
    fn flush(&self, partition: Partition) -> io::Result<()>;

    /// Lets go of what memory holds of a range, so that pods keep theirs and the next read comes
    /// from the medium. What was not flushed stays.
    fn forget(&self, partition: Partition, offset: u64, length: u64);
}

/// What a partition is opened for. The running slot is only ever read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Access {
    Read,
    Write,
}

/// The disk this machine was started from.
#[derive(Debug)]
pub(crate) struct Devices {
    paths: BTreeMap<Partition, PathBuf>,
    open: Mutex<BTreeMap<(Partition, Access), Arc<File>>>,
}

impl Devices {
    /// By the devices that stage 1 found.
    pub(crate) fn of_boot(facts: &BootFacts) -> Self {
        Self::at(Partition::ALL.into_iter().filter_map(|partition| {
            let device = facts.partition(partition.name())?;
            Some((partition, PathBuf::from(device)))
        }))
    }

    /// By name; in tests these are files.
    pub(crate) fn at(paths: impl IntoIterator<Item = (Partition, PathBuf)>) -> Self {
        Self {
            paths: paths.into_iter().collect(),
            open: Mutex::default(),
        }
    }

    /// Whether there is such a partition.
    pub(crate) fn has(&self, partition: Partition) -> bool {
        self.paths.contains_key(&partition)
    }

    fn file(&self, partition: Partition, access: Access) -> io::Result<Arc<File>> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(file) = open.get(&(partition, access)) {
            return Ok(Arc::clone(file));
        }
        let path = self.paths.get(&partition).ok_or_else(|| {
            let text = format!("the disk has no partition {}", partition.name());
            io::Error::new(io::ErrorKind::NotFound, text)
        })?;
        let write = access == Access::Write;
        let file = OpenOptions::new().read(true).write(write).open(path)?;
        let file = Arc::new(file);
        open.insert((partition, access), Arc::clone(&file));
        Ok(file)
    }
}

impl Disk for Devices {
    fn size(&self, partition: Partition) -> io::Result<u64> {
        // Works for block devices and, in tests, for files.
        (&*self.file(partition, Access::Read)?).seek(SeekFrom::End(0))
    }

    fn read(&self, partition: Partition, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.file(partition, Access::Read)?
            .read_exact_at(buffer, offset)
    }

    fn write(&self, partition: Partition, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.file(partition, Access::Write)?
            .write_all_at(bytes, offset)
    }

    fn flush(&self, partition: Partition) -> io::Result<()> {
        self.file(partition, Access::Write)?.sync_data()
    }

    fn forget(&self, partition: Partition, offset: u64, length: u64) {
        if let (Ok(file), Some(length)) =
            (self.file(partition, Access::Read), NonZeroU64::new(length))
        {
            // Advice: a kernel that does not take it keeps its cache.
            let _ = fadvise(&*file, offset, Some(length), Advice::DontNeed);
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::path::Path;

    use super::*;

    /// Partitions of a disk in a folder; those of slots hold a megabyte.
    pub(crate) fn partitions(folder: &Path) -> Devices {
        let sizes = [
            (Partition::GrubEnv, 1024 * 1024),
            (Partition::BootState, 1024 * 1024),
            (Partition::Tries, 1024 * 1024),
            (Partition::BootA, 1024 * 1024),
            (Partition::BootB, 1024 * 1024),
            (Partition::RootA, 1024 * 1024),
            (Partition::RootB, 1024 * 1024),
        ];
        Devices::at(sizes.map(|(partition, size)| {
            let path = folder.join(partition.name());
            if !path.exists() {
                File::create(&path).unwrap().set_len(size).unwrap();
            }
            (partition, path)
        }))
    }

    #[test]
    fn what_is_written_is_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let disk = partitions(folder.path());
        assert_eq!(disk.size(Partition::BootB).unwrap(), 1024 * 1024);
        disk.write(Partition::BootB, b"payload", 4096).unwrap();
        disk.flush(Partition::BootB).unwrap();
        disk.forget(Partition::BootB, 0, 8192);
        let mut buffer = [0; 7];
        disk.read(Partition::BootB, &mut buffer, 4096).unwrap();
        assert_eq!(&buffer, b"payload");
        assert!(
            disk.read(Partition::BootB, &mut buffer, 1024 * 1024 - 1)
                .is_err()
        );
        let missing = disk.size(Partition::Data).unwrap_err();
        assert!(missing.to_string().contains("DATA"), "{missing}");
    }
}
