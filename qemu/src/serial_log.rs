//! Follows the file to which QEMU writes what the guest sends to its serial port.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::fs::inotify::{self, CreateFlags, WatchFlags};

use crate::vm::wait_readable;

/// Between two looks at whether QEMU has ended; new lines wake the reader at once.
const STEP: Duration = Duration::from_millis(200);

/// A growing file.
#[derive(Debug)]
pub(crate) struct SerialLog {
    file: File,
    changes: OwnedFd,
}

impl SerialLog {
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let changes = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        inotify::add_watch(&changes, path, WatchFlags::MODIFY)?;
        Ok(Self {
            file: File::open(path)?,
            changes,
        })
    }

    /// Hands over everything that is written until QEMU has ended.
    pub(crate) fn follow(mut self, ended: &AtomicBool, mut take: impl FnMut(&[u8])) {
        let mut buffer = [0; 4096];
        loop {
            // Looked at before the last read, so that nothing is missed.
            let last = ended.load(Ordering::Acquire);
            while let Ok(length @ 1..) = self.file.read(&mut buffer) {
                take(&buffer[..length]);
            }
            if last {
                return;
            }
            if wait_readable(self.changes.as_fd(), STEP).is_ok() {
                // What changed is known: there is one file.
                let _ = rustix::io::read(&self.changes, &mut buffer);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::{Arc, mpsc};
    use std::thread;

    use super::*;

    #[test]
    fn everything_arrives_and_the_end_ends_it() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(b"one ").unwrap();
        let log = SerialLog::open(file.path()).unwrap();
        let ended = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&ended);
        let (sender, received) = mpsc::channel();
        let reader = thread::spawn(move || {
            log.follow(&seen, |bytes| sender.send(bytes.to_vec()).unwrap());
        });
        assert_eq!(received.recv().unwrap(), b"one ");
        file.write_all(b"two").unwrap();
        assert_eq!(received.recv().unwrap(), b"two");
        ended.store(true, Ordering::Release);
        reader.join().unwrap();
        assert!(received.recv().is_err());
    }
}
