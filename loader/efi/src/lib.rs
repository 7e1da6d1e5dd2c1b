//! What the EFI loader knows without firmware: how to find the partitions of a disk and how to
//! read and verify a slot. The program (`main.rs`, UEFI targets only) adds the firmware calls.
//!
//! The loader is installed once and never updated in the field, so it stays small, trusts nothing
//! that it reads, and bounds every size before it allocates.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod disk;
pub mod slot;
pub mod table;
