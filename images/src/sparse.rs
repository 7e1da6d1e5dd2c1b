//! Sparse files: walks what they really hold, without reading their holes, and copies them.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use rustix::fs::{SeekFrom, seek};
use rustix::io::Errno;

/// Large enough that a copy is quick, small enough that what is empty stays a hole.
const COPY_BLOCK: usize = 64 * 1024;

/// Copies a file; holes and blocks of zeros become holes. `to` is created or replaced, and on disk
/// when this returns.
pub fn copy(from: &Path, to: &Path) -> io::Result<()> {
    let (source, target) = (File::open(from)?, File::create(to)?);
    let block_size = u64::try_from(COPY_BLOCK).map_err(io::Error::other)?;
    let size = source.metadata()?.len();
    target.set_len(size)?;
    for_each_block(&source, COPY_BLOCK, |index, bytes| {
        let at = index * block_size;
        let len = usize::try_from(size - at).map_or(COPY_BLOCK, |left| left.min(COPY_BLOCK));
        target.write_all_at(bytes.split_at(len).0, at)
    })?;
    target.sync_all()
}

/// Calls `visit` with number and bytes of every block that is not all zero, in order. The last
/// block of a file is padded with zeros.
pub(crate) fn for_each_block(
    file: &File,
    block_size: usize,
    mut visit: impl FnMut(u64, &[u8]) -> io::Result<()>,
) -> io::Result<()> {
    let zeros = vec![0; block_size];
    let mut block = zeros.clone();
    let size = u64::try_from(block_size).map_err(io::Error::other)?;
    let mut index = 0;
    while let Some(data) = next(file, SeekFrom::Data(index * size))? {
        let hole = next(file, SeekFrom::Hole(data))?.unwrap_or(u64::MAX);
        index = index.max(data / size);
        while index * size < hole {
            read_padded(file, index * size, &mut block)?;
            if block != zeros {
                visit(index, &block)?;
            }
            index += 1;
        }
    }
    Ok(())
}

/// The next byte of that kind; `None` when only a hole is left.
fn next(file: &File, to: SeekFrom) -> io::Result<Option<u64>> {
    match seek(file, to) {
        Ok(offset) => Ok(Some(offset)),
        Err(Errno::NXIO) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn read_padded(file: &File, offset: u64, block: &mut [u8]) -> io::Result<()> {
    let mut filled = 0;
    while filled < block.len() {
        let at = offset + u64::try_from(filled).map_err(io::Error::other)?;
        match file.read_at(block.split_at_mut(filled).1, at)? {
            0 => break,
            n => filled += n,
        }
    }
    block.split_at_mut(filled).1.fill(0);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_data_between_holes_and_at_an_odd_end() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(9 * 1024 * 1024 + 5).unwrap();
        for at in [0, 4_500_000, 9 * 1024 * 1024 + 4] {
            file.write_all_at(b"x", at).unwrap();
        }
        let mut found = Vec::new();
        for_each_block(&file, 65536, |index, bytes| {
            found.push((index, bytes.iter().position(|b| *b == b'x').unwrap()));
            Ok(())
        })
        .unwrap();
        assert_eq!(found, [(0, 0), (68, 4_500_000 - 68 * 65536), (144, 4)]);
        let empty = tempfile::tempfile().unwrap();
        for_each_block(&empty, 512, |_, _| panic!("nothing to visit")).unwrap();
    }

    #[test]
    fn a_copy_is_equal_and_sparse() {
        use std::os::unix::fs::MetadataExt;
        let folder = tempfile::tempdir().unwrap();
        let (from, to) = (folder.path().join("a"), folder.path().join("b"));
        let mut bytes = vec![0; 5 * 1024 * 1024 + 3];
        bytes[70_000] = 1;
        bytes[5 * 1024 * 1024 + 2] = 2;
        std::fs::write(&from, &bytes).unwrap();
        std::fs::write(&to, b"something else").unwrap();
        copy(&from, &to).unwrap();
        assert!(std::fs::read(&to).unwrap() == bytes);
        assert!(std::fs::metadata(&to).unwrap().blocks() * 512 < 1024 * 1024);
    }
}
