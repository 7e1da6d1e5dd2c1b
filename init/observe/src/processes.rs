//! Processes, from /proc/PID.

use std::io;
use std::path::Path;

use keelson_api::v1alpha1::Process;

use crate::names::Names;
use crate::root::{ReadError, Root, attribute, read, value};
use crate::scrub::scrub;
use crate::text::{clipped, printable};

/// Most processes in an answer, and most bytes of all command lines in it: together they stay
/// below the longest message of the API, also when a pod starts thousands with long command
/// lines. The lowest numbers are kept: the node's own programs start first.
const MAX_PROCESSES: usize = 8192;
const ALL_COMMAND_LINES: usize = 1024 * 1024;

/// Longest command line that is shown whole: kube-apiserver's has 3 KiB.
const COMMAND_LINE: usize = 4096;

/// The kernel gives a process's files at most a page here; status is the longest.
const FILE_BYTES: u64 = 64 * 1024;

/// All processes, by number. One that ends while it is read is left out.
///
/// # Errors
/// /proc cannot be listed.
pub fn processes(root: &Root) -> Result<Vec<Process>, ReadError> {
    let names = Names::read(root);
    let mut room = ALL_COMMAND_LINES;
    let mut processes = Vec::new();
    for pid in pids(root)? {
        let folder = root.path(format!("/proc/{pid}"));
        let Some(mut process) = process(&folder, &names) else {
            continue;
        };
        if process.command_line.len() > room {
            process.command_line = clipped(process.command_line, room);
        }
        room = room.saturating_sub(process.command_line.len());
        processes.push(process);
        if processes.len() == MAX_PROCESSES {
            break;
        }
    }
    Ok(processes)
}

/// Numbers of all processes, in order.
pub(crate) fn pids(root: &Root) -> Result<Vec<u32>, ReadError> {
    let path = root.path("/proc");
    let list = || -> io::Result<Vec<u32>> {
        let mut pids = Vec::new();
        for entry in std::fs::read_dir(&path)? {
            pids.extend(
                entry?
                    .file_name()
                    .to_str()
                    .and_then(|name| name.parse::<u32>().ok()),
            );
        }
        pids.sort_unstable();
        Ok(pids)
    };
    list().map_err(|source| ReadError {
        path: path.clone(),
        source,
    })
}

/// The name of a process as the kernel has it.
pub(crate) fn name(root: &Root, pid: u32) -> Option<String> {
    let bytes = read(&root.path(format!("/proc/{pid}/comm")), FILE_BYTES).ok()?;
    Some(printable(bytes.strip_suffix(b"\n").unwrap_or(&bytes)))
}

/// `None` when it has ended.
fn process(folder: &Path, names: &Names) -> Option<Process> {
    let stat = Stat::parse(&read(&folder.join("stat"), FILE_BYTES).ok()?)?;
    let uid = user(&attribute(folder, "status")?)?;
    let command_line = read(&folder.join("cmdline"), MAX_ARGUMENTS).unwrap_or_default();
    let cgroup = attribute(folder, "cgroup").unwrap_or_default();
    let rollup = attribute(folder, "smaps_rollup").unwrap_or_default();
    Some(Process {
        pid: stat.pid,
        parent_pid: stat.parent,
        user: names.user(uid),
        state: stat.state.to_string(),
        threads: stat.threads,
        cpu_ms: milliseconds(stat.cpu_ticks),
        virtual_bytes: stat.virtual_bytes,
        resident_bytes: pages(stat.resident_pages),
        pss_bytes: proportional(&rollup),
        started_ms: milliseconds(stat.start_ticks),
        cgroup: printable(unified(&cgroup).as_bytes()),
        name: stat.name,
        command_line: words(&command_line),
        oom_score_adj: value(folder, "oom_score_adj").unwrap_or(0),
    })
}

/// Linux allows a quarter of the stack limit, 2 MiB; nobody needs to see that much.
const MAX_ARGUMENTS: u64 = 2 * 1024 * 1024;

/// What is used of /proc/PID/stat.
#[derive(Debug, PartialEq, Eq)]
struct Stat {
    pid: u32,
    name: String,
    state: char,
    parent: u32,
    cpu_ticks: u64,
    threads: u32,
    start_ticks: u64,
    virtual_bytes: u64,
    resident_pages: u64,
}

