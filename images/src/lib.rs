//! The imager: turns finished parts (kernel, initramfs, root file system, loader) into disk
//! images and container image archives.
//!
//! Everything here runs as an ordinary user, mounts nothing and gives the same bytes for the
//! same input: identifiers come from content or from fixed names, times are fixed, lists are
//! sorted.

#![forbid(unsafe_code)]

pub mod digest;
pub mod oci;
mod publish;
