//! Reads `keelson.yaml` from the firmware partition (the ESP), where a person may drop it.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

/// Where the firmware partition is mounted while it is read.
const TARGET: &str = "/system/firmware";
/// The file name is plain ASCII, so the smallest tables do, whatever the kernel's default is: a
/// table that is not built in would make every mount fail.
const OPTIONS: &std::ffi::CStr = c"iocharset=ascii,codepage=437";
/// Name of the file; FAT does not tell upper from lower case.
pub const CONFIG_FILE: &str = "keelson.yaml";

/// Why the firmware partition could not be read.
#[derive(Debug, thiserror::Error)]
pub enum FirmwareError {
    /// No valid FAT file system, or a failing device.
    #[error(
        "cannot mount the firmware partition {} to look for {CONFIG_FILE}; its FAT file system may \
         be damaged: write it again", device.display()
    )]
    Mount {
        /// Partition.
        device: PathBuf,
        /// Cause.
        source: io::Error,
    },
    /// The file is there but cannot be read.
    #[error("cannot read {CONFIG_FILE} on the firmware partition {}", device.display())]
    Read {
        /// Partition.
        device: PathBuf,
        /// Cause.
        source: io::Error,
    },
}

/// The bytes of `keelson.yaml` on the firmware partition; `None` if there is no such file.
///
/// At most `limit + 1` bytes are read: one more than allowed is enough to refuse a file.
///
/// # Errors
/// When the partition cannot be mounted or the file cannot be read.
pub fn read_firmware_config(device: &Path, limit: usize) -> Result<Option<Vec<u8>>, FirmwareError> {
    let flags = MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    mount(device, TARGET, "vfat", flags, Some(OPTIONS)).map_err(|source| FirmwareError::Mount {
        device: device.to_owned(),
        source: source.into(),
    })?;
    let mounted = Mounted;
    let read = read_at_most(&Path::new(TARGET).join(CONFIG_FILE), limit);
    drop(mounted);
    read.map_err(|source| FirmwareError::Read {
        device: device.to_owned(),
        source,
    })
}

/// Unmounts when dropped, whatever happened in between.
struct Mounted;

impl Drop for Mounted {
    fn drop(&mut self) {
        if let Err(error) = unmount(TARGET, UnmountFlags::DETACH) {
            tracing::warn!("cannot unmount {TARGET}: {error}");
        }
    }
}

fn read_at_most(path: &Path, limit: usize) -> io::Result<Option<Vec<u8>>> {
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other?,
    };
    let limit = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
    let mut bytes = Vec::new();
    file.take(limit).read_to_end(&mut bytes)?;
    Ok(Some(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reading_is_bounded() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(CONFIG_FILE);
        assert_eq!(read_at_most(&path, 10).unwrap(), None);
        std::fs::write(&path, [b'x'; 100]).unwrap();
        assert_eq!(read_at_most(&path, 10).unwrap().unwrap().len(), 11);
        assert_eq!(read_at_most(&path, 1000).unwrap().unwrap().len(), 100);
        assert!(read_at_most(folder.path(), 10).is_err());
    }
}
