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
//! | TRIES | 0 | one [`Tries`] sector |
//! | BOOT-A, BOOT-B | 0 | a [`SlotHeader`] of 4 KiB, then the payload |
//!
//! Order of writes of an upgrade: slot data, flush, read back and hash; tries cleared, flush;
//! record, flush. A cut after any of them leaves a record that names a complete slot.

#![no_std]
#![forbid(unsafe_code)]

#[cfg(test)]
extern crate std;

mod decision;
pub mod gpt;
mod guid;
mod header;
pub mod layout;
mod record;
mod slot;
mod tries;
mod words;

pub use decision::{Decision, WhyDefault, decide};
pub use guid::{Guid, ParseGuidError};
pub use header::{HEADER_SIZE, HeaderError, MAX_PAYLOAD, SlotHeader};
pub use record::{
    BootRecord, COPY_OFFSETS, Copy, InvalidRecord, NoRecord, RECORD_SIZE, newest_record,
};
pub use slot::{BuildId, Slot};
pub use tries::{TRIES_PER_TRIAL, TRIES_SIZE, Tries};
