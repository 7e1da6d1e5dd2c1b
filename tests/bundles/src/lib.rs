//! Bundles that a node must refuse or come back from: what is different about them, as data.
//!
//! A [`Variant`] (`variants/*.yaml`) is a system that is properly signed and does not work: the
//! build program makes it (`keelson-build bundle --variant NAME`). A [`Damage`] is done to a
//! finished bundle.

#![forbid(unsafe_code)]

mod damage;
mod variant;

pub use damage::{Damage, DamageError};
pub use variant::{LoadVariantError, Program, Replacement, Variant};
