//! A part of a file that reads and writes like a file of its own.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;

/// Bytes `start..start + len` of a file, with a position of its own.
#[derive(Debug)]
pub(crate) struct Window<'a> {
    file: &'a File,
    start: u64,
    len: u64,
    position: u64,
}

impl<'a> Window<'a> {
    pub(crate) fn new(file: &'a File, start: u64, len: u64) -> Self {
        Self {
            file,
            start,
            len,
            position: 0,
        }
    }

    /// How much of `wanted` bytes fits before the end.
    fn room(&self, wanted: usize) -> usize {
        usize::try_from(self.len.saturating_sub(self.position))
            .map_or(wanted, |left| left.min(wanted))
    }

    fn advance(&mut self, n: usize) {
        self.position = self
            .position
            .saturating_add(u64::try_from(n).unwrap_or(u64::MAX));
    }
}

impl Read for Window<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let room = self.room(buf.len());
        let n = self
            .file
            .read_at(buf.split_at_mut(room).0, self.start + self.position)?;
        self.advance(n);
        Ok(n)
    }
}

impl Write for Window<'_> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let room = self.room(buf.len());
        let n = self
            .file
            .write_at(buf.split_at(room).0, self.start + self.position)?;
        self.advance(n);
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Seek for Window<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let target = match to {
            SeekFrom::Start(n) => Some(n),
            SeekFrom::Current(n) => self.position.checked_add_signed(n),
            SeekFrom::End(n) => self.len.checked_add_signed(n),
        };
        self.position = target.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.position)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stays_inside() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"0123456789").unwrap();
        let mut window = Window::new(&file, 2, 4);
        assert_eq!(window.write(b"abcdef").unwrap(), 4);
        assert_eq!(window.write(b"x").unwrap(), 0);
        assert_eq!(window.seek(SeekFrom::End(-3)).unwrap(), 1);
        let mut rest = String::new();
        window.read_to_string(&mut rest).unwrap();
        assert_eq!(rest, "bcd");
        assert!(window.seek(SeekFrom::Current(-9)).is_err());
        file.seek(SeekFrom::Start(0)).unwrap();
        let mut all = String::new();
        file.read_to_string(&mut all).unwrap();
        assert_eq!(all, "01abcd6789");
    }
}
