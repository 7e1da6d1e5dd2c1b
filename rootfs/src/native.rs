//! Compiles the C programs of the image with the build root's compiler.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use keelson_buildroot::{Bind, BuildRoot};
use thiserror::Error;

use crate::component::Component;
use crate::process::{self, RunError};

/// Small and static: what it makes runs in an empty container.
pub(crate) const FLAGS: &[&str] = &[
    "-std=gnu17",
    "-Os",
    "-Wall",
    "-Wextra",
    "-Werror",
    "-static",
    "-s",
    "-Wl,--build-id=none",
];

/// Why a C program could not be built.
#[derive(Debug, Error)]
pub enum NativeBuildError {
    /// The source cannot be copied into the folder the compiler sees.
    #[error("cannot copy {path}")]
    Copy {
        /// The source.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The compiler failed.
    #[error("cannot compile {path}")]
    Compile {
        /// The source.
        path: PathBuf,
        /// What it said.
        source: RunError,
    },
}

/// Compiles `source` into each program of `component` (one, as a rule).
pub(crate) fn build(
    component: &Component,
    source: &Path,
    work: &Path,
    out: &Path,
    build_root: &BuildRoot,
) -> Result<(), NativeBuildError> {
    let copy = work.join("program.c");
    fs::copy(source, &copy).map_err(|error| NativeBuildError::Copy {
        path: source.to_owned(),
        source: error,
    })?;
    for program in &component.programs {
        let binds = [Bind::read_only(work), Bind::writable(out)];
        let mut command = build_root.command("gcc", &binds);
        command
            .args(FLAGS)
            .arg("-o")
            .arg(out.join(&program.name))
            .arg(&copy);
        process::run(command, &|_| ()).map_err(|error| NativeBuildError::Compile {
            path: source.to_owned(),
            source: error,
        })?;
    }
    Ok(())
}
