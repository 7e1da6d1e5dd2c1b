//! What `keelson-workload` reports from inside a node, shared with the suites that read it.

mod report;

pub use report::{ChaosReport, Memory, Mount, Outage, Process, Reader, Report};
