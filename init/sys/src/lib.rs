//! Wraps what the kernel offers and safe crates do not: the only crate with `unsafe`.
//!
//! One module per facility. What `rustix` already does safely is wrapped here only where a
//! decision goes with it (which flags, which order), so that there is one place for it.

pub mod block;
pub mod boot_clock;
pub mod clock_slew;
pub mod cycle_counter;
pub mod device_mapper;
pub mod epoll;
pub mod ext4;
pub mod input;
pub mod io_priority;
pub mod label;
pub mod loop_device;
pub mod notify_socket;
pub mod peer;
pub mod process;
#[cfg(feature = "tokio")]
pub mod readable;
pub mod signals;
pub mod spawn;
pub mod uevent;
pub mod watchdog;
