//! The root file system: Kubernetes and friends built from small Go modules, what is
//! taken from Debian, the container images of system pods, and the erofs of it all.
//!
//! What goes in is data beside this crate: `components.yaml` (programs we build),
//! `debian.yaml` (files of Debian packages), `layout.yaml` (folders, links, names that
//! must not be there) and `tree/` (files copied as they are). [`components`] builds the
//! programs, each in a cache entry keyed by its inputs; [`assemble`] plans the tree,
//! writes it to a folder and calls `mkfs.erofs`. Same inputs, same bytes.

#![forbid(unsafe_code)]

mod assemble;
mod build;
mod component;
mod debian;
mod elf;
mod erofs;
mod golang;
mod gomod;
mod layout;
mod licences;
mod module_copy;
mod native;
mod process;
mod system_images;
mod tree;

pub use assemble::{
    AssembleError, BuildError as MakeRootError, Inputs, Kernel, Root, assemble, os_release,
};
pub use build::{BuildError, Built, Components, ComponentsError, components};
pub use component::{Cgo, Component, GoModule, Install, LoadError, Program, Source, Version};
pub use debian::PickError;
pub use elf::ElfError;
pub use erofs::{ErofsError, Options};
pub use golang::{FindGoError, GoBuildError};
pub use gomod::NotRequired;
pub use layout::LayoutError;
pub use licences::LicenceError;
pub use module_copy::CopyError;
pub use native::NativeBuildError;
pub use process::RunError;
pub use system_images::ImageError;
pub use tree::{AddError, WriteError};
