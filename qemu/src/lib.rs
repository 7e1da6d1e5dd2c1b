//! Runs virtual machines in QEMU: from a description as data to a machine that can be watched,
//! driven, saved and restored.
//!
//! [`VmSpec`] says what a machine consists of and becomes QEMU's argument list. [`Vm`] is a
//! running one: threads collect its serial port, its messages on the host channel ([`HostMessage`])
//! and QEMU's own events; every wait looks at what was collected so far and has a deadline, which
//! is stretched on slow hosts ([`slowness`]). QEMU and its firmware come from the build root
//! ([`Tools`]), and QEMU never outlives whoever started it unless that was asked for.

mod bench;
mod clock;
mod disk;
mod host_channel;
mod machine;
mod observed;
mod partitions;
mod process;
mod qmp;
mod remote;
mod saved;
mod serial_log;
mod spec;
mod speed;
mod tools;
mod vm;

pub use bench::{Bench, BenchError, BenchFirmware, BenchStart};
pub use clock::Clock;
pub use disk::{
    BaseImage, DiskError, create_empty, create_overlay, create_variables, fingerprint, read_region,
    write_region,
};
pub use host_channel::{HostMessage, NodeContext};
pub use machine::{MachineError, MachineFolder, Record};
pub use observed::{Mark, Observed, WaitError, Waker};
pub use partitions::{PartitionError, find_partition, put_config};
pub use process::{RunError, output_within, run_within};
pub use qmp::{QMP_DEADLINE, Qmp, QmpError, QmpEvent};
pub use remote::{Remote, RemoteError};
pub use saved::SaveError;
pub use spec::{
    Disk, DiskFormat, Durability, Endpoints, Firmware, HOST_CHANNEL_PORT, HostService, Network,
    Reach, Start, UserNetwork, VmSpec,
};
pub use speed::{Acceleration, scaled, slowness};
pub use tools::{Tools, ToolsError};
pub use vm::{Ending, LaunchError, Lifetime, Vm};
