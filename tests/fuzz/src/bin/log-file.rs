//! Log files as machined reads them: whatever a service wrote, the last lines are the end of all
//! lines.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::OnceLock;

use keelson_api::v1alpha1::LogLine;
use keelson_fuzz_engine::Target;
use keelson_machined::fuzzing;

fn main() -> ExitCode {
    keelson_fuzz_engine::main(Target {
        run,
        seeds: || vec![seed(2, 1), seed(7, 60), seed(0, 0)],
        longest: 4096,
    })
}

/// Number of lines wanted, hundredths of the bytes that are in the older file, then the bytes.
fn run(bytes: &[u8]) {
    let (tail, rest) = keelson_fuzz::choose(bytes, 8);
    let (percent, content) = keelson_fuzz::choose(rest, 101);
    let folder = folder();
    let (older, newer) = content.split_at(content.len() * percent / 100);
    write(&folder.join("x.log.1"), older);
    write(&folder.join("x.log"), newer);
    let all = lines(folder, 0, "");
    let last = lines(folder, tail, "");
    assert!(all.ends_with(&last), "{last:?}\nis not the end of\n{all:?}");
    assert!(tail == 0 || last.len() <= tail, "{last:?}");
    let since = "2026-11-21T10:00:01.000Z";
    let later = lines(folder, 0, since);
    assert!(later.len() <= all.len());
    assert!(
        later.iter().all(|line| line.time.as_str() >= since),
        "{later:?}"
    );
}

fn lines(folder: &Path, tail: usize, since: &str) -> Vec<LogLine> {
    match fuzzing::lines(folder, "x", tail, since) {
        Ok(lines) => lines,
        Err(error) => panic!("{} cannot be read: {error}", folder.display()),
    }
}

fn write(path: &Path, bytes: &[u8]) {
    if let Err(error) = fs::write(path, bytes) {
        panic!("{} cannot be written: {error}", path.display());
    }
}

/// In memory, one for each process.
fn folder() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let path = PathBuf::from(format!("/dev/shm/keelson-fuzz-log-{}", std::process::id()));
        if let Err(error) = fs::create_dir_all(&path) {
            panic!("{} cannot be made: {error}", path.display());
        }
        path
    })
}

fn seed(tail: u8, percent: u8) -> Vec<u8> {
    let mut bytes = vec![tail, percent];
    for second in 0..5 {
        bytes.extend(format!("2026-11-21T10:00:0{second}.000Z W line {second}\n").bytes());
    }
    bytes.extend(b"not stamped\n2026-11-21T10:00:09.000Z I half a li");
    bytes
}
