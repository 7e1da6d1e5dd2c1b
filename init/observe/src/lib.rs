//! Reads what the machine has and what uses it from the kernel, as messages of the node API.
//!
//! Everything is read at the time of the call and kept nowhere. All functions block for a short
//! time (call them from `spawn_blocking`), but for [`links`] and [`routes`], which ask the kernel by
//! netlink and need a tokio runtime, and [`KernelLogFollower`], which waits for lines. All paths
//! are below a [`Root`].
//!
//! [`files`] opens files for support, [`metrics`] writes numbers for Prometheus, [`bundle`] writes
//! the support archive and [`scrub`] takes out what looks like a secret.
//!
//! What a process may not look at is left empty, never an error: without CAP_SYS_PTRACE the
//! proportional memory of other users' processes and the owners of their sockets, without
//! CAP_SYSLOG the kernel log as a whole.

pub mod bundle;
pub mod files;
pub mod metrics;
pub mod scrub;

mod cgroups;
mod disks;
mod kernel_log;
mod links;
mod memory;
mod mount_table;
mod mounts;
mod names;
mod netlink;
mod pressure;
mod processes;
mod root;
mod routes;
mod sockets;
mod text;
mod timestamp;

pub use cgroups::{cgroup_usage, cgroups};
pub use disks::{DiskActivity, disk_activity, disks};
pub use kernel_log::{KernelLog, KernelLogError, KernelLogFollower};
pub use links::links;
pub use memory::{load1, memory};
pub use mounts::mounts;
pub use netlink::NetlinkError;
pub use pressure::{Pressure, Share, Stall, pressure};
pub use processes::processes;
pub use root::{ReadError, Root};
pub use routes::routes;
pub use sockets::sockets;
