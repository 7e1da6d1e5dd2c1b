//! Changes to a finished bundle, for tests of what a node must refuse.

use std::io::{self, Read, Write};

use keelson_bootstate::signature::ReleaseKey;

use super::signatures;
use crate::hash::Hash;
use crate::index::{ENTRY_SIZE, set_stored_hash, stored_len};
use crate::manifest::{Architecture, Manifest, ManifestError};
use crate::prefix::{Parts, ReadHeadError};

/// Why a bundle could not be changed.
#[derive(Debug, thiserror::Error)]
pub enum EditError {
    /// Its head cannot be read.
    #[error("cannot read the head of the bundle")]
    Head(#[source] ReadHeadError),
    /// Its manifest cannot be read.
    #[error("cannot read the manifest of the bundle")]
    Manifest(#[source] ManifestError),
    /// The changed manifest cannot be written.
    #[error("cannot write the manifest of the bundle")]
    Encode(#[source] serde_json::Error),
    /// Copying failed.
    #[error("cannot copy the bundle")]
    Copy(#[source] io::Error),
}

/// Copies a bundle with other claims about itself, signed by these keys.
///
/// # Errors
/// When the bundle cannot be read or the copy not written.
pub fn edit(
    mut from: impl Read,
    to: &mut impl Write,
    change: impl FnOnce(&mut Claims),
    keys: &[ReleaseKey],
) -> Result<(), EditError> {
    let mut parts = Parts::read(&mut from).map_err(EditError::Head)?;
    let mut manifest = Manifest::parse(&parts.manifest).map_err(EditError::Manifest)?;
    let mut claims = Claims {
        architecture: manifest.architecture,
        platform: manifest.platform,
    };
    change(&mut claims);
    manifest.architecture = claims.architecture;
    manifest.platform = claims.platform;
    parts.manifest = manifest.encode().map_err(EditError::Encode)?;
    parts.signatures = signatures(&parts.manifest, keys);
    to.write_all(&parts.encode()).map_err(EditError::Copy)?;
    io::copy(&mut from, to).map_err(EditError::Copy)?;
    Ok(())
}

/// What a bundle says about itself that its parts do not prove.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claims {
    /// Processors it is for.
    pub architecture: Architecture,
    /// Kind of machine it is for.
    pub platform: String,
}

/// Makes all hashes of stored bytes and all signatures of a changed bundle right again, so that a
/// fuzzer gets past them. `None` when it has no readable head.
pub fn sign_again(bundle: &[u8], keys: &[ReleaseKey]) -> Option<Vec<u8>> {
    let mut blocks = bundle;
    let mut parts = Parts::read(&mut blocks).ok()?;
    let mut stored = blocks;
    for entry in parts.index.as_chunks_mut::<ENTRY_SIZE>().0 {
        let Some((block, rest)) = stored_len(entry).and_then(|len| stored.split_at_checked(len))
        else {
            break;
        };
        set_stored_hash(entry, &Hash::of(block));
        stored = rest;
    }
    if let Ok(mut manifest) = Manifest::parse(&parts.manifest) {
        manifest.index_hash = Hash::of(&parts.index);
        parts.manifest = manifest.encode().ok()?;
    }
    parts.signatures = signatures(&parts.manifest, keys);
    Some([&parts.encode(), blocks].concat())
}
