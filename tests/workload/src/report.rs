//! The report of `keelson-workload inspect`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// A node, seen from a privileged pod.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Everything with a process id, kernel threads included.
    pub processes: Vec<Process>,
    /// Mounts of PID 1.
    pub mounts: Vec<Mount>,
    /// Memory of the whole node.
    pub memory: Memory,
    /// What the kernel said when a file was to be made in the root; `None` when it let us.
    pub root_write_error: Option<String>,
    /// Shells and scripts on the root file system.
    pub shells: Vec<String>,
    /// Secret files there are.
    pub secrets: Vec<String>,
    /// For every user that was asked about, what it can read of them.
    pub readers: Vec<Reader>,
}

/// The report of `keelson-workload chaos`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChaosReport {
    /// Longest time from start to ready of each service, restarted alone, in milliseconds.
    pub cold_start_ms: BTreeMap<String, u64>,
    /// What was done, in order.
    pub outages: Vec<Outage>,
    /// Processes that no service knows of at the end.
    pub orphans: Vec<String>,
    /// Cgroups of services that were not there before.
    pub new_cgroups: Vec<String>,
}

/// One disturbance of one service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outage {
    /// The service.
    pub service: String,
    /// SIGKILL or SIGSTOP.
    pub signal: String,
    /// From the signal to the new process.
    pub started_after_ms: u64,
    /// From the signal to readiness.
    pub ready_after_ms: u64,
}

/// One process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// Process id in the node's own namespace.
    pub pid: u32,
    /// Its parent.
    pub parent: u32,
    /// Last part of the first argument, or the kernel's name for it.
    pub name: String,
    /// All arguments.
    pub command: Vec<String>,
    /// Whether the kernel runs it by itself.
    pub kernel: bool,
    /// Effective user.
    pub uid: u32,
    /// Effective group.
    pub gid: u32,
    /// Effective capabilities.
    pub effective_capabilities: u64,
    /// Capabilities it could ever get.
    pub bounding_capabilities: u64,
    /// Whether it gave up setuid programs.
    pub no_new_privileges: bool,
    /// 0 no filter, 2 a filter.
    pub seccomp: u8,
    /// Path in the cgroup tree.
    pub cgroup: String,
    /// Resident memory in KiB.
    pub rss_kib: u64,
    /// Resident memory in KiB, shared pages divided by who shares them.
    pub pss_kib: u64,
    /// Whom the kernel takes first when memory runs out.
    pub oom_score_adj: i32,
}

/// One mount.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// Where.
    pub place: String,
    /// File system type.
    pub kind: String,
    /// Device or whatever the file system calls its source.
    pub source: String,
    /// Options of the mount and of the file system.
    pub options: Vec<String>,
}

/// Figures of /proc/meminfo in KiB.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    /// All there is.
    pub total_kib: u64,
    /// Unused.
    pub free_kib: u64,
    /// Could be had without swapping.
    pub available_kib: u64,
    /// Caches that the kernel gives back when asked: buffers, page cache, reclaimable slab.
    pub cache_kib: u64,
}

impl Memory {
    /// What neither lies idle nor is cache.
    pub fn used_kib(&self) -> u64 {
        self.total_kib
            .saturating_sub(self.free_kib + self.cache_kib)
    }
}

/// What one user can read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reader {
    /// Its name, as given.
    pub user: String,
    /// Secret files it could open for reading.
    pub files: Vec<String>,
}
