//! Collects what services print.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::SystemTime;

use rustix::io::Errno;

use crate::log_file::LogWriter;
use crate::log_level::detect;
use crate::ring::{Line, Ring};
use crate::timestamp::rfc3339;

/// Kept of each service until the log files can be written: the storage helper and those that
/// start with it say little.
const BOUND_BEFORE_FILES: usize = 64 * 1024;

/// Kept of each service afterwards, for the last lines before a crash.
const BOUND_WITH_FILES: usize = 8 * 1024;

/// Read at a time. One loud service gets this much before the others have their turn.
const READ_BYTES: usize = 16 * 1024;

/// Longest line; what follows becomes the next line.
const MAX_LINE: usize = 8 * 1024;

/// Lines shown for a service that ended, how long each may be, and all together. The status of
/// twenty services in trouble fits a frame of the control socket, as do ten ends of one.
const SHOWN_LINES: usize = 8;
const SHOWN_LINE: usize = 240;
const SHOWN_BYTES: usize = 1024;

/// All logs.
#[derive(Debug, Default)]
pub(crate) struct Logs {
    rings: BTreeMap<String, Ring>,
    writer: Option<LogWriter>,
}

impl Logs {
    /// Begins to write files: first what was kept, then what comes.
    pub(crate) fn start_files(&mut self, folder: &Path) -> io::Result<()> {
        let mut writer = LogWriter::start(folder)?;
        for (service, ring) in &mut self.rings {
            let text: String = ring.lines().map(Line::render).collect();
            if !text.is_empty() {
                writer.append(service, text.into_bytes());
            }
            ring.set_bound(BOUND_WITH_FILES);
        }
        self.writer = Some(writer);
        Ok(())
    }

    /// Ends writing files.
    pub(crate) fn stop_files(&mut self) {
        if let Some(writer) = self.writer.take() {
            writer.close();
        }
    }

    /// Whether files are written.
    pub(crate) fn has_files(&self) -> bool {
        self.writer.is_some()
    }

    /// Last lines of a service for people, oldest first, bounded, without control characters.
    pub(crate) fn last_lines(&self, service: &str) -> Vec<String> {
        let Some(ring) = self.rings.get(service) else {
            return Vec::new();
        };
        let lines: Vec<String> = ring
            .last(SHOWN_LINES)
            .map(|line| shown(&line.text))
            .collect();
        let mut room = SHOWN_BYTES;
        let mut kept: Vec<String> = lines
            .into_iter()
            .rev()
            .take_while(|line| {
                let fits = line.len() <= room;
                room = room.saturating_sub(line.len());
                fits
            })
            .collect();
        kept.reverse();
        kept
    }

    fn add(&mut self, service: &str, texts: Vec<String>) {
        let time = rfc3339(SystemTime::now());
        let bound = if self.writer.is_some() {
            BOUND_WITH_FILES
        } else {
            BOUND_BEFORE_FILES
        };
        let mut chunk = String::new();
        if !self.rings.contains_key(service) {
            self.rings.insert(service.to_owned(), Ring::new(bound));
        }
        let Some(ring) = self.rings.get_mut(service) else {
            return;
        };
        for text in texts {
            let line = Line {
                time: time.clone(),
                level: detect(&text),
                text,
            };
            if self.writer.is_some() {
                chunk.push_str(&line.render());
            }
            ring.push(line);
        }
        if let Some(writer) = &mut self.writer {
            writer.append(service, chunk.into_bytes());
        }
    }
}

/// The reading end of a service's output.
#[derive(Debug)]
pub(crate) struct LogPipe {
    pub(crate) service: String,
    pipe: OwnedFd,
    partial: Vec<u8>,
}

impl LogPipe {
    /// `pipe` must not block.
    pub(crate) fn new(service: String, pipe: OwnedFd) -> Self {
        Self {
            service,
            pipe,
            partial: Vec::new(),
        }
    }

    /// Reads what is there, once. False when the last writer has gone.
    pub(crate) fn read(&mut self, logs: &mut Logs) -> bool {
        let mut buffer = [0; READ_BYTES];
        match rustix::io::read(&self.pipe, &mut buffer[..]) {
            Ok(0) => {
                self.finish(logs);
                false
            }
            Ok(length) => {
                self.partial.extend_from_slice(&buffer[..length]);
                let lines = take_lines(&mut self.partial);
                if !lines.is_empty() {
                    logs.add(&self.service, lines);
                }
                true
            }
            Err(Errno::AGAIN | Errno::INTR) => true,
            Err(_) => {
                self.finish(logs);
                false
            }
        }
    }

