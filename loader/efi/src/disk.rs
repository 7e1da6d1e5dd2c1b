//! The disk as the loader sees it: numbered sectors.

use core::fmt;

/// Sectors of one whole disk.
pub trait Disk {
    /// Bytes per sector, 512 or 4096 on every disk there is.
    fn sector_size(&self) -> usize;

    /// Number of the last sector.
    fn last_sector(&self) -> u64;

    /// Fills `into`, whose length is a multiple of the sector size, from sector `first` on.
    fn read(&mut self, first: u64, into: &mut [u8]) -> Result<(), DiskError>;

    /// Writes `from`, whose length is a multiple of the sector size, from sector `first` on.
    fn write(&mut self, first: u64, from: &[u8]) -> Result<(), DiskError>;

    /// Returns when everything that was written is on the medium.
    fn flush(&mut self) -> Result<(), DiskError>;
}

/// An access that failed, with the firmware's status code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DiskError {
    /// Written data could not be brought to the medium.
    Flush {
        /// The status.
        status: usize,
    },
    /// Sectors could not be read.
    Read {
        /// The first of them.
        sector: u64,
        /// The status.
        status: usize,
    },
    /// Sectors could not be written.
    Write {
        /// The first of them.
        sector: u64,
        /// The status.
        status: usize,
    },
}

impl fmt::Display for DiskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let status = match self {
            Self::Flush { status } => {
                f.write_str("the disk does not finish writing")?;
                status
            }
            Self::Read { sector, status } => {
                write!(f, "the disk cannot be read at sector {sector}")?;
                status
            }
            Self::Write { sector, status } => {
                write!(f, "the disk cannot be written at sector {sector}")?;
                status
            }
        };
        // UEFI sets the top bit of error codes; people know them by the number below it.
        let code = status & !(1usize.rotate_right(1));
        write!(f, " (UEFI error {code})")
    }
}

impl core::error::Error for DiskError {}
