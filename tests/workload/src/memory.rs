//! Takes memory: inside the limits of a pod, or outside of them.

use std::fs;
use std::io;
use std::path::Path;
use std::process::{Child, Command};
use std::thread;
use std::time::{Duration, Instant};

use crate::processes::kib;

/// For who takes memory that no pod's limit counts: what a pod may use is bounded below what
/// the machine has.
const STARVING: &str = "/host/sys/fs/cgroup/starving-by-a-test";

/// For who waits for memory all the time.
const STALLING: &str = "/host/sys/fs/cgroup/stalling-by-a-test";

/// The command by which this program runs itself as one that waits for memory.
pub(crate) const STALL: &str = "stall";

/// Twice the processors of a test's machine: on each of them somebody waits.
const STALLERS: usize = 4;

/// The kernel's figure is an average of ten seconds: by then it is high.
const UNTIL_FELT: Duration = Duration::from_secs(4);

/// Between two looks at what is left.
const PAUSE: Duration = Duration::from_millis(200);

const MIB: u64 = 1 << 20;

/// Takes so much and keeps it for a time.
pub(crate) fn hold(mib: u64, time: Duration) -> io::Result<()> {
    let mut taken = Vec::new();
    for _ in 0..mib {
        taken.push(piece(1)?);
    }
    println!("holding {mib} MiB");
    thread::sleep(time);
    // Until here.
    drop(taken);
    Ok(())
}

/// Makes memory short for the whole machine, so that everything waits for it and only `left`
/// MiB are available, until somebody makes room or the time is over.
pub(crate) fn starve(left: u64, time: Duration) -> io::Result<()> {
    let begin = Instant::now();
    let mut stallers = Stallers::start(time)?;
    thread::sleep(UNTIL_FELT);
    enter(Path::new(STARVING))?;
    let mut taken = Vec::new();
    loop {
        let available = available_mib()?;
        // Large steps would let the kernel run out of memory for a moment.
        match available.saturating_sub(left) {
            0 => break,
            far if far > 64 => taken.push(piece(8)?),
            _ => taken.push(piece(1)?),
        }
        if begin.elapsed() > time {
            return Err(io::Error::other(format!("{available} MiB are left still")));
        }
    }
    println!("short");
    // Who ends a pod gives back more than what comes and goes by itself.
    while available_mib()? < left + 25 {
        if begin.elapsed() > time {
            return Err(io::Error::other("nobody made room"));
        }
        thread::sleep(PAUSE);
    }
    println!("relieved");
    stallers.end();
    Ok(())
}

/// Asks for more memory than its cgroup may have without waiting.
pub(crate) fn stall(time: Duration) -> io::Result<()> {
    let begin = Instant::now();
    enter(Path::new(STALLING))?;
    let mut taken = Vec::new();
    // The kernel lets a process in such a group sleep up to 2 s for each 256 KiB.
    while begin.elapsed() < time {
        taken.push(piece(1)?);
    }
    Ok(())
}

/// Processes that wait for memory.
struct Stallers(Vec<Child>);

impl Stallers {
    fn start(time: Duration) -> io::Result<Self> {
        let cgroup = Path::new(STALLING);
        make(cgroup)?;
        fs::write(cgroup.join("memory.high"), MIB.to_string())?;
        let seconds = time.as_secs().to_string();
        let program = std::env::current_exe()?;
        let mut stallers = Self(Vec::new());
        for _ in 0..STALLERS {
            let child = Command::new(&program).args([STALL, &seconds]).spawn()?;
            stallers.0.push(child);
        }
        Ok(stallers)
    }

    fn end(&mut self) {
        for child in &mut self.0 {
            // It has ended by itself, or does now.
            let _ = child.kill();
            let _ = child.wait();
        }
        self.0.clear();
    }
}

impl Drop for Stallers {
    fn drop(&mut self) {
        self.end();
    }
}

/// Moves this process to a cgroup; what it takes from here on is counted there.
fn enter(cgroup: &Path) -> io::Result<()> {
    make(cgroup)?;
    fs::write(cgroup.join("cgroup.procs"), "0")
}

fn make(cgroup: &Path) -> io::Result<()> {
    match fs::create_dir(cgroup) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

/// Memory that is in use: every page of it was written.
fn piece(mib: u64) -> io::Result<Vec<u8>> {
    let bytes = usize::try_from(mib * MIB).map_err(io::Error::other)?;
    Ok(vec![1; bytes])
}

fn available_mib() -> io::Result<u64> {
    Ok(kib(&fs::read_to_string("/proc/meminfo")?, "MemAvailable") >> 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_piece_has_its_size_and_memory_is_known() {
        assert_eq!(piece(2).unwrap().len(), 2 << 20);
        assert!(available_mib().unwrap() > 0);
        hold(1, Duration::ZERO).unwrap();
    }

    #[test]
    fn a_cgroup_that_is_there_is_used() {
        let folder = tempfile::tempdir().unwrap();
        let cgroup = folder.path().join("group");
        enter(&cgroup).unwrap();
        enter(&cgroup).unwrap();
        assert_eq!(
            fs::read_to_string(cgroup.join("cgroup.procs")).unwrap(),
            "0"
        );
    }
}
