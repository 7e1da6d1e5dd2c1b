//! Locks between builds: two of them may not make or remove the same entry at once.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::process;
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use thiserror::Error;

use crate::Progress;

/// How often a taken lock is tried again: short for a person, long for the machine.
const RETRY: Duration = Duration::from_millis(200);

/// Who holds the lock may be building; that takes as long as it takes, but not for ever.
pub(crate) const DEADLINE: Duration = Duration::from_secs(3 * 60 * 60);

/// Whether others may hold the lock at the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    Shared,
    Exclusive,
}

/// A lock that could not be taken.
#[derive(Debug, Error)]
pub enum LockError {
    /// The lock file cannot be used.
    #[error("cannot use the lock file {path}")]
    File {
        /// The lock file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Somebody else held it for too long.
    #[error(
        "gave up waiting for {what} after {} s: {holder} holds {path}; end that process or wait for it",
        waited.as_secs()
    )]
    Held {
        /// What the lock protects.
        what: String,
        /// Who holds it.
        holder: String,
        /// The lock file.
        path: PathBuf,
        /// How long we waited.
        waited: Duration,
    },
}

/// A lock; letting it go out of scope frees it, and so does the process's end.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: File,
}

impl Lock {
    /// Takes the lock `path`, which protects `what`; waits for the holder, but not past `deadline`.
    pub(crate) fn take(
        path: &Path,
        what: &str,
        mode: Mode,
        deadline: Duration,
        progress: Progress<'_>,
    ) -> Result<Self, LockError> {
        let file_error = |source| LockError::File {
            path: path.to_owned(),
            source,
        };
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .map_err(file_error)?;
        let operation = match mode {
            Mode::Shared => FlockOperation::NonBlockingLockShared,
            Mode::Exclusive => FlockOperation::NonBlockingLockExclusive,
        };
        let start = Instant::now();
        let mut told = false;
        loop {
            match flock(&file, operation) {
                Ok(()) => break,
                Err(rustix::io::Errno::WOULDBLOCK | rustix::io::Errno::INTR) => {}
                Err(error) => return Err(file_error(error.into())),
            }
            let holder = holder(&mut file);
            if start.elapsed() >= deadline {
                return Err(LockError::Held {
                    what: what.to_owned(),
                    holder,
                    path: path.to_owned(),
                    waited: start.elapsed(),
                });
            }
            if !told {
                progress(&format!("waiting for {holder}, which works on {what}"));
                told = true;
            }
            thread::sleep(RETRY);
        }
        sign(&mut file).map_err(file_error)?;
        Ok(Self { _file: file })
    }
}

/// Leaves our name in the lock file, for those who have to wait.
fn sign(file: &mut File) -> io::Result<()> {
    let program = std::env::args().next().unwrap_or_default();
    file.seek(SeekFrom::Start(0))?;
    file.set_len(0)?;
    write!(file, "process {} ({program})", process::id())
}

fn holder(file: &mut File) -> String {
    let mut name = String::new();
    let read = file
        .seek(SeekFrom::Start(0))
        .and_then(|_| file.read_to_string(&mut name));
    match read {
        Ok(length) if length > 0 => name,
        _ => String::from("another process"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;

    const SHORT: Duration = Duration::from_millis(50);

    #[test]
    fn a_held_lock_says_who_holds_it_and_gives_up() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        let take = |mode, said: &RefCell<Vec<String>>| {
            let progress = |line: &str| said.borrow_mut().push(line.to_owned());
            Lock::take(&path, "the kernel", mode, SHORT, &progress)
        };
        let said = RefCell::new(Vec::new());
        let first = take(Mode::Exclusive, &said).unwrap();
        assert!(said.borrow().is_empty());
        let error = take(Mode::Exclusive, &said).unwrap_err();
        let us = format!("process {}", process::id());
        assert!(error.to_string().contains(&us), "{error}");
        assert!(said.borrow()[0].contains(&us));
        drop(first);
        take(Mode::Exclusive, &said).unwrap();
    }

    #[test]
    fn shared_locks_go_together_but_not_with_an_exclusive_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        let take = |mode| Lock::take(&path, "it", mode, SHORT, &|_| ());
        let _one = take(Mode::Shared).unwrap();
        let _two = take(Mode::Shared).unwrap();
        assert!(matches!(take(Mode::Exclusive), Err(LockError::Held { .. })));
    }
}
