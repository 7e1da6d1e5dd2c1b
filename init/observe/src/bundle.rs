//! Writes the support archive: tar, compressed with zstd, entry by entry as it is made.
//!
//! Every entry is text and goes through [`scrub`]. An entry is held in memory while it is added, at
//! most [`MAX_ENTRY_BYTES`] of it, because its size stands before its content.

mod gather;

use std::error::Error;
use std::io::{self, Read, Write};
use std::path::{Component, Path};
use std::time::{SystemTime, UNIX_EPOCH};

use keelson_control::chain;
use thiserror::Error;

use self::gather::{Gathered, gather};
use crate::files::ReadableFile;
use crate::scrub::scrub;

/// Longest entry: the size at which PID 1 puts a log file aside.
pub const MAX_ENTRY_BYTES: usize = 1024 * 1024;

/// zstd's own default: better ones cost a small node many seconds.
const LEVEL: i32 = 3;

/// Window of 512 KiB: the level's own of 2 MiB would be a sixth of what all our daemons may use.
const WINDOW_LOG: u32 = 19;

/// The archive cannot be written.
#[derive(Debug, Error)]
pub enum BundleError {
    /// Not a name that every tar can unpack in its place.
    #[error("{name:?} is no name for an entry: it must be relative and have no ..")]
    Name {
        /// As given.
        name: String,
    },
    /// Compressor or receiver failed.
    #[error("cannot write the archive")]
    Write(#[source] io::Error),
}

/// Which part of a long content is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// Its first lines.
    Beginning,
    /// Its last lines: logs.
    End,
}

/// What became of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Added {
    /// Bytes in the archive, before compression.
    pub bytes: usize,
    /// Secrets that were taken out.
    pub removed: usize,
    /// Whether all of it is there.
    pub complete: bool,
}

/// An archive that is being written.
pub struct Bundle<W: Write> {
    archive: tar::Builder<zstd::Encoder<'static, W>>,
    folder: String,
    modified: u64,
}

impl<W: Write> Bundle<W> {
    /// Begins an archive whose entries lie in one folder.
    ///
    /// # Errors
    /// The name of the folder is none, or the compressor cannot be made.
    pub fn new(out: W, folder: &str, time: SystemTime) -> Result<Self, BundleError> {
        check(folder)?;
        let encoder = || {
            let mut encoder = zstd::Encoder::new(out, LEVEL)?;
            encoder.window_log(WINDOW_LOG)?;
            // A damaged upload must not be taken for the truth.
            encoder.include_checksum(true)?;
            Ok(encoder)
        };
        Ok(Self {
            archive: tar::Builder::new(encoder().map_err(BundleError::Write)?),
            folder: folder.to_owned(),
            modified: time
                .duration_since(UNIX_EPOCH)
                .map_or(0, |since| since.as_secs()),
        })
    }

    /// Adds what a reader gives. When it fails, what came before is there, and why it is not more.
    ///
    /// # Errors
    /// The name is none, or the archive cannot be written.
    pub fn add(
        &mut self,
        name: &str,
        keep: Keep,
        content: impl Read,
    ) -> Result<Added, BundleError> {
        self.add_gathered(name, gather(content, keep, MAX_ENTRY_BYTES, 0))
    }

    /// Adds a file of the node. Of a long one only the part that is kept is read.
    ///
    /// # Errors
    /// As for [`Self::add`].
    pub fn add_file(
        &mut self,
        name: &str,
        keep: Keep,
        mut file: ReadableFile,
    ) -> Result<Added, BundleError> {
        let skipped = match keep {
            Keep::Beginning => Ok(0),
            Keep::End => file.skip_to_last(u64::try_from(MAX_ENTRY_BYTES).unwrap_or(u64::MAX)),
        };
        match skipped {
            Ok(skipped) => self.add_gathered(name, gather(file, keep, MAX_ENTRY_BYTES, skipped)),
            Err(error) => self.add_failure(name, &error),
        }
    }

    /// Adds a text.
    ///
    /// # Errors
    /// As for [`Self::add`].
    pub fn add_text(&mut self, name: &str, text: &str) -> Result<Added, BundleError> {
        self.add(name, Keep::Beginning, text.as_bytes())
    }

    /// Adds, under the name with `.error` behind it, why something is not there.
    ///
    /// # Errors
    /// As for [`Self::add`].
    pub fn add_failure(&mut self, name: &str, error: &dyn Error) -> Result<Added, BundleError> {
        self.add_text(&format!("{name}.error"), &(chain(error) + "\n"))
    }

    /// Ends the archive and gives back where it was written to.
    ///
    /// # Errors
    /// The archive cannot be written.
    pub fn finish(self) -> Result<W, BundleError> {
        let encoder = self.archive.into_inner().map_err(BundleError::Write)?;
        encoder.finish().map_err(BundleError::Write)
    }

    fn add_gathered(&mut self, name: &str, part: Gathered) -> Result<Added, BundleError> {
        check(name)?;
        let scrubbed = scrub(&String::from_utf8_lossy(&part.bytes));
        let text = part.before + &scrubbed.text + &part.after;
        self.append(name, text.as_bytes())
            .map_err(BundleError::Write)?;
        Ok(Added {
            bytes: text.len(),
            removed: scrubbed.removed,
            complete: part.complete,
        })
    }

    fn append(&mut self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let mut header = tar::Header::new_gnu();
        header.set_size(u64::try_from(bytes.len()).map_err(io::Error::other)?);
        header.set_mode(0o644);
        header.set_mtime(self.modified);
        let path = format!("{}/{name}", self.folder);
        self.archive.append_data(&mut header, path, bytes)
    }
}

fn check(name: &str) -> Result<(), BundleError> {
    let plain = |component| matches!(component, Component::Normal(_));
    if name.is_empty() || !Path::new(name).components().all(plain) {
        return Err(BundleError::Name {
            name: name.to_owned(),
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests;
