//! Making bundles: for the imager and for tests.
//!
//! The same system, recipe and keys always give the same bytes, whatever the number of threads.

mod base;
mod compress;
mod edit;

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use keelson_bootstate::signature::{Context, ReleaseKey, SIGNATURE_SIZE};
use keelson_bootstate::{HEADER_SIZE, HeaderError, SlotHeader};
use semver::Version;
use sha2::{Digest, Sha256};

use self::base::BaseParts;
pub use self::compress::Level;
use self::compress::{Packed, as_len, pack};
pub use self::edit::{Claims, EditError, edit, sign_again};
use crate::blocks::ReadAt;
use crate::hash::Hash;
use crate::index::{Part, Place};
use crate::manifest::{Architecture, Manifest, PartFacts};
use crate::prefix::{MAGIC, Parts, VERSION};

/// One slot with what is in it.
#[derive(Clone, Copy)]
pub struct System<'a> {
    /// The header of the slot, signed.
    pub header: &'a [u8; HEADER_SIZE],
    /// What follows the header.
    pub boot: &'a (dyn ReadAt + Sync),
    /// The root file system with its hash tree.
    pub root: &'a (dyn ReadAt + Sync),
}

/// What the bundle says about a system beyond its header, and how it is packed.
#[derive(Debug, Clone)]
pub struct Recipe {
    /// Processors it is for.
    pub architecture: Architecture,
    /// Kind of machine it is for.
    pub platform: String,
    /// The oldest version that it can replace.
    pub minimum_version: Version,
    /// Versions of the parts that keep something on a node's disk: `kubernetes`, `etcd`, `kine`,
    /// `containerd`, and `state` for the format of STATE.
    pub components: BTreeMap<String, String>,
    /// When it was made, such as `2026-01-01T00:00:00Z`.
    pub created: String,
    /// Plain bytes of a block.
    pub block_size: u32,
    /// How hard it is compressed.
    pub level: Level,
}

