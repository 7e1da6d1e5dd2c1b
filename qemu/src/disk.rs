//! Image files: bases that nobody writes, overlays that one machine writes, single regions.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use keelson_images::sparse;
use sha2::{Digest, Sha256};
use thiserror::Error;

use crate::process::{RunError, run_within};
use crate::{DiskFormat, Tools, scaled};

/// For `qemu-img` and `qemu-io`: they move at most a few hundred MiB.
const TOOL_DEADLINE: Duration = Duration::from_secs(120);

/// Why an image file could not be made, read or changed.
#[derive(Debug, Error)]
pub enum DiskError {
    /// A file could not be read or written.
    #[error("cannot {verb} {}", path.display())]
    File {
        /// `read`, `write`, `copy`.
        verb: &'static str,
        /// The file.
        path: PathBuf,
        /// The reason.
        #[source]
        source: io::Error,
    },
    /// A tool of QEMU failed.
    #[error(transparent)]
    Tool(#[from] RunError),
    /// No image has such a name.
    #[error(
        "{} is no disk image this program knows: its name must end in .qcow2, .raw, .img or .raw.zst",
        path.display()
    )]
    UnknownFormat {
        /// The file.
        path: PathBuf,
    },
}

/// An image as it was built, never written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BaseImage {
    /// Where it is.
    pub path: PathBuf,
    /// Its format.
    pub format: DiskFormat,
}

impl BaseImage {
    /// Copies a built image into `folder`, unpacked if need be, so that a later build cannot
    /// change it under the overlays that refer to it.
    pub fn import(source: &Path, folder: &Path) -> Result<Self, DiskError> {
        let name = source.to_string_lossy();
        let compressed = name.ends_with(".zst");
        let format = match name.trim_end_matches(".zst").rsplit_once('.') {
            Some((_, "qcow2")) => DiskFormat::Qcow2,
            Some((_, "raw" | "img")) => DiskFormat::Raw,
            _ => {
                return Err(DiskError::UnknownFormat {
                    path: source.to_owned(),
                });
            }
        };
        let path = folder.join(format!("base.{}", format.name()));
        let temporary = folder.join("base.partial");
        if compressed {
            let file = File::open(source).map_err(file_error("read", source))?;
            let mut decoder = zstd::Decoder::new(file).map_err(file_error("read", source))?;
            copy_sparse(&mut decoder, &temporary).map_err(file_error("unpack", source))?;
        } else {
            sparse::copy(source, &temporary).map_err(file_error("copy", source))?;
        }
        fs::rename(&temporary, &path).map_err(file_error("write", &path))?;
        Ok(Self { path, format })
    }

    /// The base that [`BaseImage::import`] left in `folder`.
    pub fn find(folder: &Path) -> Option<Self> {
        [DiskFormat::Qcow2, DiskFormat::Raw]
            .into_iter()
            .find_map(|format| {
                let path = folder.join(format!("base.{}", format.name()));
                path.exists().then_some(Self { path, format })
            })
    }
}

/// SHA-256 of a file, in hexadecimal: the identity of an image.
pub fn fingerprint(path: &Path) -> Result<String, DiskError> {
    let mut file = File::open(path).map_err(file_error("read", path))?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        let length = file.read(&mut buffer).map_err(file_error("read", path))?;
        if length == 0 {
            break;
        }
        hash.update(&buffer[..length]);
    }
    Ok(hash
        .finalize()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect())
}

/// Makes a qcow2 file that holds what a machine writes and reads the rest from `base`. `size`
/// is in bytes; without one the disk is as large as its base.
pub fn create_overlay(
    tools: &Tools,
    base: &Path,
    format: DiskFormat,
    overlay: &Path,
    size: Option<u64>,
) -> Result<(), DiskError> {
    let mut command = tools.command("qemu-img");
    command
        .args(["create", "-q", "-f", "qcow2", "-F", format.name(), "-b"])
        .arg(base)
        .arg(overlay);
    if let Some(size) = size {
        command.arg(size.to_string());
    }
    run_within(&mut command, scaled(TOOL_DEADLINE))?;
    Ok(())
}

/// Makes an empty raw disk.
pub fn create_empty(path: &Path, size: u64) -> Result<(), DiskError> {
    let file = File::create(path).map_err(file_error("write", path))?;
    file.set_len(size).map_err(file_error("write", path))
}

/// Makes UEFI variables for one machine, empty as from the factory.
pub fn create_variables(tools: &Tools, path: &Path) -> Result<(), DiskError> {
    let mut command = tools.command("qemu-img");
    command
        .args(["convert", "-f", "raw", "-O", "qcow2"])
        .arg(tools.firmware_variables())
        .arg(path);
    run_within(&mut command, scaled(TOOL_DEADLINE))?;
    Ok(())
}

