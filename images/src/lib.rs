//! The imager: turns finished parts (kernel, initramfs, root file system, loader) into disk
//! images and container image archives.
//!
//! Everything here runs as an ordinary user, mounts nothing and gives the same bytes for the
//! same input: identifiers come from content or from fixed names, times are fixed, lists are
//! sorted.
//!
//! The way of a system into an image:
//!
//! 1. [`verity::seal`] copies an erofs file and appends its hash tree; the root hash it gives goes
//!    into the kernel command line ([`Platform::command_line`]).
//! 2. [`initramfs::build`] packs the node binary.
//! 3. [`uki::Uki::assemble`] puts kernel, initramfs and command line into one EFI program.
//! 4. [`disk::DiskSpec::plan`] says as data what the disk holds; [`disk::DiskPlan::write_raw`]
//!    writes it, [`qcow2::convert`] makes the file that people download.
//!
//! [`esp`] changes the one file of a finished image that people change: `keelson.yaml`.

#![forbid(unsafe_code)]

pub mod digest;
pub mod disk;
pub mod esp;
mod id;
pub mod initramfs;
pub mod oci;
mod platform;
mod publish;
pub mod qcow2;
pub mod sparse;
pub mod uki;
pub mod verity;
mod window;

pub use platform::{Architecture, LoadPlatformError, Platform, SectorSize};
