//! What `keelson-workload` reports from inside a node, shared with the suites that read it.

mod report;

pub use report::{Memory, Mount, Process, Reader, Report};
