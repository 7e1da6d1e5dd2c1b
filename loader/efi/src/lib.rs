//! What the EFI loader knows without firmware: how to find the partitions of a disk, which slot to
//! start, how to count a try and how to verify a slot. The program (`main.rs`, UEFI targets only)
//! adds the firmware calls.
//!
//! [`boot::choose`] is a whole boot but for the start itself. It decides with
//! `keelson_bootstate::decide`, verifies before anything is counted or started, counts a try on the
//! medium before a trial, and goes on to the other slot when one cannot be started.
//!
//! The loader is installed once and never updated in the field, so it stays small, trusts nothing
//! that it reads, and bounds every size before it allocates.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod boot;
pub mod disk;
#[cfg(test)]
mod fake;
pub mod report;
pub mod slot;
mod state;
pub mod table;