/// Reads bytes of the disk inside an image file. No machine may be running on it.
pub fn read_region(
    tools: &Tools,
    image: &Path,
    format: DiskFormat,
    offset: u64,
    length: u64,
) -> Result<Vec<u8>, DiskError> {
    /// Everything on a disk of ours lies on this boundary.
    const BLOCK: u64 = 512;
    let first = offset / BLOCK;
    let count = (offset + length).div_ceil(BLOCK) - first;
    let scratch = sibling(image, "region");
    let mut command = tools.command("qemu-img");
    command
        .args(["dd", "-f", format.name(), "-O", "raw"])
        .arg(format!("bs={BLOCK}"))
        .arg(format!("skip={first}"))
        // `count` is counted from the start of the input, not from `skip`.
        .arg(format!("count={}", first + count))
        .arg(joined("if=", image))
        .arg(joined("of=", &scratch));
    run_within(&mut command, scaled(TOOL_DEADLINE))?;
    let mut bytes = fs::read(&scratch).map_err(file_error("read", &scratch))?;
    fs::remove_file(&scratch).map_err(file_error("write", &scratch))?;
    let start = usize::try_from(offset - first * BLOCK)
        .unwrap_or(usize::MAX)
        .min(bytes.len());
    bytes.drain(..start);
    bytes.truncate(usize::try_from(length).unwrap_or(usize::MAX));
    Ok(bytes)
}

/// Writes bytes of the disk inside an image file. No machine may be running on it; `offset` and
/// length must be multiples of 512.
pub fn write_region(
    tools: &Tools,
    image: &Path,
    format: DiskFormat,
    offset: u64,
    bytes: &[u8],
) -> Result<(), DiskError> {
    let scratch = sibling(image, "region");
    fs::write(&scratch, bytes).map_err(file_error("write", &scratch))?;
    let mut command = tools.command("qemu-io");
    command
        .args(["-f", format.name(), "-c"])
        .arg(format!(
            "write -s {} {offset} {}",
            scratch.display(),
            bytes.len()
        ))
        .arg(image);
    run_within(&mut command, scaled(TOOL_DEADLINE))?;
    fs::remove_file(&scratch).map_err(file_error("write", &scratch))
}

fn joined(prefix: &str, path: &Path) -> std::ffi::OsString {
    let mut value = std::ffi::OsString::from(prefix);
    value.push(path);
    value
}

fn sibling(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".");
    name.push(suffix);
    path.with_file_name(name)
}

/// Copies and leaves holes where there are only zeros.
fn copy_sparse(source: &mut impl Read, path: &Path) -> io::Result<()> {
    let mut file = File::create(path)?;
    let mut buffer = vec![0; 1 << 16];
    let mut length = 0;
    loop {
        let count = read_full(source, &mut buffer)?;
        if count == 0 {
            break;
        }
        let chunk = &buffer[..count];
        if chunk.iter().any(|byte| *byte != 0) {
            file.seek(SeekFrom::Start(length))?;
            file.write_all(chunk)?;
        }
        length += u64::try_from(count).unwrap_or(0);
    }
    file.set_len(length)
}

fn read_full(source: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match source.read(&mut buffer[filled..])? {
            0 => break,
            count => filled += count,
        }
    }
    Ok(filled)
}

fn file_error<'a>(verb: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> DiskError + 'a {
    move |source| DiskError::File {
        verb,
        path: path.to_owned(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_compressed_image_is_unpacked_with_holes() {
        let folder = tempfile::tempdir().unwrap();
        let mut disk = vec![0_u8; 1 << 20];
        disk[300_000] = 7;
        let source = folder.path().join("image.raw.zst");
        fs::write(&source, zstd::encode_all(&disk[..], 1).unwrap()).unwrap();
        let base = BaseImage::import(&source, folder.path()).unwrap();
        assert_eq!(base.format, DiskFormat::Raw);
        assert_eq!(fs::read(&base.path).unwrap(), disk);
        assert_eq!(BaseImage::find(folder.path()), Some(base));
    }

    #[test]
    fn a_file_of_another_kind_is_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let error = BaseImage::import(Path::new("/x/notes.txt"), folder.path()).unwrap_err();
        assert!(error.to_string().contains("/x/notes.txt"), "{error}");
    }

    #[test]
    fn the_fingerprint_is_sha256() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("abc");
        fs::write(&path, "abc").unwrap();
        assert!(fingerprint(&path).unwrap().starts_with("ba7816bf8f01cfea"));
    }
}
