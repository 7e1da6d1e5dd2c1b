//! The ESP: made with the loader in it, and later the place where people drop `keelson.yaml`.

use std::fs::{File, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use hadris_fat::format::{self, FatFormatOptions, FatTypeSelection, FatVolumeFormatter};
use hadris_fat::time::EpochTimeProvider;
use hadris_fat::{FatDir, FatVolume, FatVolumeBuilder, FatVolumeReadExt, FatVolumeWriteExt};
use keelson_bootstate::gpt::{Entry, GptError, Header};
use keelson_bootstate::layout::Partition;

use crate::SectorSize;
use crate::disk::PlannedEsp;
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
        source: hadris_fat::Error,
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
    change(image, |fs| {
        let root = fs.root_dir();
        remove_if_there(fs, &root)?;
        put_file(fs, &root, CONFIG_NAME, config)
    })
}

/// Removes `keelson.yaml` from the ESP of a raw image; fine when there is none.
pub fn remove_config(image: &Path) -> Result<(), ConfigOnImageError> {
    change(image, |fs| remove_if_there(fs, &fs.root_dir()))
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
    let fs = mount(find_esp(&file, image)?).map_err(fat)?;
    match fs.root_dir().find(CONFIG_NAME).map_err(fat)? {
        None => Ok(None),
        Some(entry) => fs
            .read_file(&entry)
            .and_then(|mut reader| reader.read_to_vec())
            .map(Some)
            .map_err(fat),
    }
}

type Volume<'file> = FatVolume<Window<'file>>;
type Dir<'fs, 'file> = FatDir<'fs, Window<'file>>;

/// Mounts with a fixed clock: an image must not tell when it was made or changed.
fn mount(window: Window<'_>) -> hadris_fat::Result<Volume<'_>> {
    FatVolumeBuilder::new(window)
        .time_provider(&EpochTimeProvider)
        .open()
}

fn remove_if_there<'file>(fs: &Volume<'file>, root: &Dir<'_, 'file>) -> hadris_fat::Result<()> {
    match root.find(CONFIG_NAME)? {
        Some(entry) => fs.delete(&entry),
        None => Ok(()),
    }
}

fn put_file<'file>(
    fs: &Volume<'file>,
    folder: &Dir<'_, 'file>,
    name: &str,
    content: &[u8],
) -> hadris_fat::Result<()> {
    let entry = fs.create_file(folder, name)?;
    let mut writer = fs.write_file(&entry)?;
    let mut left = content;
    while !left.is_empty() {
        let written = writer.write(left)?;
        left = left.get(written..).unwrap_or_default();
    }
    writer.finish()
}

fn change(
    image: &Path,
    with: impl FnOnce(&Volume<'_>) -> hadris_fat::Result<()>,
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
    let fs = mount(find_esp(&file, image)?).map_err(fat)?;
    with(&fs).map_err(fat)?;
    fs.sync().map_err(fat)?;
    file.sync_all().map_err(open)
}

fn find_esp<'a>(file: &'a File, image: &Path) -> Result<Window<'a>, ConfigOnImageError> {
    let (start, len) =
        find_partition(file, image, Partition::Esp)?.ok_or_else(|| ConfigOnImageError::NoEsp {
            image: image.into(),
        })?;
    Ok(Window::new(file, start, len))
}

/// Where a partition of a raw image starts and how long it is, in bytes.
pub(crate) fn find_partition(
    file: &File,
    image: &Path,
    kind: Partition,
) -> Result<Option<(u64, u64)>, ConfigOnImageError> {
    let open = |source| ConfigOnImageError::Open {
        image: image.into(),
        source,
    };
    let mut failure = GptError::NoTable;
    for sector in [SectorSize::Bytes512, SectorSize::Bytes4096] {
        let sector = u64::from(sector.bytes());
        match read_table(file, sector).map_err(open)? {
            Ok(partitions) => {
                let found = partitions.iter().find(|entry| entry.is(kind));
                return Ok(
                    found.map(|entry| (entry.first_lba() * sector, entry.sectors() * sector))
                );
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
    file: &File,
    start: u64,
    size: u64,
    sector: SectorSize,
    esp: &PlannedEsp,
) -> hadris_fat::Result<()> {
    // FAT32 where it is possible: some firmware reads nothing else from a fixed disk. With
    // 4096-byte sectors it would need 256 MiB, so there it is FAT16.
    let (kind, sector_size) = match sector {
        SectorSize::Bytes512 => (FatTypeSelection::Fat32, format::SectorSize::S512),
        SectorSize::Bytes4096 => (FatTypeSelection::Fat16, format::SectorSize::S4096),
    };
    let options = FatFormatOptions::new(size)
        .fat_type(kind)
        .sector_size(sector_size)
        .sectors_per_cluster(1)
        .hidden_sectors(u32::try_from(start / u64::from(sector.bytes())).unwrap_or(0))
        .volume_id(esp.volume_id)
        .volume_label(VOLUME_LABEL);
    let params = FatVolumeFormatter::calculate_params(&options)?;
    // Right after the tables, for both kinds: FAT32's root folder is its first cluster.
    let root = u64::from(params.reserved_sectors)
        + u64::from(params.fat_count) * u64::from(params.sectors_per_fat);
    FatVolumeFormatter::format(Window::new(file, start, size), options)?;
    fix_label_time(
        Window::new(file, start, size),
        root * u64::from(sector.bytes()),
    )
    .map_err(hadris_fat::sync::Error::from_source)?;

    let fs = mount(Window::new(file, start, size))?;
    let mut folder = fs.root_dir();
    let mut parts = esp
        .loader_path
        .split('/')
        .filter(|part| !part.is_empty())
        .peekable();
    while let Some(part) = parts.next() {
        if parts.peek().is_some() {
            folder = fs.create_dir(&folder, part)?;
        } else {
            put_file(&fs, &folder, part, &esp.loader)?;
        }
    }
    fs.sync()
}

/// What people see when they put the disk into another computer.
const VOLUME_LABEL: &str = "KEELSON";

/// The formatter stamps the label, the first entry of the root folder, with the time of day;
/// 1980-01-01 is what everything else has.
fn fix_label_time(mut window: Window<'_>, root: u64) -> io::Result<()> {
    let epoch_date = 0x0021u16.to_le_bytes();
    for (field, bytes) in [
        (14, [0; 2]),
        (16, epoch_date),
        (18, epoch_date),
        (22, [0; 2]),
        (24, epoch_date),
    ] {
        window.seek(SeekFrom::Start(root + field))?;
        window.write_all(&bytes)?;
    }
    Ok(())
}
