//! Walks what a sparse file really holds, without reading its holes.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use rustix::fs::{SeekFrom, seek};
use rustix::io::Errno;

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
}
