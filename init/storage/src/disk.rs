//! The disk as bytes: reading, writing, flushing. One implementation for block devices and image
//! files; the tests have one in memory that loses power.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, FileTypeExt};
use std::path::Path;

/// Access to a whole disk.
pub trait Disk {
    /// Size in bytes.
    fn size(&self) -> u64;
    /// Logical sector size in bytes.
    fn sector_size(&self) -> u32;
    /// Fills the buffer from this place; the end of the disk is an error.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()>;
    /// Writes the bytes at this place. They are safe only after [`Disk::flush`].
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()>;
    /// Returns once everything written before survives a power cut.
    fn flush(&self) -> io::Result<()>;
}

/// A disk of this machine, or a file that holds the image of one.
#[derive(Debug)]
pub struct DiskFile {
    file: File,
    size: u64,
    sector_size: u32,
}

impl DiskFile {
    /// Opens a block device, or a file as a disk with sectors of 512 bytes.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        let metadata = file.metadata()?;
        let (size, sector_size) = if metadata.file_type().is_block_device() {
            (
                keelson_sys::block::size(&file)?,
                keelson_sys::block::sector_size(&file)?,
            )
        } else {
            (metadata.len(), 512)
        };
        Ok(Self {
            file,
            size,
            sector_size,
        })
    }

    /// Opens a file as a disk with sectors of another size.
    pub fn open_with_sector_size(path: &Path, sector_size: u32) -> io::Result<Self> {
        Ok(Self {
            sector_size,
            ..Self::open(path)?
        })
    }

    /// The open device, for calls about its partitions.
    pub fn file(&self) -> &File {
        &self.file
    }
}

impl Disk for DiskFile {
    fn size(&self) -> u64 {
        self.size
    }

    fn sector_size(&self) -> u32 {
        self.sector_size
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(buffer, offset)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all_at(bytes, offset)
    }

    fn flush(&self) -> io::Result<()> {
        self.file.sync_all()
    }
}
