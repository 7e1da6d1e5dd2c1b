//! The first bytes of a bundle, read as they come: nothing here is trusted yet.

use std::io::{self, Read};

use keelson_bootstate::signature::SIGNATURE_SIZE;

/// What a bundle begins with.
pub(crate) const MAGIC: [u8; 8] = *b"KEELBNDL";
/// The only version of the format.
pub(crate) const VERSION: u32 = 1;
/// Bytes before the manifest.
const PREFIX_SIZE: usize = 24;
/// As many as fit into a slot header.
const MAX_SIGNATURES: u32 = 7;
/// Two thirds of a manifest is the slot header in base64 (5464 bytes).
const MAX_MANIFEST: u32 = 16 * 1024;
/// The entries of the largest system in the smallest blocks: 576 MiB in blocks of 64 KiB are
/// 9216 entries of 96 bytes.
const MAX_INDEX: u32 = 1024 * 1024;

/// Why the head of a bundle cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadHeadError {
    /// The file ends too early.
    #[error("the bundle ends inside of its {part}: the file is not complete")]
    Ended {
        /// The part of the head that is cut off.
        part: &'static str,
    },
    /// A length in the head is not possible.
    #[error("the bundle says that its {part} has {length} bytes; at most {most} are possible")]
    Length {
        /// The part of the head.
        part: &'static str,
        /// What the file says.
        length: u64,
        /// The limit.
        most: u64,
    },
    /// The file is something else.
    #[error("this is not an update bundle: it does not begin with KEELBNDL")]
    NotABundle,
    /// The source of the bytes failed.
    #[error("cannot read the {part} of the bundle")]
    Read {
        /// The part of the head.
        part: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// The format is a later one.
    #[error("the bundle has format {0}; this program knows format {VERSION}")]
    Version(u32),
}

/// The parts of a head, with lengths in bounds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Parts {
    pub(crate) manifest: Vec<u8>,
    pub(crate) signatures: Vec<[u8; SIGNATURE_SIZE]>,
    pub(crate) index: Vec<u8>,
}

impl Parts {
    pub(crate) fn read(from: &mut impl Read) -> Result<Self, ReadHeadError> {
        let mut prefix = [0; PREFIX_SIZE];
        fill(from, &mut prefix, "first 24 bytes")?;
        let (magic, numbers) = prefix.split_at(MAGIC.len());
        if magic != MAGIC {
            return Err(ReadHeadError::NotABundle);
        }
        let mut numbers = numbers
            .as_chunks()
            .0
            .iter()
            .map(|bytes| u32::from_le_bytes(*bytes));
        let mut number = || numbers.next().unwrap_or_default();
        let (version, manifest, signatures, index) = (number(), number(), number(), number());
        if version != VERSION {
            return Err(ReadHeadError::Version(version));
        }
        let manifest_len = bounded("manifest", manifest, MAX_MANIFEST)?;
        bounded("list of signatures", signatures, MAX_SIGNATURES)?;
        let index_len = bounded("index", index, MAX_INDEX)?;

        let mut manifest = vec![0; manifest_len];
        fill(from, &mut manifest, "manifest")?;
        let signatures = (0..signatures)
            .map(|_| {
                let mut entry = [0; SIGNATURE_SIZE];
                fill(from, &mut entry, "signatures").map(|()| entry)
            })
            .collect::<Result<_, _>>()?;
        let mut index = vec![0; index_len];
        fill(from, &mut index, "index")?;
        Ok(Self {
            manifest,
            signatures,
            index,
        })
    }

    /// Bytes of the head: the first block starts there.
    pub(crate) fn len(&self) -> u64 {
        let signatures = self.signatures.len() * SIGNATURE_SIZE;
        let bytes = PREFIX_SIZE + self.manifest.len() + signatures + self.index.len();
        u64::try_from(bytes).unwrap_or(u64::MAX)
    }
}

fn bounded(part: &'static str, length: u32, most: u32) -> Result<usize, ReadHeadError> {
    usize::try_from(length)
        .ok()
        .filter(|_| length <= most)
        .ok_or(ReadHeadError::Length {
            part,
            length: length.into(),
            most: most.into(),
        })
}

fn fill(from: &mut impl Read, to: &mut [u8], part: &'static str) -> Result<(), ReadHeadError> {
    from.read_exact(to).map_err(|source| match source.kind() {
        io::ErrorKind::UnexpectedEof => ReadHeadError::Ended { part },
        _ => ReadHeadError::Read { part, source },
    })
}
