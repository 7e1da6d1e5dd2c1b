//! The disk as the loader sees it: numbered sectors that can be read.

use core::fmt;

/// Sectors of one whole disk.
pub trait Disk {
    /// Bytes per sector, 512 or 4096 on every disk there is.
    fn sector_size(&self) -> usize;

    /// Number of the last sector.
    fn last_sector(&self) -> u64;

    /// Fills `into`, whose length is a multiple of the sector size, from sector `first` on.
    fn read(&mut self, first: u64, into: &mut [u8]) -> Result<(), ReadError>;
}

/// A read that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadError {
    /// First sector of the read.
    pub sector: u64,
    /// The firmware's status code.
    pub status: usize,
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // UEFI sets the top bit of error codes; people know them by the number below it.
        let code = self.status & !(1usize.rotate_right(1));
        write!(
            f,
            "the disk cannot be read at sector {} (UEFI error {code})",
            self.sector
        )
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use alloc::vec::Vec;

    use super::*;

    /// A disk in memory that fails where it is told to.
    pub(crate) struct MemoryDisk {
        pub(crate) bytes: Vec<u8>,
        pub(crate) sector_size: usize,
        pub(crate) bad_sector: Option<u64>,
    }

    impl Disk for MemoryDisk {
        fn sector_size(&self) -> usize {
            self.sector_size
        }

        fn last_sector(&self) -> u64 {
            u64::try_from(self.bytes.len() / self.sector_size).unwrap() - 1
        }

        fn read(&mut self, first: u64, into: &mut [u8]) -> Result<(), ReadError> {
            assert!(
                into.len().is_multiple_of(self.sector_size),
                "whole sectors only"
            );
            let start = usize::try_from(first).unwrap() * self.sector_size;
            let end = start + into.len();
            let failed = ReadError {
                sector: first,
                status: 7,
            };
            let sectors = first..(end / self.sector_size) as u64;
            if self.bad_sector.is_some_and(|bad| sectors.contains(&bad)) {
                return Err(failed);
            }
            into.copy_from_slice(self.bytes.get(start..end).ok_or(failed)?);
            Ok(())
        }
    }
}