impl Stat {
    /// The name stands in parentheses and may itself hold spaces, parentheses and newlines, so
    /// the last parenthesis ends it.
    fn parse(bytes: &[u8]) -> Option<Self> {
        let open = bytes.iter().position(|byte| *byte == b'(')?;
        let close = bytes.iter().rposition(|byte| *byte == b')')?;
        let pid = std::str::from_utf8(bytes.get(..open)?).ok()?;
        let name = bytes.get(open + 1..close)?;
        let rest = std::str::from_utf8(bytes.get(close + 1..)?).ok()?;
        let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
        // Numbers as in proc(5), where the state is field 3.
        let field = |number: usize| fields.get(number - 3).copied();
        let number = |at: usize| field(at)?.parse::<u64>().ok();
        Some(Self {
            pid: pid.trim().parse().ok()?,
            name: printable(name),
            state: field(3)?.chars().next()?,
            parent: field(4)?.parse().ok()?,
            cpu_ticks: number(14)?.saturating_add(number(15)?),
            threads: field(20)?.parse().ok()?,
            start_ticks: number(22)?,
            virtual_bytes: number(23)?,
            resident_pages: number(24)?,
        })
    }
}

/// The effective user of /proc/PID/status: the second number.
fn user(status: &str) -> Option<u32> {
    let line = status.lines().find_map(|line| line.strip_prefix("Uid:"))?;
    line.split_ascii_whitespace().nth(1)?.parse().ok()
}

/// The path in the unified hierarchy, which has number 0 and no name.
fn unified(cgroup: &str) -> &str {
    cgroup
        .lines()
        .find_map(|line| line.strip_prefix("0::"))
        .unwrap_or_default()
}

/// The line `Pss:` of /proc/PID/smaps_rollup, in bytes.
fn proportional(rollup: &str) -> u64 {
    rollup
        .lines()
        .find_map(|line| line.strip_prefix("Pss:"))
        .and_then(|rest| rest.split_ascii_whitespace().next()?.parse::<u64>().ok())
        .map_or(0, |kib| kib.saturating_mul(1024))
}

/// Arguments as one line. A data store's URL may hold a password: such things are taken out.
fn words(command_line: &[u8]) -> String {
    let end = command_line
        .iter()
        .rposition(|byte| *byte != 0)
        .map_or(0, |last| last + 1);
    let spaced: Vec<u8> = command_line
        .iter()
        .take(end)
        .map(|byte| if *byte == 0 { b' ' } else { *byte })
        .collect();
    // Cut after the scrubbing, so that half a secret is never left.
    clipped(scrub(&printable(&spaced)).text, COMMAND_LINE)
}

fn milliseconds(ticks: u64) -> u64 {
    let per_second = rustix::param::clock_ticks_per_second().max(1);
    ticks.saturating_mul(1000) / per_second
}

