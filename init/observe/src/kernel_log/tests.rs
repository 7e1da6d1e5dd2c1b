//! The log as the kernel gives it out, record by record.

use std::time::{SystemTime, UNIX_EPOCH};

use super::*;
use crate::timestamp::unix_seconds;

/// Answers each read with one record or one error, as the kernel does.
#[derive(Debug)]
struct Ring {
    records: Vec<Result<&'static str, Errno>>,
    next: usize,
}

impl Ring {
    fn new(records: &[Result<&'static str, Errno>]) -> Self {
        Self {
            records: records.to_vec(),
            next: 0,
        }
    }
}

impl Read for Ring {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let record = self.records.get(self.next).copied();
        self.next += 1;
        let text = record.unwrap_or(Err(Errno::AGAIN))?;
        buffer[..text.len()].copy_from_slice(text.as_bytes());
        Ok(text.len())
    }
}

impl Seek for Ring {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        assert_eq!(to, SeekFrom::Start(0));
        self.next = 0;
        Ok(0)
    }
}

const RECORDS: &[Result<&str, Errno>] = &[
    Err(Errno::PIPE),
    Ok("5,100,0,-;Linux version 6.18\n"),
    Ok(
        "6,101,1500000,-,caller=T1;pci: gr\\xc3\\xbcn\\x09\\x5c;x\n SUBSYSTEM=pci\n DEVICE=+pci:0000:00:00.0\n",
    ),
    Err(Errno::INTR),
    Ok("no record\n"),
    Ok("3,102,2000000,c;first\\x0asecond\n"),
    Ok("28,103,2500000,-;init: from user space\n"),
];

fn all(log: &mut KernelLog<Ring>) -> Vec<(String, String)> {
    let mut found = Vec::new();
    while let Some(line) = log.next_line().unwrap() {
        assert_eq!(line.service, "kernel");
        found.push((line.level, line.text));
    }
    found
}

#[test]
fn records_become_lines() {
    let mut log = KernelLog::new(Ring::new(RECORDS), 0).unwrap();
    let line = |level: &str, text: &str| (level.to_owned(), text.to_owned());
    assert_eq!(
        all(&mut log),
        [
            line("info", "Linux version 6.18"),
            line("info", "pci: grün?\\;x"),
            line("error", "first"),
            line("error", "second"),
            line("warn", "init: from user space"),
        ]
    );
    // More comes later.
    log.source.records = vec![Ok("7,104,3000000,-;late\n")];
    log.source.next = 0;
    assert_eq!(all(&mut log), [line("debug", "late")]);
}

#[test]
fn a_tail_counts_lines() {
    for (tail, expected) in [(1, 1), (3, 3), (5, 5), (u32::MAX, 5)] {
        let mut log = KernelLog::new(Ring::new(RECORDS), tail).unwrap();
        let lines = all(&mut log);
        assert_eq!(lines.len(), expected, "{tail}");
        assert_eq!(lines.last().unwrap().1, "init: from user space");
    }
}

#[test]
fn times_are_those_of_the_wall_clock() {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let text = format!("6,1,{},-;now\n", now.tv_sec * 1_000_000);
    let line = Record::parse(text.as_bytes()).unwrap().lines().remove(0);
    let time = unix_seconds(&line.time).unwrap();
    let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let wall = i64::try_from(wall.as_secs()).unwrap();
    assert!((wall - time).abs() <= 2, "{} at {wall}", line.time);
}

#[test]
fn what_is_broken_is_said() {
    let error = KernelLog::new(Ring::new(&[Err(Errno::PERM)]), 1).unwrap_err();
    assert!(matches!(error, KernelLogError::Read(_)));
    let none = tempfile::tempdir().unwrap();
    let error = KernelLog::open(&Root::at(none.path()), 0).unwrap_err();
    assert_eq!(error.to_string(), "cannot open /dev/kmsg");
}

#[tokio::test]
async fn a_follower_gets_what_comes_later() {
    use std::io::Write;
    // A pipe in place of the device: it can be waited for, and gives one record per read as
    // long as one is written at a time.
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("dev")).unwrap();
    let path = dir.path().join("dev/kmsg");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &path,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RWXU,
        0,
    )
    .unwrap();
    let mut writer = OpenOptions::new()
        .read(true)
        .write(true)
        .open(&path)
        .unwrap();
    let log = KernelLog::open(&Root::at(dir.path()), 0).unwrap();
    let mut follower = KernelLogFollower::new(log).unwrap();
    for text in ["one", "two"] {
        let write = async {
            // After the follower has found nothing.
            tokio::task::yield_now().await;
            writeln!(writer, "6,1,1,-;{text}").unwrap();
        };
        let (line, ()) = tokio::join!(follower.next_line(), write);
        assert_eq!(line.unwrap().text, text);
    }
}

proptest::proptest! {
    #[test]
    fn never_panics(bytes: Vec<u8>, at: u64) {
        let _ = Record::parse(&bytes);
        let head = format!("6,1,{at},-;");
        if let Some(record) = Record::parse(&[head.as_bytes(), &bytes].concat()) {
            let _ = record.lines();
        }
    }
}
