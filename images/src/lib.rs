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
//! 4. [`slot::BuildSpec::seal`] signs what a slot holds with the builder's [`keys`].
//! 5. [`disk::DiskSpec::plan`] says as data what the disk holds; [`disk::DiskPlan::write_raw`]
//!    writes it, [`qcow2::convert`] makes the file that people download. [`bios`] makes the same
//!    disk start where there is no UEFI.
//!
//! An update bundle (`keelson-bundle`) is made from the same build, or from the one on a finished
//! disk ([`slot::InstalledBuild`]).
//!
//! [`esp`] changes the one file of a finished image that people change: `keelson.yaml`.

#![forbid(unsafe_code)]

pub mod bios;
pub mod digest;
pub mod disk;
pub mod esp;
pub mod grub;
mod id;
pub mod initramfs;
pub mod keys;
pub mod oci;
mod platform;
mod publish;
pub mod qcow2;
pub mod slot;
pub mod sparse;
pub mod uki;
pub mod verity;
mod window;

pub use keelson_bundle::Architecture;
pub use platform::{LoadPlatformError, Platform, SectorSize};
