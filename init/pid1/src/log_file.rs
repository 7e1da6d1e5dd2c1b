//! Writes log files, in a thread of its own.
//!
//! Writing to a disk can take any time. The event loop hands lines over through a bounded
//! channel and drops them when it is full; nothing in PID 1 waits for the disk.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

/// Chunks that may wait for the disk, and their bytes together. A chunk is what one read of a
/// pipe gave with a time and a level before each line, which makes short lines much longer.
const QUEUE: usize = 64;
const QUEUE_BYTES: usize = 512 * 1024;

/// Size at which a file is put aside. With two files for each of twenty services the logs stay
/// below 40 MiB even on the smallest disk.
const MAX_BYTES: u64 = 1024 * 1024;

/// Longest wait for the last lines at shutdown.
const CLOSE_DEADLINE: Duration = Duration::from_secs(2);

enum Order {
    /// Append bytes to the file of a service.
    Append(String, Vec<u8>),
    /// Close all files, then answer.
    Close(SyncSender<()>),
}

/// The event loop's end of the writer.
#[derive(Debug)]
pub(crate) struct LogWriter {
    orders: SyncSender<Order>,
    /// Bytes handed over and not written yet.
    waiting: Arc<AtomicUsize>,
    /// Chunks lost since the last one that was taken.
    dropped: u64,
}

impl LogWriter {
    /// Makes the folder and starts the thread.
    pub(crate) fn start(folder: &Path) -> io::Result<Self> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o755)
            .create(folder)?;
        let (orders, queue) = sync_channel(QUEUE);
        let folder = folder.to_owned();
        let waiting = Arc::new(AtomicUsize::new(0));
        let written = Arc::clone(&waiting);
        thread::Builder::new()
            .name("log-writer".to_owned())
            // It only copies buffers to files.
            .stack_size(64 * 1024)
            .spawn(move || work(&folder, &queue, &written))?;
        Ok(Self {
            orders,
            waiting,
            dropped: 0,
        })
    }

    /// Hands bytes over. When the disk is too slow they are lost, and the next chunk says so.
    pub(crate) fn append(&mut self, service: &str, mut bytes: Vec<u8>) {
        if self.dropped > 0 {
            let note = format!(
                "keelson: {} log chunks were lost: slow disk\n",
                self.dropped
            );
            bytes.splice(..0, note.into_bytes());
        }
        let length = bytes.len();
        // Counted before it is sent: the thread may have written it before the next line here.
        let room = self.waiting.fetch_add(length, Ordering::Relaxed) + length <= QUEUE_BYTES;
        let order = Order::Append(service.to_owned(), bytes);
        if room && self.orders.try_send(order).is_ok() {
            self.dropped = 0;
        } else {
            self.waiting.fetch_sub(length, Ordering::Relaxed);
            self.dropped += 1;
        }
    }

    /// Closes all files, so that the file system can be unmounted.
    pub(crate) fn close(self) {
        let (done, closed) = sync_channel(1);
        if self.orders.try_send(Order::Close(done)).is_ok() {
            let _ = closed.recv_timeout(CLOSE_DEADLINE);
        }
    }
}

fn work(folder: &Path, queue: &Receiver<Order>, waiting: &AtomicUsize) {
    let mut files: BTreeMap<String, LogFile> = BTreeMap::new();
    while let Ok(order) = queue.recv() {
        match order {
            Order::Append(service, bytes) => {
                let file = files
                    .entry(service)
                    .or_insert_with_key(|service| LogFile::new(folder, service, MAX_BYTES));
                // A full disk must not stop the node, and there is nowhere else to say it: the
                // line is lost, the next one is tried again.
                let _ = file.append(&bytes);
                waiting.fetch_sub(bytes.len(), Ordering::Relaxed);
            }
            Order::Close(done) => {
                files.clear();
                let _ = done.try_send(());
            }
        }
    }
}

/// One log with its predecessor `<service>.log.1`.
struct LogFile {
    path: PathBuf,
    open: Option<(File, u64)>,
    max_bytes: u64,
}

impl LogFile {
    fn new(folder: &Path, service: &str, max_bytes: u64) -> Self {
        Self {
            path: folder.join(format!("{service}.log")),
            open: None,
            max_bytes,
        }
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let length = u64::try_from(bytes.len()).map_err(io::Error::other)?;
        let (mut file, mut size) = match self.open.take() {
            Some(open) => open,
            None => self.reopen()?,
        };
        if size > 0 && size + length > self.max_bytes {
            fs::rename(&self.path, self.path.with_extension("log.1"))?;
            (file, size) = self.reopen()?;
        }
        let result = file.write_all(bytes);
        self.open = Some((file, size + length));
        result
    }

    fn reopen(&self) -> io::Result<(File, u64)> {
        let file = OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o640)
            .open(&self.path)?;
        let size = file.metadata()?.len();
        Ok((file, size))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_files_of_bounded_size() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = LogFile::new(dir.path(), "etcd", 100);
        for number in 0..50 {
            log.append(format!("line {number:02}\n").as_bytes())
                .unwrap();
        }
        let newest = fs::read_to_string(dir.path().join("etcd.log")).unwrap();
        let older = fs::read_to_string(dir.path().join("etcd.log.1")).unwrap();
        assert!(newest.len() <= 100 && older.len() <= 100);
        assert!(newest.ends_with("line 49\n"));
        // Nothing is lost between the two.
        let first_new = newest.lines().next().unwrap();
        let last_old = older.lines().last().unwrap();
        let number = |line: &str| line[5..].parse::<u32>().unwrap();
        assert_eq!(number(last_old) + 1, number(first_new));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
    }

    #[test]
    fn an_existing_log_is_continued() {
        let dir = tempfile::tempdir().unwrap();
        for text in ["a\n", "b\n"] {
            LogFile::new(dir.path(), "x", 100)
                .append(text.as_bytes())
                .unwrap();
        }
        assert_eq!(
            fs::read_to_string(dir.path().join("x.log")).unwrap(),
            "a\nb\n"
        );
    }

    #[test]
    fn a_slow_disk_costs_lines_and_no_memory() {
        let (orders, queue) = sync_channel(QUEUE);
        let waiting = Arc::new(AtomicUsize::new(0));
        let mut writer = LogWriter {
            orders,
            waiting: Arc::clone(&waiting),
            dropped: 0,
        };
        for _ in 0..QUEUE {
            writer.append("x", vec![b'x'; 100 * 1024]);
        }
        assert_eq!(waiting.load(Ordering::Relaxed), 500 * 1024);
        assert_eq!(queue.try_iter().count(), 5);
        assert_eq!(writer.dropped, 59);
    }

    #[test]
    fn closing_writes_what_was_handed_over() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("logs");
        let mut writer = LogWriter::start(&folder).unwrap();
        writer.append("x", b"hello\n".to_vec());
        writer.close();
        assert_eq!(fs::read_to_string(folder.join("x.log")).unwrap(), "hello\n");
    }
}
