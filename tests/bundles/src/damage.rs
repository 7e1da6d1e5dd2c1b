//! What can be wrong with a finished bundle.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use keelson_bootstate::signature::{ReleaseKey, SigningKey};
use keelson_bundle::writer::{self, EditError};
use keelson_bundle::{Architecture, Part, ReadHeadError, UnverifiedHead};

/// One way to spoil a bundle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Damage {
    /// One bit of the stored boot part is another.
    FlipBoot,
    /// One bit of the stored root part is another.
    FlipRoot,
    /// Signed by a key that nobody trusts.
    ForeignKey,
    /// Not signed.
    NoSignature,
    /// Cut in the middle.
    Truncated,
    /// Properly signed, for other processors.
    WrongArchitecture,
}

/// Why a bundle could not be spoiled.
#[derive(Debug, thiserror::Error)]
pub enum DamageError {
    /// A file cannot be read or written.
    #[error("cannot use {path}")]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The bundle has no readable head.
    #[error("cannot read the head of the bundle")]
    Head(#[source] ReadHeadError),
    /// The changed copy cannot be made.
    #[error("cannot change the bundle")]
    Edit(#[source] EditError),
}

impl Damage {
    /// All of them with their names.
    pub const ALL: [(&'static str, Self); 6] = [
        ("flip-boot", Self::FlipBoot),
        ("flip-root", Self::FlipRoot),
        ("foreign-key", Self::ForeignKey),
        ("no-signature", Self::NoSignature),
        ("truncated", Self::Truncated),
        ("wrong-architecture", Self::WrongArchitecture),
    ];

    /// Writes the spoiled copy of `bundle` to `to`. `keys` are those that signed it.
    ///
    /// # Errors
    /// When the bundle cannot be read or the copy not written.
    pub fn apply(self, bundle: &Path, to: &Path, keys: &[ReleaseKey]) -> Result<(), DamageError> {
        match self {
            Self::FlipBoot => flip(bundle, to, Part::Boot),
            Self::FlipRoot => flip(bundle, to, Part::Root),
            Self::ForeignKey => edit(bundle, to, &foreign_keys(), None),
            Self::NoSignature => edit(bundle, to, &[], None),
            Self::Truncated => truncate(bundle, to),
            Self::WrongArchitecture => edit(bundle, to, keys, Some(Architecture::Arm64)),
        }
    }
}

impl FromStr for Damage {
    type Err = ();

    fn from_str(name: &str) -> Result<Self, ()> {
        let found = Self::ALL.into_iter().find(|(known, _)| *known == name);
        found.map(|(_, damage)| damage).ok_or(())
    }
}

/// Anybody's.
fn foreign_keys() -> Vec<ReleaseKey> {
    let key = SigningKey::from_seed(&[0x42; 32]);
    let root = SigningKey::from_seed(&[0x43; 32]);
    let certificate = root.certify(key.public(), 1);
    ReleaseKey::new(key, certificate).into_iter().collect()
}

fn edit(
    bundle: &Path,
    to: &Path,
    keys: &[ReleaseKey],
    architecture: Option<Architecture>,
) -> Result<(), DamageError> {
    let from = File::open(bundle).map_err(file(bundle))?;
    let mut copy = File::create(to).map_err(file(to))?;
    let change = |claims: &mut writer::Claims| {
        claims.architecture = architecture.unwrap_or(claims.architecture);
    };
    writer::edit(from, &mut copy, change, keys).map_err(DamageError::Edit)
}

/// The parts lie one after the other: a bit of the first block, or of the last one.
fn flip(bundle: &Path, to: &Path, part: Part) -> Result<(), DamageError> {
    fs::copy(bundle, to).map_err(file(to))?;
    let mut copy = OpenOptions::new()
        .read(true)
        .write(true)
        .open(to)
        .map_err(file(to))?;
    let head = UnverifiedHead::read(&mut copy).map_err(DamageError::Head)?;
    let at = match part {
        Part::Boot => head.size() + 100,
        Part::Root => copy.metadata().map_err(file(to))?.len() - 100,
    };
    let mut byte = [0];
    copy.read_exact_at(&mut byte, at).map_err(file(to))?;
    let [byte] = byte;
    copy.write_all_at(&[byte ^ 0x10], at).map_err(file(to))
}

fn truncate(bundle: &Path, to: &Path) -> Result<(), DamageError> {
    let size = fs::copy(bundle, to).map_err(file(to))?;
    let copy = OpenOptions::new().write(true).open(to).map_err(file(to))?;
    copy.set_len(size / 2).map_err(file(to))
}

fn file(path: &Path) -> impl FnOnce(io::Error) -> DamageError + use<> {
    let path = path.to_owned();
    move |source| DamageError::File { path, source }
}

#[cfg(test)]
mod tests;