fn pages(count: u64) -> u64 {
    let size = u64::try_from(rustix::param::page_size()).unwrap_or(4096);
    count.saturating_mul(size)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use proptest::prelude::*;

    use super::*;

    const STAT: &str = "9434 (cat) R 9424 9424 6241 0 -1 4194304 99 0 0 0 250 50 0 0 20 0 3 0 2656569 3133440 393 18446744073709551615 94844021366784 94844021386665 140729020452704 0 0 0 0 0 0 0 0 0 17 0 0 0 0 0 0 94844021402672 94844021404288 94844999561216 140729020459715 140729020459735 140729020459735 140729020461035 0\n";
    const STATUS: &str =
        "Name:\tcat\nUmask:\t0022\nState:\tR (running)\nUid:\t0\t911\t911\t911\nGid:\t0\t0\t0\t0\n";

    fn plant(root: &Path, pid: u32, stat: &str, command_line: &[u8]) {
        let folder = root.join(format!("proc/{pid}"));
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("stat"), stat).unwrap();
        fs::write(folder.join("status"), STATUS).unwrap();
        fs::write(folder.join("cmdline"), command_line).unwrap();
        fs::write(
            folder.join("cgroup"),
            "1:name=systemd:/x\n0::/keelson/etcd\n",
        )
        .unwrap();
        fs::write(folder.join("oom_score_adj"), "-998\n").unwrap();
    }

    #[test]
    fn every_field_comes_from_its_file() {
        let dir = tempfile::tempdir().unwrap();
        plant(dir.path(), 9434, STAT, b"cat\0--name\0a b\0");
        fs::write(
            dir.path().join("proc/9434/smaps_rollup"),
            "55808b19f000-7ffc3b494000 ---p 00000000 00:00 0    [rollup]\nRss:   1744 kB\nPss:   290 kB\nPss_Dirty:  112 kB\n",
        )
        .unwrap();
        fs::create_dir(dir.path().join("etc")).unwrap();
        fs::write(dir.path().join("etc/passwd"), "etcd:x:911:911::/:/\n").unwrap();
        // Not a process, and one that is gone but for its folder.
        fs::create_dir(dir.path().join("proc/sys")).unwrap();
        fs::create_dir(dir.path().join("proc/77")).unwrap();
        let found = processes(&Root::at(dir.path())).unwrap();
        let page = u64::try_from(rustix::param::page_size()).unwrap();
        assert_eq!(
            found,
            [Process {
                pid: 9434,
                parent_pid: 9424,
                user: "etcd".to_owned(),
                state: "R".to_owned(),
                threads: 3,
                cpu_ms: 3000,
                virtual_bytes: 3_133_440,
                resident_bytes: 393 * page,
                pss_bytes: 290 * 1024,
                started_ms: 26_565_690,
                cgroup: "/keelson/etcd".to_owned(),
                name: "cat".to_owned(),
                command_line: "cat --name a b".to_owned(),
                oom_score_adj: -998,
            }]
        );
    }

    #[test]
    fn names_may_hold_anything() {
        let odd = STAT.replace("(cat)", "(a) R 1 (b\n)");
        let stat = Stat::parse(odd.as_bytes()).unwrap();
        assert_eq!((stat.name.as_str(), stat.parent), ("a) R 1 (b?", 9424));
        assert_eq!(Stat::parse(b"1 (x) R"), None);
        assert_eq!(Stat::parse(b"1 )x("), None);
    }

    #[test]
    fn passwords_in_command_lines_are_not_shown() {
        let line = words(b"kine\0--endpoint=postgres://k:hunter22@db/k\0--token=abc\0");
        assert_eq!(
            line,
            "kine --endpoint=postgres://[removed]@db/k --token=[removed]"
        );
        assert_eq!(words(b""), "");
        assert_eq!(words(&[b'x'; 5000]).len(), COMMAND_LINE + "…".len());
    }

    #[test]
    fn many_long_command_lines_stay_bounded() {
        let dir = tempfile::tempdir().unwrap();
        let long = [b'y'; COMMAND_LINE];
        for pid in 1..=300 {
            plant(
                dir.path(),
                pid,
                &STAT.replace("9434", &pid.to_string()),
                &long,
            );
        }
        let found = processes(&Root::at(dir.path())).unwrap();
        assert_eq!(found.len(), 300);
        let total: usize = found.iter().map(|one| one.command_line.len()).sum();
        assert!(total <= ALL_COMMAND_LINES + 300 * "…".len());
        assert_eq!(found.last().unwrap().command_line, "…");
    }

    #[test]
    fn this_process_is_among_those_of_this_machine() {
        let found = processes(&Root::machine()).unwrap();
        let own = std::process::id();
        let process = found.iter().find(|process| process.pid == own).unwrap();
        assert!(process.resident_bytes > 0 && process.pss_bytes > 0);
        assert!(process.threads >= 1);
        assert!(process.command_line.contains("keelson_observe"));
        assert_eq!(
            name(&Root::machine(), own).as_deref(),
            Some(process.name.as_str())
        );
    }

    proptest! {
        #[test]
        fn never_panics(bytes: Vec<u8>, text: String) {
            let _ = Stat::parse(&bytes);
            let _ = Stat::parse(&[b"1 (x) ", bytes.as_slice()].concat());
            let _ = words(&bytes);
            let _ = user(&format!("Uid:{text}"));
            let _ = (unified(&text), proportional(&format!("Pss:{text}")));
        }
    }
}
