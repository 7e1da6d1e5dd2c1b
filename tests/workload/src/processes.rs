//! All processes of the node, from /proc.

use std::fs;
use std::io;
use std::path::Path;

use keelson_workload::Process;

/// Everything with a process id at this moment; one that ends meanwhile is left out.
pub(crate) fn all() -> io::Result<Vec<Process>> {
    let mut processes = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let entry = entry?;
        let Some(pid) = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok())
        else {
            continue;
        };
        if let Some(process) = read(pid, &entry.path()) {
            processes.push(process);
        }
    }
    processes.sort_by_key(|process| process.pid);
    Ok(processes)
}

fn read(pid: u32, folder: &Path) -> Option<Process> {
    let text = |name: &str| fs::read_to_string(folder.join(name)).ok();
    let status = text("status")?;
    let command = text("cmdline")?;
    let cgroup = text("cgroup")?;
    let smaps = text("smaps_rollup").unwrap_or_default();
    let oom_score_adj = text("oom_score_adj")?.trim().parse().ok()?;
    parse(pid, &status, &command, &cgroup, &smaps, oom_score_adj)
}

fn parse(
    pid: u32,
    status: &str,
    command: &str,
    cgroup: &str,
    smaps: &str,
    oom_score_adj: i32,
) -> Option<Process> {
    let command: Vec<String> = command
        .split('\0')
        .filter(|part| !part.is_empty())
        .map(str::to_owned)
        .collect();
    let name = match command.first() {
        Some(program) => program.rsplit('/').next().unwrap_or(program).to_owned(),
        None => value(status, "Name")?.to_owned(),
    };
    let field = |key: &str, index: usize| value(status, key)?.split_whitespace().nth(index);
    Some(Process {
        pid,
        parent: field("PPid", 0)?.parse().ok()?,
        name,
        // Kernel threads have no memory of their own.
        kernel: command.is_empty() && value(status, "VmSize").is_none(),
        command,
        uid: field("Uid", 1)?.parse().ok()?,
        gid: field("Gid", 1)?.parse().ok()?,
        effective_capabilities: u64::from_str_radix(field("CapEff", 0)?, 16).ok()?,
        bounding_capabilities: u64::from_str_radix(field("CapBnd", 0)?, 16).ok()?,
        no_new_privileges: field("NoNewPrivs", 0)? == "1",
        seccomp: field("Seccomp", 0)?.parse().ok()?,
        cgroup: cgroup
            .lines()
            .find_map(|line| line.strip_prefix("0::"))?
            .to_owned(),
        rss_kib: kib(status, "VmRSS"),
        pss_kib: kib(smaps, "Pss"),
        oom_score_adj,
    })
}

fn value<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    text.lines()
        .find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))
        .map(str::trim)
}

/// A figure like `VmRSS:  1024 kB`; 0 where there is none.
pub(crate) fn kib(text: &str, key: &str) -> u64 {
    value(text, key)
        .and_then(|value| value.split_whitespace().next()?.parse().ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATUS: &str = "Name:\tkube-apiserver\nPPid:\t1\nUid:\t913\t913\t913\t913\n\
        Gid:\t913\t913\t913\t913\nVmSize:\t 1000 kB\nVmRSS:\t  250000 kB\n\
        CapEff:\t0000000000000400\nCapBnd:\t0000000000000400\nNoNewPrivs:\t1\nSeccomp:\t0\n";

    #[test]
    fn a_service() {
        let process = parse(
            77,
            STATUS,
            "/usr/bin/kube-apiserver\0--v=2\0",
            "0::/../../keelson/kube-apiserver\n",
            "Rss: 1 kB\nPss:   240000 kB\nPss_Dirty: 5 kB\n",
            -997,
        )
        .unwrap();
        assert_eq!(process.name, "kube-apiserver");
        assert_eq!(process.command, ["/usr/bin/kube-apiserver", "--v=2"]);
        assert_eq!((process.uid, process.gid, process.parent), (913, 913, 1));
        assert_eq!((process.rss_kib, process.pss_kib), (250_000, 240_000));
        assert_eq!(process.effective_capabilities, 1 << 10);
        assert_eq!(process.cgroup, "/../../keelson/kube-apiserver");
        assert!(process.no_new_privileges && !process.kernel);
    }

    #[test]
    fn a_kernel_thread_and_our_own_list() {
        let status = STATUS.replace("VmSize:\t 1000 kB\nVmRSS:\t  250000 kB\n", "");
        let thread = parse(2, &status, "", "0::/\n", "", 0).unwrap();
        assert!(thread.kernel);
        assert_eq!(
            (thread.name.as_str(), thread.rss_kib),
            ("kube-apiserver", 0)
        );
        let own = std::process::id();
        assert!(
            all()
                .unwrap()
                .iter()
                .any(|process| process.pid == own && !process.kernel)
        );
    }
}
