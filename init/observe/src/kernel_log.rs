//! The kernel's log, from /dev/kmsg.
//!
//! One read gives one record; when records were overwritten before they were read, the kernel says
//! so once (EPIPE) and goes on with the oldest it has.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::time::Duration;

use keelson_api::v1alpha1::LogLine;
use keelson_sys::readable::Readable;
use rustix::fs::OFlags;
use rustix::io::Errno;
use thiserror::Error;

use crate::root::Root;
use crate::text::printable;
use crate::timestamp::{rfc3339, wall_time};

/// Where the log is.
const DEVICE: &str = "/dev/kmsg";

/// Longest record any kernel gives out (CONSOLE_EXT_LOG_MAX; newer ones have shorter ones). With
/// less room it answers EINVAL.
const RECORD: usize = 8192;

/// What is wrong with the kernel's log.
#[derive(Debug, Error)]
pub enum KernelLogError {
    /// It cannot be opened: CAP_SYSLOG is needed.
    #[error("cannot open {DEVICE}")]
    Open(#[source] io::Error),
    /// It cannot be read any more.
    #[error("cannot read {DEVICE}")]
    Read(#[source] io::Error),
    /// It cannot be waited for.
    #[error("cannot wait for lines of {DEVICE}")]
    Wait(#[source] io::Error),
}

/// A reader of the log; never blocks.
#[derive(Debug)]
pub struct KernelLog<S = File> {
    source: S,
    /// Lines of a record that had several.
    waiting: VecDeque<LogLine>,
    /// Lines still to be passed over.
    skip: u64,
}

impl KernelLog {
    /// Opens the log; with a `tail` other than 0 only the last so many of the present lines come.
    ///
    /// # Errors
    /// It cannot be opened or read.
    pub fn open(root: &Root, tail: u32) -> Result<Self, KernelLogError> {
        let source = OpenOptions::new()
            .read(true)
            .custom_flags(OFlags::NONBLOCK.bits().cast_signed())
            .open(root.path(DEVICE))
            .map_err(KernelLogError::Open)?;
        Self::new(source, tail)
    }
}

impl<S: Read + Seek> KernelLog<S> {
    fn new(source: S, tail: u32) -> Result<Self, KernelLogError> {
        let mut log = Self {
            source,
            waiting: VecDeque::new(),
            skip: 0,
        };
        if tail > 0 {
            // Counting first takes no memory, whatever number a client asks for.
            let mut present: u64 = 0;
            while log.next_line()?.is_some() {
                present += 1;
            }
            log.source
                .seek(SeekFrom::Start(0))
                .map_err(KernelLogError::Read)?;
            log.skip = present.saturating_sub(u64::from(tail));
        }
        Ok(log)
    }

    /// The next line; `None` when there is none yet.
    ///
    /// # Errors
    /// The log cannot be read.
    pub fn next_line(&mut self) -> Result<Option<LogLine>, KernelLogError> {
        loop {
            while let Some(line) = self.waiting.pop_front() {
                match self.skip.checked_sub(1) {
                    Some(left) => self.skip = left,
                    None => return Ok(Some(line)),
                }
            }
            let mut buffer = [0; RECORD];
            match self.source.read(&mut buffer) {
                Ok(0) => return Ok(None),
                Ok(length) => {
                    let record = buffer.get(..length).and_then(Record::parse);
                    self.waiting.extend(record.iter().flat_map(Record::lines));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                // Some were overwritten, or a signal came; the next read goes on.
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.raw_os_error() == Some(Errno::PIPE.raw_os_error()) => {}
                Err(error) => return Err(KernelLogError::Read(error)),
            }
        }
    }
}

/// Waits for lines.
#[derive(Debug)]
pub struct KernelLogFollower {
    log: KernelLog,
    /// The same open file: what the runtime waits for must be its own.
    news: Readable,
}

impl KernelLogFollower {
    /// Must be called inside a tokio runtime.
    ///
    /// # Errors
    /// The runtime cannot wait for the log.
    pub fn new(log: KernelLog) -> Result<Self, KernelLogError> {
        let descriptor = log.source.try_clone().map(Into::into);
        let news = descriptor.and_then(Readable::new);
        let news = news.map_err(KernelLogError::Wait)?;
        Ok(Self { log, news })
    }

    /// The next line, as soon as there is one. Safe to use in `select!`.
    ///
    /// # Errors
    /// The log cannot be read or waited for.
    pub async fn next_line(&mut self) -> Result<LogLine, KernelLogError> {
        if let Some(line) = self.log.next_line()? {
            return Ok(line);
        }
        let log = &mut self.log;
        let news = self.news.read(|_| match log.next_line().transpose() {
            Some(line) => Ok(line),
            None => Err(io::ErrorKind::WouldBlock.into()),
        });
        news.await.map_err(KernelLogError::Wait)?
    }
}

/// `priority,sequence,microseconds,flags[,…];text`, then lines ` KEY=value` about the device.
#[derive(Debug, PartialEq, Eq)]
struct Record {
    severity: u8,
    at: Duration,
    text: Vec<u8>,
}

impl Record {
    fn parse(bytes: &[u8]) -> Option<Self> {
        let end = bytes.iter().position(|byte| *byte == b';')?;
        let (prefix, message) = bytes.split_at(end);
        let mut fields = std::str::from_utf8(prefix).ok()?.split(',');
        let priority: u32 = fields.next()?.parse().ok()?;
        let at = Duration::from_micros(fields.nth(1)?.parse().ok()?);
        let message = message.get(1..)?;
        let text = message.split(|byte| *byte == b'\n').next()?;
        Some(Self {
            // The upper bits say who wrote it.
            severity: u8::try_from(priority & 7).ok()?,
            at,
            text: unescape(text),
        })
    }

    /// A message of several lines is several lines of the log.
    fn lines(&self) -> Vec<LogLine> {
        let time = rfc3339(wall_time(self.at));
        self.text
            .split(|byte| *byte == b'\n')
            .filter(|line| !line.is_empty())
            .map(|line| LogLine {
                service: "kernel".to_owned(),
                time: time.clone(),
                level: level(self.severity).to_owned(),
                text: printable(line),
            })
            .collect()
    }
}

/// syslog(3) has eight.
fn level(severity: u8) -> &'static str {
    match severity {
        0..=3 => "error",
        4 => "warn",
        5 | 6 => "info",
        _ => "debug",
    }
}

/// The kernel writes what is not printable ASCII as `\x` and two digits.
fn unescape(text: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&first, after)) = rest.split_first() {
        if let Some(byte) = after
            .strip_prefix(b"x")
            .filter(|_| first == b'\\')
            .and_then(|digits| hexadecimal(digits.get(..2)?))
        {
            bytes.push(byte);
            rest = after.get(3..).unwrap_or_default();
        } else {
            bytes.push(first);
            rest = after;
        }
    }
    bytes
}

fn hexadecimal(digits: &[u8]) -> Option<u8> {
    // A sign would be taken for part of a number.
    if !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

#[cfg(test)]
mod tests;
