//! Makes the erofs file system of a tree with the build root's `mkfs.erofs`.

use std::path::{Path, PathBuf};

use keelson_buildroot::{Bind, BuildRoot};
use thiserror::Error;

use crate::process::{self, RunError};
use crate::tree::{Tree, WriteError};

/// How the file system is made.
#[derive(Debug, Clone)]
pub struct Options {
    /// Time of every file and of the file system, in seconds since 1970.
    pub time: u64,
    /// `mkfs.erofs -z` argument; none means uncompressed, which the image as a whole
    /// can still be: reading then costs no decompression, dear under emulation.
    pub compression: Option<String>,
}

impl Default for Options {
    /// Uncompressed, dated at the beginning of 2026: a fixed time after every
    /// program that could wonder about files older than itself was written.
    fn default() -> Self {
        Self {
            time: 1_767_225_600,
            compression: None,
        }
    }
}

/// Fixed: the file system is identified by its verity hash, and a random one would
/// make every build differ.
const UUID: &str = "6b65656c-736f-6e00-8000-726f6f746673";

/// Why the file system could not be made.
#[derive(Debug, Error)]
pub enum ErofsError {
    /// The tree cannot be written to a folder first.
    #[error("cannot lay out the root file system")]
    Tree(#[source] WriteError),
    /// mkfs.erofs failed.
    #[error("cannot make the file system {path}")]
    Make {
        /// The file.
        path: PathBuf,
        /// What it said.
        source: RunError,
    },
}

/// The arguments before file and folder.
pub(crate) fn arguments(options: &Options) -> Vec<String> {
    let mut arguments = vec![
        "--all-root".to_owned(), // the builder is nobody in particular
        "-b4096".to_owned(),     // the page and verity block size everywhere
        "-x-1".to_owned(),       // no extended attributes of the host
        format!("-T{}", options.time),
        format!("-U{UUID}"),
        "-Lkeelson".to_owned(),
        "--quiet".to_owned(),
    ];
    arguments.extend(
        options
            .compression
            .as_ref()
            .map(|method| format!("-z{method}")),
    );
    arguments
}

/// Writes `tree` as a file system to `image`, using the empty folder `stage`.
pub(crate) fn make(
    build_root: &BuildRoot,
    tree: &Tree,
    stage: &Path,
    image: &Path,
    options: &Options,
) -> Result<(), ErofsError> {
    tree.write(stage).map_err(ErofsError::Tree)?;
    let folder = image.parent().unwrap_or(Path::new("."));
    let binds = [Bind::read_only(stage), Bind::writable(folder)];
    let mut command = build_root.command("mkfs.erofs", &binds);
    command.args(arguments(options)).arg(image).arg(stage);
    process::run(command, &|_| ()).map_err(|source| ErofsError::Make {
        path: image.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compression_is_a_choice() {
        let mut options = Options {
            time: 7,
            compression: None,
        };
        let plain = arguments(&options);
        assert!(plain.contains(&"-T7".to_owned()));
        assert!(!plain.iter().any(|argument| argument.starts_with("-z")));
        options.compression = Some("lz4hc".into());
        assert!(arguments(&options).contains(&"-zlz4hc".to_owned()));
    }
}
