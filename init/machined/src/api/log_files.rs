//! Reads the log files PID 1 writes: `<service>.log` and, before it, `<service>.log.1`.
//!
//! A line is `2026-11-21T10:00:00.000Z I text`. Files are read as a stream from the place where
//! the wanted lines begin, so memory does not depend on their size.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use keelson_api::v1alpha1::LogLine;

/// Read at a time when looking for the last lines, and kept per open file.
const BLOCK: u64 = 16 * 1024;

/// Longest line taken as one. PID 1 cuts at 8 KiB.
const MAX_LINE: u64 = 16 * 1024;

/// Length of the time in front of a line, and of what is in front of its text.
const TIME_LENGTH: usize = 24;
const TEXT_START: usize = TIME_LENGTH + 3;

/// The lines of one service, oldest first.
#[derive(Debug)]
pub(crate) struct LogCursor {
    service: String,
    path: PathBuf,
    /// Read before the present file.
    earlier: Option<BufReader<File>>,
    present: Option<BufReader<File>>,
    /// Begin of a line whose end has not been written yet.
    partial: Vec<u8>,
    /// Looked at but not taken.
    next: Option<LogLine>,
    /// Lines before it are skipped.
    since: String,
}

impl LogCursor {
    /// Opens the files at the first line wanted: `tail` lines before the end (0 = from the
    /// beginning), none before `since` (a time as in the files).
    pub(crate) fn open(folder: &Path, service: &str, tail: usize, since: &str) -> io::Result<Self> {
        let path = folder.join(format!("{service}.log"));
        let mut present = open(&path)?;
        let mut earlier = open(&path.with_extension("log.1"))?;
        if tail > 0 {
            let missing = match &mut present {
                Some(file) => seek_to_last_lines(file, tail)?,
                None => tail,
            };
            match &mut earlier {
                Some(file) if missing > 0 => {
                    seek_to_last_lines(file, missing)?;
                }
                _ => earlier = None,
            }
        }
        Ok(Self {
            service: service.to_owned(),
            path,
            earlier: earlier.map(buffered),
            present: present.map(buffered),
            partial: Vec::new(),
            next: None,
            since: since.to_owned(),
        })
    }

    /// The next line without taking it; `None` when no more are there now.
    pub(crate) fn peek(&mut self) -> io::Result<Option<&LogLine>> {
        while self.next.is_none() {
            match self.read_line()? {
                None => return Ok(None),
                Some(line) if line.time < self.since => {}
                Some(line) => self.next = Some(line),
            }
        }
        Ok(self.next.as_ref())
    }

    /// Takes the next line.
    pub(crate) fn take(&mut self) -> io::Result<Option<LogLine>> {
        self.peek()?;
        Ok(self.next.take())
    }

    fn read_line(&mut self) -> io::Result<Option<LogLine>> {
        if let Some(earlier) = &mut self.earlier {
            if fill(earlier, &mut self.partial)? {
                return Ok(Some(self.finish_line()));
            }
            // A file put aside gets nothing more.
            self.earlier = None;
            self.partial.clear();
        }
        loop {
            let Some(present) = &mut self.present else {
                self.present = open(&self.path)?.map(buffered);
                if self.present.is_none() {
                    return Ok(None);
                }
                continue;
            };
            if fill(present, &mut self.partial)? {
                return Ok(Some(self.finish_line()));
            }
            if !put_aside(present.get_ref(), &self.path)? {
                return Ok(None);
            }
            // What came between the last look and the renaming.
            if fill(present, &mut self.partial)? {
                return Ok(Some(self.finish_line()));
            }
            self.present = None;
            self.partial.clear();
        }
    }

    fn finish_line(&mut self) -> LogLine {
        let line = parse(&self.service, &String::from_utf8_lossy(&self.partial));
        self.partial.clear();
        line
    }
}

/// The text of the last lines of a service, for showing with it.
pub(crate) fn last_lines(folder: &Path, service: &str, count: usize) -> Vec<String> {
    let mut lines = Vec::new();
    let Ok(mut cursor) = LogCursor::open(folder, service, count, "") else {
        return lines;
    };
    while let Ok(Some(line)) = cursor.take() {
        lines.push(line.text);
        if lines.len() > count {
            // Lines came while we read.
            lines.remove(0);
        }
    }
    lines
}