    fn finish(&mut self, logs: &mut Logs) {
        if !self.partial.is_empty() {
            let rest = String::from_utf8_lossy(&self.partial).into_owned();
            self.partial.clear();
            logs.add(&self.service, vec![rest]);
        }
    }
}

impl AsFd for LogPipe {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pipe.as_fd()
    }
}

/// A line cut to what is shown. Control characters drive terminals and, escaped, take six times
/// their room in a frame.
fn shown(text: &str) -> String {
    let mut line = String::new();
    for c in text.chars() {
        let c = if c.is_control() { ' ' } else { c };
        if line.len() + c.len_utf8() > SHOWN_LINE {
            break;
        }
        line.push(c);
    }
    line
}

/// Takes whole lines, and what is too long for one, from the front.
fn take_lines(bytes: &mut Vec<u8>) -> Vec<String> {
    let mut lines = Vec::new();
    let mut rest = &bytes[..];
    loop {
        let line = match rest.iter().position(|byte| *byte == b'\n') {
            Some(end) if end <= MAX_LINE => {
                let line = &rest[..end];
                rest = &rest[end + 1..];
                line
            }
            _ if rest.len() > MAX_LINE => {
                let (line, after) = rest.split_at(MAX_LINE);
                rest = after;
                line
            }
            _ => break,
        };
        let text = String::from_utf8_lossy(line);
        let text = text.trim_end_matches('\r');
        if !text.is_empty() {
            lines.push(text.to_owned());
        }
    }
    let kept = rest.len();
    let consumed = bytes.len() - kept;
    bytes.drain(..consumed);
    lines
}

#[cfg(test)]
mod tests {
    use std::fs;

    use rustix::pipe::{PipeFlags, pipe_with};

    use super::*;

    #[test]
    fn lines_are_cut_at_newlines_and_at_the_bound() {
        let mut bytes = b"one\r\n\ntwo\nthr".to_vec();
        assert_eq!(take_lines(&mut bytes), ["one", "two"]);
        assert_eq!(bytes, b"thr");
        let mut long = vec![b'x'; MAX_LINE * 2 + 5];
        assert_eq!(take_lines(&mut long).len(), 2);
        assert_eq!(long.len(), 5);
    }

    #[test]
    fn what_was_kept_goes_to_the_file_first() {
        let dir = tempfile::tempdir().unwrap();
        let (read, write) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).unwrap();
        let mut logs = Logs::default();
        let mut pipe = LogPipe::new("etcd".to_owned(), read);
        rustix::io::write(&write, b"early\n").unwrap();
        assert!(pipe.read(&mut logs));
        logs.start_files(dir.path()).unwrap();
        rustix::io::write(&write, b"E1121 late\nunfinished").unwrap();
        drop(write);
        assert!(pipe.read(&mut logs));
        assert!(!pipe.read(&mut logs));
        logs.stop_files();
        let text = fs::read_to_string(dir.path().join("etcd.log")).unwrap();
        let lines: Vec<&str> = text.lines().map(|line| &line[25..]).collect();
        assert_eq!(lines, ["I early", "E E1121 late", "I unfinished"]);
        assert_eq!(
            logs.last_lines("etcd"),
            ["early", "E1121 late", "unfinished"]
        );
    }

    #[test]
    fn what_is_shown_is_bounded_and_the_newest() {
        let mut logs = Logs::default();
        let long = "\u{1b}[31m\u{1f980}\u{0}".repeat(200);
        for number in 0..20 {
            logs.add("etcd", vec![format!("{number} {long}")]);
        }
        let lines = logs.last_lines("etcd");
        assert!(lines.iter().all(|line| line.len() <= SHOWN_LINE));
        assert!(lines.iter().map(String::len).sum::<usize>() <= SHOWN_BYTES);
        assert!(!lines.concat().contains(char::is_control));
        assert!(lines.last().unwrap().starts_with("19 "), "{lines:?}");
        assert_eq!(lines.len(), SHOWN_BYTES / SHOWN_LINE);
    }

    proptest::proptest! {
        #[test]
        fn no_byte_stays_beyond_the_bound(bytes: Vec<u8>) {
            let mut bytes = bytes;
            take_lines(&mut bytes);
            proptest::prop_assert!(bytes.len() <= MAX_LINE && !bytes.contains(&b'\n'));
        }
    }
}
