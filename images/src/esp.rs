//! The ESP: made with the loader in it, and later the place where people drop `keelson.yaml`.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use fatfs::{
    Date, DateTime, FatType, FileSystem, FormatVolumeOptions, FsOptions, Time, TimeProvider,
};
use keelson_bootstate::gpt::{Entry, GptError, Header};
use keelson_bootstate::layout::Partition;

use crate::SectorSize;
use crate::window::Window;

/// The file that a node looks for at the top of its ESP.
pub const CONFIG_NAME: &str = "keelson.yaml";

/// A configuration is a few kilobytes; what is larger was meant for something else.
const MAX_CONFIG: u64 = 1024 * 1024;

/// Why the configuration on an image could not be changed or read.
#[derive(Debug, thiserror::Error)]
pub enum ConfigOnImageError {
    /// The configuration is larger than any real one.
    #[error("the configuration is {size} bytes; a node reads at most {MAX_CONFIG}")]
    ConfigTooLarge {
        /// Its size.
        size: u64,
    },
    /// The image's FAT cannot be read or written.
    #[error("cannot change the first partition of {image}")]
    Fat {
        /// The image.
        image: PathBuf,
        /// What went wrong.
        #[source]
        source: io::Error,
    },
    /// The partition table has no ESP.
    #[error("{image} has no EFI system partition: is it a Keelson image?")]
    NoEsp {
        /// The image.
        image: PathBuf,
    },
    /// The file has no usable partition table.
    #[error("{image} is not a raw disk image")]
    NoTable {
        /// The image.
        image: PathBuf,
        /// What is wrong with its table.
        #[source]
        source: GptError,
    },
    /// The image cannot be opened or read.
    #[error("cannot open {image}")]
    Open {
        /// The image.
        image: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// Puts `keelson.yaml` onto the ESP of a raw image, replacing the one that is there.
pub fn put_config(image: &Path, config: &[u8]) -> Result<(), ConfigOnImageError> {
    let size = u64::try_from(config.len()).unwrap_or(u64::MAX);
    if size > MAX_CONFIG {
        return Err(ConfigOnImageError::ConfigTooLarge { size });
    }
    change(image, |root| {
        remove_if_there(root)?;
        let mut file = root.create_file(CONFIG_NAME)?;
        file.write_all(config)?;
        file.flush()
    })
}

/// Removes `keelson.yaml` from the ESP of a raw image; fine when there is none.
pub fn remove_config(image: &Path) -> Result<(), ConfigOnImageError> {
    change(image, remove_if_there)
}

/// Reads `keelson.yaml` from the ESP of a raw image.
pub fn read_config(image: &Path) -> Result<Option<Vec<u8>>, ConfigOnImageError> {
    let open = |source| ConfigOnImageError::Open {
        image: image.into(),
        source,
    };
    let fat = |source| ConfigOnImageError::Fat {
        image: image.into(),
        source,
    };
    let file = File::open(image).map_err(open)?;
    let window = find_esp(&file, image)?;
    let fs = FileSystem::new(window, options()).map_err(fat)?;
    let mut config = Vec::new();
    let read = match fs.root_dir().open_file(CONFIG_NAME) {
        Ok(file) => file
            .take(MAX_CONFIG)
            .read_to_end(&mut config)
            .map(|_| Some(config)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    };
    read.map_err(fat)
}

type Dir<'fs, 'file> = fatfs::Dir<'fs, Window<'file>>;

fn remove_if_there(root: &Dir<'_, '_>) -> io::Result<()> {
    match root.remove(CONFIG_NAME) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

fn change(
    image: &Path,
    with_root: impl FnOnce(&Dir<'_, '_>) -> io::Result<()>,
) -> Result<(), ConfigOnImageError> {
    let open = |source| ConfigOnImageError::Open {
        image: image.into(),
        source,
    };
    let fat = |source| ConfigOnImageError::Fat {
        image: image.into(),
        source,
    };
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .open(image)
        .map_err(open)?;
    let window = find_esp(&file, image)?;
    let fs = FileSystem::new(window, options()).map_err(fat)?;
    with_root(&fs.root_dir()).map_err(fat)?;
    fs.unmount().map_err(fat)?;
    file.sync_all().map_err(fat)
}

fn find_esp<'a>(file: &'a File, image: &Path) -> Result<Window<'a>, ConfigOnImageError> {
    let open = |source| ConfigOnImageError::Open {
        image: image.into(),
        source,
    };
    let mut failure = GptError::NoTable;
    for sector in [SectorSize::Bytes512, SectorSize::Bytes4096] {
        let sector = u64::from(sector.bytes());
        match read_table(file, sector).map_err(open)? {
            Ok(partitions) => {
                let esp = partitions
                    .iter()
                    .find(|entry| entry.type_guid() == Partition::Esp.type_guid())
                    .ok_or_else(|| ConfigOnImageError::NoEsp {
                        image: image.into(),
                    })?;
                return Ok(Window::new(
                    file,
                    esp.first_lba() * sector,
                    esp.sectors() * sector,
                ));
            }
            Err(GptError::NoTable) => {}
            Err(error) => failure = error,
        }
    }
    Err(ConfigOnImageError::NoTable {
        image: image.into(),
        source: failure,
    })
}

/// Reads the primary table of a disk with sectors of this size.
pub(crate) fn read_table(file: &File, sector: u64) -> io::Result<Result<Vec<Entry>, GptError>> {
    let mut header = [0; 512];
    match file.read_exact_at(&mut header, sector) {
        Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return Ok(Err(GptError::NoTable)),
        other => other?,
    }
    let header = match Header::parse(&header, 1) {
        Ok(header) => header,
        Err(error) => return Ok(Err(error)),
    };
    let len = usize::try_from(header.entries_len()).map_err(io::Error::other)?;
    let mut entries = vec![0; len];
    file.read_exact_at(&mut entries, header.entries_lba().saturating_mul(sector))?;
    Ok(header.entries(&entries).map(Iterator::collect))
}

/// Formats the ESP and puts the loader in it.
pub(crate) fn format(
    mut window: Window<'_>,
    sector: SectorSize,
    volume_id: u32,
    loader_path: &str,
    loader: &[u8],
) -> io::Result<()> {
    // FAT32 where it is possible: some firmware reads nothing else from a fixed disk. With
    // 4096-byte sectors it would need 256 MiB, so there it is FAT16.
    let (kind, cluster) = match sector {
        SectorSize::Bytes512 => (FatType::Fat32, 512),
        SectorSize::Bytes4096 => (FatType::Fat16, 4096),
    };
    let format = FormatVolumeOptions::new()
        .fat_type(kind)
        .bytes_per_sector(sector.bytes())
        .bytes_per_cluster(cluster)
        .volume_id(volume_id)
        .volume_label(*b"KEELSON    ");
    fatfs::format_volume(&mut window, format)?;

    let fs = FileSystem::new(window, options())?;
    let mut folder = fs.root_dir();
    let mut parts = loader_path
        .split('/')
        .filter(|part| !part.is_empty())
        .peekable();
    while let Some(part) = parts.next() {
        if parts.peek().is_some() {
            folder = folder.create_dir(part)?;
        } else {
            let mut file = folder.create_file(part)?;
            file.write_all(loader)?;
            file.flush()?;
        }
    }
    drop(folder);
    fs.unmount()
}

fn options() -> FsOptions {
    FsOptions::new().time_provider(&FixedTime)
}

/// The first moment FAT can express, so that images do not depend on when they were made.
#[derive(Debug)]
struct FixedTime;

impl TimeProvider for FixedTime {
    fn get_current_date(&self) -> Date {
        Date {
            year: 1980,
            month: 1,
            day: 1,
        }
    }

    fn get_current_date_time(&self) -> DateTime {
        let time = Time {
            hour: 0,
            min: 0,
            sec: 0,
            millis: 0,
        };
        DateTime {
            date: self.get_current_date(),
            time,
        }
    }
}
