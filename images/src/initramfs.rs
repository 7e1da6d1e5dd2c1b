//! The initramfs: a newc cpio archive, compressed with zstd, with the node binary as `/init`.

use std::io;
use std::path::PathBuf;

/// Level of zstd's "very good, still seconds" end; what it saves is read and hashed at every boot.
const ZSTD_LEVEL: i32 = 19;

/// The file whose presence tells the node binary that it runs from here.
const MARKER: &str = "etc/keelson-initramfs";

/// Why an initramfs could not be made.
#[derive(Debug, thiserror::Error)]
pub enum BuildInitramfsError {
    /// A program cannot be read.
    #[error("cannot read {path} for the initramfs")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// zstd failed, or a file is larger than a cpio archive can hold.
    #[error("cannot pack the initramfs")]
    Pack(#[source] io::Error),
}

/// A program of the initramfs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    /// Its name at the top of the initramfs: the kernel starts `init`.
    pub name: String,
    /// The file to take.
    pub file: PathBuf,
}

/// Packs the programs; the same ones always give the same bytes.
///
/// # Errors
/// When one cannot be read or packed.
pub fn build(programs: &[Program]) -> Result<Vec<u8>, BuildInitramfsError> {
    let mut contents = Vec::new();
    for program in programs {
        let content = std::fs::read(&program.file).map_err(|source| BuildInitramfsError::Read {
            path: program.file.clone(),
            source,
        })?;
        contents.push((program.name.as_str(), content));
    }
    let archive = archive(&entries(&contents)).map_err(BuildInitramfsError::Pack)?;
    zstd::bulk::compress(&archive, ZSTD_LEVEL).map_err(BuildInitramfsError::Pack)
}

/// One entry of the archive.
struct Entry<'a> {
    path: &'a str,
    mode: u32,
    device: (u32, u32),
    content: &'a [u8],
}

const DIRECTORY: u32 = 0o040_000;
const CHARACTER_DEVICE: u32 = 0o020_000;
const REGULAR: u32 = 0o100_000;

fn entries<'a>(programs: &'a [(&'a str, Vec<u8>)]) -> Vec<Entry<'a>> {
    let directory = |path| Entry {
        path,
        mode: DIRECTORY | 0o755,
        device: (0, 0),
        content: &[],
    };
    let mut entries = vec![
        directory("dev"),
        // The kernel opens it for /init before anything could mount a devtmpfs.
        Entry {
            path: "dev/console",
            mode: CHARACTER_DEVICE | 0o600,
            device: (5, 1),
            content: &[],
        },
        directory("etc"),
        Entry {
            path: MARKER,
            mode: REGULAR | 0o644,
            device: (0, 0),
            content: &[],
        },
        directory("proc"),
        directory("run"),
        directory("sys"),
        directory("sysroot"),
    ];
    entries.extend(programs.iter().map(|(path, content)| Entry {
        path,
        mode: REGULAR | 0o755,
        device: (0, 0),
        content,
    }));
    entries.sort_by_key(|entry| entry.path);
    entries
}

fn archive(entries: &[Entry<'_>]) -> io::Result<Vec<u8>> {
    let mut out = Vec::new();
    for (inode, entry) in (1..).zip(entries) {
        append(&mut out, inode, entry)?;
    }
    append(
        &mut out,
        0,
        &Entry {
            path: "TRAILER!!!",
            mode: 0,
            device: (0, 0),
            content: &[],
        },
    )?;
    Ok(out)
}

/// A header of thirteen 8-digit hexadecimal fields, the name, the content; each padded to 4 bytes.
fn append(out: &mut Vec<u8>, inode: u32, entry: &Entry<'_>) -> io::Result<()> {
    let size = u32::try_from(entry.content.len()).map_err(io::Error::other)?;
    let name_size = u32::try_from(entry.path.len() + 1).map_err(io::Error::other)?;
    let links = if entry.mode & DIRECTORY == 0 { 1 } else { 2 };
    let (major, minor) = entry.device;
    let fields = [
        inode, entry.mode, 0, 0, links, 0, size, 0, 0, major, minor, name_size, 0,
    ];
    out.extend_from_slice(b"070701");
    for field in fields {
        out.extend_from_slice(format!("{field:08X}").as_bytes());
    }
    out.extend_from_slice(entry.path.as_bytes());
    out.push(0);
    out.resize(out.len().next_multiple_of(4), 0);
    out.extend_from_slice(entry.content);
    out.resize(out.len().next_multiple_of(4), 0);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// (name, mode, content) of every entry up to the trailer.
    fn read(archive: &[u8]) -> Vec<(String, u32, Vec<u8>)> {
        let mut found = Vec::new();
        let mut at = 0;
        loop {
            assert_eq!(&archive[at..at + 6], b"070701");
            let field = |n: usize| {
                let digits = std::str::from_utf8(&archive[at + 6 + n * 8..][..8]).unwrap();
                usize::from_str_radix(digits, 16).unwrap()
            };
            let (mode, size, name_size) = (field(1), field(6), field(11));
            let name = std::str::from_utf8(&archive[at + 110..][..name_size - 1]).unwrap();
            let content = (at + 110 + name_size).next_multiple_of(4);
            if name == "TRAILER!!!" {
                return found;
            }
            found.push((
                name.to_owned(),
                u32::try_from(mode).unwrap(),
                archive[content..][..size].to_vec(),
            ));
            at = (content + size).next_multiple_of(4);
        }
    }

    #[test]
    fn reads_back_and_is_reproducible() {
        let folder = tempfile::tempdir().unwrap();
        let binary = folder.path().join("keelson");
        std::fs::write(&binary, b"\x7fELF node binary!!").unwrap();
        let init = Program {
            name: "init".into(),
            file: binary,
        };
        let packed = build(std::slice::from_ref(&init)).unwrap();
        assert_eq!(packed, build(std::slice::from_ref(&init)).unwrap());

        let entries = read(&zstd::bulk::decompress(&packed, 1 << 20).unwrap());
        let init = entries.iter().find(|e| e.0 == "init").unwrap();
        assert_eq!(
            (init.1, init.2.as_slice()),
            (0o100_755, &b"\x7fELF node binary!!"[..])
        );
        let names: Vec<&str> = entries.iter().map(|e| e.0.as_str()).collect();
        assert!(names.is_sorted());
        assert!(names.contains(&MARKER) && names.contains(&"dev/console"));
    }
}
