//! What stage 1 found out about this boot, handed to stage 2 and the storage helper as a file.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::wire::Phase;

/// Facts about the disk and slot this boot came from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BootFacts {
    /// Whole disk, for example `/dev/vda`.
    pub disk: String,
    /// Logical sector size in bytes: 512 or 4096.
    pub sector_size: u32,
    /// Running slot: `a` or `b`.
    pub slot: String,
    /// What started the kernel, and what it told about it.
    #[serde(default)]
    pub loader: LoaderFacts,
    /// Device of each partition by its GPT name; `None` for one that does not exist yet.
    pub partitions: BTreeMap<String, Option<String>>,
    /// What stage 1 finished, with times since the kernel started.
    #[serde(default)]
    pub phases: Vec<Phase>,
}

/// What the boot loader told about this boot.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LoaderFacts {
    /// Which loader it was.
    pub kind: LoaderKind,
    /// Why it started this slot; `None` when it did not say.
    #[serde(default)]
    pub why: Option<StartReason>,
    /// One line for people for each slot that was skipped and for everything else unusual.
    #[serde(default)]
    pub report: Vec<String>,
}

/// The program that started the kernel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LoaderKind {
    /// Our EFI program; its tries are in TRIES.
    Efi,
    /// GRUB, on a BIOS machine; its tries are in GRUBENV.
    Grub,
    /// None of ours: the kernel was started directly or over the network. No try was counted.
    #[default]
    None,
}

/// Why a loader started a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StartReason {
    /// It is the default.
    Default,
    /// The slot that should have been started cannot be.
    Other,
    /// It is on trial, and the try was counted.
    Trial,
}

impl StartReason {
    /// By the word that loaders use.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        match word {
            "default" => Some(Self::Default),
            "other" => Some(Self::Other),
            "trial" => Some(Self::Trial),
            _ => None,
        }
    }
}

impl BootFacts {
    /// Where stage 1 leaves the file.
    pub const PATH: &str = "/run/keelson/boot.json";

    /// Reads the file of this boot.
    pub fn read() -> Result<Self, BootFactsError> {
        Self::read_from(Path::new(Self::PATH))
    }

    /// Reads the file at another place (tests).
    pub fn read_from(path: &Path) -> Result<Self, BootFactsError> {
        let text = fs::read(path).map_err(|source| BootFactsError::Read {
            path: path.to_owned(),
            source,
        })?;
        serde_json::from_slice(&text).map_err(|source| BootFactsError::Parse {
            path: path.to_owned(),
            source,
        })
    }

    /// Device of the partition with this GPT name, if the disk has it.
    pub fn partition(&self, name: &str) -> Option<&str> {
        self.partitions.get(name)?.as_deref()
    }
}

/// Why the facts of this boot cannot be had.
#[derive(Debug, Error)]
pub enum BootFactsError {
    /// The file could not be read.
    #[error("cannot read boot facts from {}", path.display())]
    Read {
        /// File that was tried.
        path: PathBuf,
        /// Cause.
        source: io::Error,
    },
    /// The file is not what stage 1 writes.
    #[error("boot facts in {} are malformed", path.display())]
    Parse {
        /// File that was read.
        path: PathBuf,
        /// Cause.
        source: serde_json::Error,
    },
}