/// Why a bundle could not be made.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// zstd failed.
    #[error("cannot compress the {part} part: {reason}")]
    Compress {
        /// Which part.
        part: Part,
        /// What zstd said.
        reason: &'static str,
    },
    /// The header of the slot cannot be used.
    #[error("the header of the slot cannot be used")]
    Header(#[source] HeaderError),
    /// The version in the header is none.
    #[error("the version in the header of the slot is {text:?}")]
    HeaderVersion {
        /// What it is.
        text: String,
        /// What is wrong with it.
        source: semver::Error,
    },
    /// The manifest would not be readable.
    #[error("the manifest cannot be written")]
    Manifest(#[source] serde_json::Error),
    /// A part is not what its header says.
    #[error("the {part} part does not have the hash in the header of the slot")]
    Part {
        /// Which part.
        part: Part,
    },
    /// A part cannot be read.
    #[error("cannot read the {part} part")]
    Read {
        /// Which part.
        part: Part,
        /// What the system said.
        source: io::Error,
    },
    /// The bundle cannot be written.
    #[error("cannot write the bundle")]
    Write(#[source] io::Error),
}

/// Writes a bundle with the system, signed by these keys; with a base, a delta against it.
///
/// # Errors
/// When the parts cannot be read or are not what the header says, or the bundle cannot be written.
pub fn write(
    system: System<'_>,
    base: Option<System<'_>>,
    recipe: &Recipe,
    keys: &[ReleaseKey],
    to: &mut impl Write,
) -> Result<Manifest, WriteError> {
    let mut manifest = describe(system, recipe)?;
    let base = base.map(Facts::of).transpose()?;
    manifest.base = base.as_ref().map(|base| base.header.build_id());
    check(Part::Boot, system.boot, manifest.boot)?;
    check(Part::Root, system.root, manifest.root)?;
    let base = base
        .map(|base| BaseParts::new((base.system.boot, base.boot), (base.system.root, base.root)))
        .transpose()?;

    let packed = pack_all(system, &Place::all(&manifest), base.as_ref(), recipe.level)?;
    let index: Vec<u8> = packed
        .iter()
        .flat_map(|(block, _)| block.encode())
        .collect();
    manifest.index_hash = Hash::of(&index);
    let manifest_bytes = manifest.encode().map_err(WriteError::Manifest)?;
    let head = Parts {
        signatures: signatures(&manifest_bytes, keys),
        manifest: manifest_bytes,
        index,
    };
    to.write_all(&head.encode()).map_err(WriteError::Write)?;
    for (_, stored) in &packed {
        to.write_all(stored).map_err(WriteError::Write)?;
    }
    Ok(manifest)
}

fn signatures(manifest: &[u8], keys: &[ReleaseKey]) -> Vec<[u8; SIGNATURE_SIZE]> {
    keys.iter()
        .map(|key| key.sign(Context::BundleManifest, manifest).encode())
        .collect()
}

/// The manifest of a system, but for what its blocks say.
fn describe(system: System<'_>, recipe: &Recipe) -> Result<Manifest, WriteError> {
    let facts = Facts::of(system)?;
    let text = facts.header.version().to_string();
    let version = text
        .parse()
        .map_err(|source| WriteError::HeaderVersion { text, source })?;
    Ok(Manifest {
        name: NAME.into(),
        version,
        architecture: recipe.architecture,
        platform: recipe.platform.clone(),
        minimum_version: recipe.minimum_version.clone(),
        build: facts.header.build_id(),
        base: None,
        components: recipe.components.clone(),
        created: recipe.created.clone(),
        header: Box::new(*system.header),
        boot: facts.boot,
        root: facts.root,
        block_size: recipe.block_size,
        index_hash: Hash::of(&[]),
    })
}

const NAME: &str = "keelson";

/// A system with what its header says.
struct Facts<'a> {
    system: System<'a>,
    header: SlotHeader,
    boot: PartFacts,
    root: PartFacts,
}

impl<'a> Facts<'a> {
    fn of(system: System<'a>) -> Result<Self, WriteError> {
        let header = SlotHeader::decode(system.header).map_err(WriteError::Header)?;
        Ok(Self {
            boot: PartFacts {
                size: header.payload_len(),
                sha256: (*header.sha256()).into(),
            },
            root: PartFacts {
                size: header.root_len(),
                sha256: (*header.root_sha256()).into(),
            },
            system,
            header,
        })
    }
}

fn check(part: Part, from: &dyn ReadAt, facts: PartFacts) -> Result<(), WriteError> {
    let mut hash = Sha256::new();
    let mut chunk = vec![0; 1024 * 1024];
    let mut offset = 0;
    while offset < facts.size {
        let len = as_len(facts.size - offset).min(chunk.len());
        let (bytes, _) = chunk.split_at_mut(len);
        from.read_exact_at(bytes, offset)
            .map_err(|source| WriteError::Read { part, source })?;
        hash.update(&*bytes);
        offset += u64::try_from(len).unwrap_or(u64::MAX);
    }
    let found: [u8; 32] = hash.finalize().into();
    if Hash::from(found) == facts.sha256 {
        Ok(())
    } else {
        Err(WriteError::Part { part })
    }
}

/// Packs on every processor; the order of the result is that of the places.
fn pack_all(
    system: System<'_>,
    places: &[Place],
    base: Option<&BaseParts<'_>>,
    level: Level,
) -> Result<Vec<Packed>, WriteError> {
    let next = AtomicUsize::new(0);
    let done = Mutex::new(Vec::with_capacity(places.len()));
    let work = || {
        while let number = next.fetch_add(1, Ordering::Relaxed)
            && let Some(place) = places.get(number)
        {
            let part = match place.part {
                Part::Boot => system.boot,
                Part::Root => system.root,
            };
            let packed = pack(*place, part, base, level);
            let failed = packed.is_err();
            done.lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push((number, packed));
            if failed {
                next.store(places.len(), Ordering::Relaxed);
            }
        }
    };
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(work);
        }
    });
    let mut done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    done.sort_by_key(|(number, _)| *number);
    done.into_iter().map(|(_, packed)| packed).collect()
}

impl Parts {
    fn encode(&self) -> Vec<u8> {
        // Longer than 32 bits is refused by whoever reads it.
        let number = |len: usize| u32::try_from(len).unwrap_or(u32::MAX).to_le_bytes();
        let mut bytes = MAGIC.to_vec();
        bytes.extend(VERSION.to_le_bytes());
        bytes.extend(number(self.manifest.len()));
        bytes.extend(number(self.signatures.len()));
        bytes.extend(number(self.index.len()));
        bytes.extend(&self.manifest);
        bytes.extend(self.signatures.as_flattened());
        bytes.extend(&self.index);
        bytes
    }
}

impl std::fmt::Debug for System<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("System").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
