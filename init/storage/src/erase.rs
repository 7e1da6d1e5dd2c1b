//! Asks the next boot to erase a volume: it is in use now.

use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::marker::{self, Mark};

/// The mark could not be written.
#[derive(Debug, thiserror::Error)]
#[error("cannot mark {} for erasure; it is as it was", device.display())]
pub struct EraseRequestError {
    device: PathBuf,
    source: io::Error,
}

/// Writes the mark behind the file system of a volume, which may be mounted, and flushes it. The
/// next boot's `keelson storage` makes the volume anew.
pub fn request_erasure(device: &Path) -> Result<(), EraseRequestError> {
    let write = || {
        let file = OpenOptions::new().read(true).write(true).open(device)?;
        let size = keelson_sys::block::size(&file)?;
        file.write_all_at(&Mark::Erase.tail(), size.saturating_sub(marker::TAIL))?;
        file.sync_all()
    };
    write().map_err(|source| EraseRequestError {
        device: device.to_owned(),
        source,
    })
}
