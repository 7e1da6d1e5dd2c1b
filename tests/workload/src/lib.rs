//! keelson-workload
