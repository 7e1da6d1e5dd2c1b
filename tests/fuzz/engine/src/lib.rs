//! Runs a target under LibAFL: seeds, limits, progress, what was found.
//!
//! The program of a target calls [`main`]. It fuzzes for some seconds (`fuzz`) or runs the target
//! once on files (`repeat`); `keelson-build test fuzz` calls it and knows the arguments. An input
//! that panics, hangs or uses too much memory is written to a folder, and the program fails.
//!
//! Everything but this crate and LibAFL is compiled with coverage; the target is called through a
//! function pointer so that LibAFL's generic code is compiled here, without.

mod arguments;
mod found;
mod fuzz;
mod progress;
mod seeds;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use crate::arguments::Arguments;
use crate::fuzz::{FuzzError, fuzz};

/// What is fuzzed.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Takes any bytes and panics when something is wrong.
    pub run: fn(&[u8]),
    /// Inputs to begin with, made by our own encoders; texts are files in `corpus/`.
    pub seeds: fn() -> Vec<Vec<u8>>,
    /// Longest input that is tried.
    pub longest: usize,
}

/// The program of a target.
#[must_use]
pub fn main(target: Target) -> ExitCode {
    let result = match Arguments::parse(std::env::args().skip(1)) {
        Ok(Arguments::Fuzz(run)) => fuzz(target, &run),
        Ok(Arguments::Repeat(files)) => repeat(target, &files),
        Err(problem) => {
            eprintln!("{problem}");
            return ExitCode::from(2);
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// Runs the target on each file; a panic ends the program, with a backtrace if one was asked for.
fn repeat(target: Target, files: &[PathBuf]) -> Result<(), FuzzError> {
    for file in files {
        let bytes = read(file)?;
        println!("{}: {} bytes", file.display(), bytes.len());
        (target.run)(&bytes);
        println!("{}: nothing is wrong", file.display());
    }
    Ok(())
}

fn read(path: &Path) -> Result<Vec<u8>, FuzzError> {
    fs::read(path).map_err(|source| FuzzError::Read {
        path: path.to_owned(),
        source,
    })
}
