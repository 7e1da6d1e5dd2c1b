//! The head of a bundle: bytes from anywhere first, then what somebody we trust has signed.

use std::io::Read;

use keelson_bootstate::signature::{Context, KeyCertificate, Signature, Trust, Untrusted};
use keelson_bootstate::{HeaderError, SIGNED_SIZE, SlotHeader, SlotPage};

use crate::hash::Hash;
use crate::index::{self, Block, IndexError};
use crate::manifest::{Manifest, ManifestError, PartFacts};
use crate::prefix::{Parts, ReadHeadError};

/// A head as it was read: nobody knows yet who made it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnverifiedHead {
    parts: Parts,
}

/// The head of a bundle that counts here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    manifest: Manifest,
    header: SlotHeader,
    signer: KeyCertificate,
    blocks: Vec<Block>,
    /// Where each block starts in the file, and where the last one ends.
    positions: Vec<u64>,
}

/// Why a head is not used. Nothing of the bundle may be.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// The header of the slot and the manifest are not about the same system.
    #[error("the {field} in the manifest of the bundle is not the one in the header of its slot")]
    Contradiction {
        /// What differs.
        field: &'static str,
    },
    /// The header of the slot is none.
    #[error("the slot header in the bundle cannot be used")]
    Header(#[source] HeaderError),
    /// No loader would start the slot.
    #[error("no signature of the slot header in the bundle counts here")]
    HeaderSignature(#[source] Untrusted),
    /// The index cannot be used.
    #[error("the index of the bundle is wrong")]
    Index(#[source] IndexError),
    /// The index is not the one that was signed.
    #[error("the index of the bundle was changed: it does not have the signed hash")]
    IndexHash,
    /// The manifest cannot be used.
    #[error("the manifest of the bundle cannot be used")]
    Manifest(#[source] ManifestError),
    /// None of the signatures counts.
    #[error("no signature of the bundle counts here")]
    Signature(#[source] Untrusted),
}

impl UnverifiedHead {
    /// Reads the head, which is what a bundle starts with; the first block comes next. Takes at
    /// most some megabytes of memory, whatever the bytes are.
    ///
    /// # Errors
    /// When the bytes are no head, or end too early.
    pub fn read(from: &mut impl Read) -> Result<Self, ReadHeadError> {
        Parts::read(from).map(|parts| Self { parts })
    }

    /// What the bundle claims to be: for showing, never for deciding.
    ///
    /// # Errors
    /// When the manifest cannot be read.
    pub fn claims(&self) -> Result<Manifest, ManifestError> {
        Manifest::parse(&self.parts.manifest)
    }

    /// The signatures, of which none was checked.
    pub fn signatures(&self) -> impl Iterator<Item = Signature> {
        self.parts
            .signatures
            .iter()
            .filter_map(|entry| Signature::decode(entry))
    }

    /// Bytes of it: the first block starts there.
    pub fn size(&self) -> u64 {
        self.parts.len()
    }

    /// Checks that somebody in `trust` signed the bundle and the slot header in it, and that all
    /// its statements agree.
    ///
    /// # Errors
    /// When one of these does not hold.
    pub fn verify(self, trust: &Trust) -> Result<Head, VerifyError> {
        let context = Context::BundleManifest;
        let signer = trust
            .check(context, &self.parts.manifest, self.signatures())
            .map_err(VerifyError::Signature)?;
        let manifest = Manifest::parse(&self.parts.manifest).map_err(VerifyError::Manifest)?;
        let header = check_header(&manifest, trust)?;
        if Hash::of(&self.parts.index) != *manifest.index_hash() {
            return Err(VerifyError::IndexHash);
        }
        let blocks = index::parse(&self.parts.index, &manifest).map_err(VerifyError::Index)?;
        let mut end = self.parts.len();
        let mut positions = vec![end];
        for block in &blocks {
            end += u64::from(block.stored_len());
            positions.push(end);
        }
        Ok(Head {
            manifest,
            header,
            signer,
            blocks,
            positions,
        })
    }
}

/// The slot header must count for a loader too, and be about the same system.
fn check_header(manifest: &Manifest, trust: &Trust) -> Result<SlotHeader, VerifyError> {
    let page = manifest.header();
    let header = SlotHeader::decode(page).map_err(VerifyError::Header)?;
    let signed = page.get(..SIGNED_SIZE).unwrap_or_default();
    trust
        .check(Context::SlotHeader, signed, SlotPage::signatures(page))
        .map_err(VerifyError::HeaderSignature)?;
    let boot = PartFacts {
        size: header.payload_len(),
        sha256: (*header.sha256()).into(),
    };
    let root = PartFacts {
        size: header.root_len(),
        sha256: (*header.root_sha256()).into(),
    };
    let version = header.version().as_str();
    let same = [
        ("version", manifest.version().to_string() == version),
        ("build id", manifest.build() == header.build_id()),
        ("boot part", manifest.boot() == boot),
        ("root part", manifest.root() == root),
    ];
    match same.into_iter().find(|(_, same)| !same) {
        Some((field, _)) => Err(VerifyError::Contradiction { field }),
        None => Ok(header),
    }
}

impl Head {
    /// What was signed.
    pub const fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The header of the slot, as in [`Manifest::header`].
    pub const fn header(&self) -> &SlotHeader {
        &self.header
    }

    /// The certificate of the key that signed the manifest.
    pub const fn signer(&self) -> &KeyCertificate {
        &self.signer
    }

    /// All blocks, in the order in which they are stored.
    pub fn blocks(&self) -> &[Block] {
        &self.blocks
    }

    /// Where a block starts in the file: a transfer that was cut goes on there. For the number of
    /// blocks, where the last one ends.
    pub fn position(&self, block: usize) -> Option<u64> {
        self.positions.get(block).copied()
    }

    /// Bytes of the whole file.
    pub fn file_size(&self) -> u64 {
        self.positions.last().copied().unwrap_or_default()
    }
}