fn open(path: &Path) -> io::Result<Option<File>> {
    match File::open(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn buffered(file: File) -> BufReader<File> {
    // 16 KiB fits on every machine.
    BufReader::with_capacity(usize::try_from(BLOCK).unwrap_or(8192), file)
}

/// Reads up to a newline or the bound; false when the line is not complete yet.
fn fill(reader: &mut BufReader<File>, partial: &mut Vec<u8>) -> io::Result<bool> {
    let have = u64::try_from(partial.len()).unwrap_or(u64::MAX);
    let room = MAX_LINE.saturating_sub(have);
    reader.take(room).read_until(b'\n', partial)?;
    let length = u64::try_from(partial.len()).unwrap_or(u64::MAX);
    Ok(partial.ends_with(b"\n") || length >= MAX_LINE)
}

/// Whether another file has taken this one's name.
fn put_aside(file: &File, path: &Path) -> io::Result<bool> {
    let own = file.metadata()?;
    match std::fs::metadata(path) {
        Ok(present) => Ok((present.dev(), present.ino()) != (own.dev(), own.ino())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Places the file before its last `count` lines; returns how many of them it does not have.
fn seek_to_last_lines(file: &mut File, count: usize) -> io::Result<usize> {
    let mut end = file.seek(SeekFrom::End(0))?;
    // The newline at the very end closes the last line.
    let mut newlines_wanted = count + 1;
    let mut first = true;
    while end > 0 {
        let start = end.saturating_sub(BLOCK);
        file.seek(SeekFrom::Start(start))?;
        let mut block = Vec::new();
        file.by_ref().take(end - start).read_to_end(&mut block)?;
        if first && !block.ends_with(b"\n") {
            newlines_wanted -= 1;
        }
        first = false;
        for (index, byte) in block.iter().enumerate().rev() {
            if *byte != b'\n' {
                continue;
            }
            newlines_wanted -= 1;
            if newlines_wanted == 0 {
                let offset = u64::try_from(index + 1).unwrap_or(0);
                file.seek(SeekFrom::Start(start + offset))?;
                return Ok(0);
            }
        }
        end = start;
    }
    file.seek(SeekFrom::Start(0))?;
    Ok(newlines_wanted.saturating_sub(1))
}

fn parse(service: &str, line: &str) -> LogLine {
    let line = line.trim_end_matches('\n');
    let made = |time: &str, level: &str, text: &str| LogLine {
        service: service.to_owned(),
        time: time.to_owned(),
        level: level.to_owned(),
        text: text.to_owned(),
    };
    let stamped =
        line.is_char_boundary(TIME_LENGTH) && line.get(TIME_LENGTH - 1..TIME_LENGTH) == Some("Z");
    let level = line
        .get(TIME_LENGTH + 1..TIME_LENGTH + 2)
        .and_then(level_word);
    match (
        stamped,
        level,
        line.get(..TIME_LENGTH),
        line.get(TEXT_START..),
    ) {
        (true, Some(level), Some(time), Some(text)) => made(time, level, text),
        // PID 1's own note on lost lines has no time.
        _ => made("", "info", line),
    }
}

fn level_word(letter: &str) -> Option<&'static str> {
    match letter {
        "D" => Some("debug"),
        "E" => Some("error"),
        "I" => Some("info"),
        "W" => Some("warn"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write;

    use super::*;

    fn stamped(second: usize, text: &str) -> String {
        format!("2026-11-21T10:00:{second:02}.000Z W {text}\n")
    }

    fn texts(cursor: &mut LogCursor) -> Vec<String> {
        std::iter::from_fn(|| cursor.take().unwrap().map(|line| line.text)).collect()
    }

    #[test]
    fn the_last_lines_reach_into_the_file_before() {
        let folder = tempfile::tempdir().unwrap();
        let old: String = (0..3).map(|n| stamped(n, &format!("old {n}"))).collect();
        let new: String = (3..5).map(|n| stamped(n, &format!("new {n}"))).collect();
        fs::write(folder.path().join("etcd.log.1"), old).unwrap();
        fs::write(folder.path().join("etcd.log"), new).unwrap();
        let read =
            |tail, since| texts(&mut LogCursor::open(folder.path(), "etcd", tail, since).unwrap());
        assert_eq!(read(0, ""), ["old 0", "old 1", "old 2", "new 3", "new 4"]);
        assert_eq!(read(1, ""), ["new 4"]);
        assert_eq!(read(2, ""), ["new 3", "new 4"]);
        assert_eq!(read(3, ""), ["old 2", "new 3", "new 4"]);
        assert_eq!(read(9, "").len(), 5);
        assert_eq!(read(0, "2026-11-21T10:00:03.000Z"), ["new 3", "new 4"]);
        assert_eq!(last_lines(folder.path(), "etcd", 2), ["new 3", "new 4"]);
        assert!(last_lines(folder.path(), "absent", 2).is_empty());
    }

    #[test]
    fn a_follower_sees_half_lines_whole_and_survives_rotation() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("netd.log");
        let mut file = File::create(&path).unwrap();
        let mut cursor = LogCursor::open(folder.path(), "netd", 0, "").unwrap();
        assert!(cursor.peek().unwrap().is_none());
        let line = stamped(1, "one");
        file.write_all(&line.as_bytes()[..30]).unwrap();
        assert!(cursor.peek().unwrap().is_none());
        file.write_all(&line.as_bytes()[30..]).unwrap();
        assert_eq!(texts(&mut cursor), ["one"]);
        file.write_all(stamped(2, "two").as_bytes()).unwrap();
        fs::rename(&path, path.with_extension("log.1")).unwrap();
        fs::write(&path, stamped(3, "three")).unwrap();
        assert_eq!(texts(&mut cursor), ["two", "three"]);
    }

    #[test]
    fn long_files_are_searched_block_by_block() {
        let folder = tempfile::tempdir().unwrap();
        let text: String = (0..5000)
            .map(|n| stamped(n % 60, &format!("line {n}")))
            .collect();
        fs::write(folder.path().join("x.log"), text).unwrap();
        let mut cursor = LogCursor::open(folder.path(), "x", 2500, "").unwrap();
        let lines = texts(&mut cursor);
        assert_eq!(lines.len(), 2500);
        assert_eq!(lines[0], "line 2500");
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_lines(bytes: Vec<u8>, tail in 0_usize..5) {
            let folder = tempfile::tempdir().unwrap();
            fs::write(folder.path().join("x.log"), bytes).unwrap();
            let mut cursor = LogCursor::open(folder.path(), "x", tail, "").unwrap();
            texts(&mut cursor);
        }
    }
}
