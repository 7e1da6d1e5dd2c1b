//! Numbers for Prometheus, in its text format (version 0.0.4).
//!
//! [`collect`] turns a [`Snapshot`] into families, [`render`] writes them.

mod collect;
mod text;

pub use collect::{Snapshot, collect};
pub use text::{Family, Kind, NameError, Sample, Value, render};

/// The content type of what [`render`] writes.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

#[cfg(test)]
mod tests;
