//! apid as its callers and machined see it.

#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "../support/mod.rs"]
mod support;

mod access;
mod calls;
mod limits;
mod trust;
