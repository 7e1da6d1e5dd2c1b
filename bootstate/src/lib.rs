//! What the loader, PID 1, the imager and the tests agree on about a disk: its partitions, the
//! slot header, the boot record, the tries, and the decision made from them.
//!
//! Everything is plain bytes in and values out: no allocation, no input or output, no clock. The
//! loader reads sectors and asks [`decide`]; the system writes records and clears tries. All
//! numbers on disk are little-endian.
//!
//! | partition | offset | what |
//! |---|---|---|
//! | BOOTSTATE | 0 and 64 KiB | one [`BootRecord`] each; the valid one with the higher sequence counts |
//! | BOOTSTATE | 4 KiB behind each | the same record as text for GRUB ([`grub_env`]) |
//! | TRIES | 0 | one [`Tries`] sector of the EFI loader |
//! | GRUBENV | in a file | GRUB's tries ([`grub_env`]) |
//! | BOOT-A, BOOT-B | 0 | a [`SlotPage`] of 4 KiB, which starts with a [`SlotHeader`]; then the payload |
//!
//! What is written in which order is data too: [`plan`]. A cut after any step of a plan leaves a
//! record that names a complete slot, which `tests/model` tries out.

#![no_std]
#![forbid(unsafe_code)]

#[cfg(test)]
extern crate std;

mod decision;
pub mod gpt;
pub mod grub_env;
mod guid;
mod header;
pub mod layout;
mod page;
pub mod plan;
mod record;
pub mod signature;
mod slot;
mod tries;
mod words;

pub use decision::{Decision, WhyDefault, decide};
pub use guid::{Guid, ParseGuidError};
pub use header::{
    HEADER_SIZE, HeaderError, MAX_PAYLOAD, MAX_ROOT, SIGNED_SIZE, SlotHeader, SlotHeaderFields,
    VERSION_SIZE, Version,
};
pub use page::{
    GRUB_HASHES_OFFSET, GRUB_HASHES_SIZE, GRUB_SCRIPT_OFFSET, GRUB_SCRIPT_SIZE, MAX_SIGNATURES,
    PageError, SlotPage,
};
pub use record::{
    BootRecord, COPY_OFFSETS, Copy, InvalidRecord, MAX_SEQUENCE, NoRecord, RECORD_SIZE,
    newest_record,
};
pub use slot::{BuildId, Slot};
pub use tries::{TRIES_PER_TRIAL, TRIES_SIZE, Tries};
