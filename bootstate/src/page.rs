//! The first 4096 bytes of a slot: header, signatures, and what GRUB reads instead of them.
//!
//! | offset | size | field |
//! |---|---|---|
//! | 0 | 128 | [`SlotHeader`] |
//! | 128 | 7 × 256 | [`Signature`] entries; one of zeros ends the list |
//! | 1920 | 128 | zero |
//! | 2048 | 512 | list for GRUB's `hashsum --check`, text |
//! | 2560 | 1536 | GRUB script of the slot, text |
//!
//! GRUB cannot check our signatures and cannot read binary fields, so it has a sector and a script
//! of its own. Both texts are padded with line feeds.

use core::fmt;

use crate::header::{HEADER_SIZE, SIGNED_SIZE, SlotHeader};
use crate::signature::{SIGNATURE_SIZE, Signature};
use crate::words::put;

/// Most signatures of a slot.
pub const MAX_SIGNATURES: usize = 7;

/// Where GRUB's list of hashes starts; a sector of 512 bytes, so that GRUB can name it.
pub const GRUB_HASHES_OFFSET: usize = 2048;

/// Bytes of GRUB's list of hashes.
pub const GRUB_HASHES_SIZE: usize = 512;

/// Where GRUB's script starts; a sector of 512 bytes too.
pub const GRUB_SCRIPT_OFFSET: usize = GRUB_HASHES_OFFSET + GRUB_HASHES_SIZE;

/// Bytes of GRUB's script.
pub const GRUB_SCRIPT_SIZE: usize = HEADER_SIZE - GRUB_SCRIPT_OFFSET;

const SIGNATURES_END: usize = SIGNED_SIZE + MAX_SIGNATURES * SIGNATURE_SIZE;

/// The bytes in front of a slot's payload.
#[derive(Clone, PartialEq, Eq)]
pub struct SlotPage([u8; HEADER_SIZE]);

/// What does not fit into a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PageError {
    /// The list of hashes for GRUB is longer than [`GRUB_HASHES_SIZE`].
    GrubHashes {
        /// Its length.
        len: usize,
    },
    /// The script for GRUB is longer than [`GRUB_SCRIPT_SIZE`].
    GrubScript {
        /// Its length.
        len: usize,
    },
    /// A text for GRUB has characters that it would take for something else.
    NotPlainText,
    /// There are more than [`MAX_SIGNATURES`].
    Signatures {
        /// How many.
        count: usize,
    },
}

impl SlotPage {
    /// A page with this header, no signature, and nothing for GRUB.
    pub fn new(header: &SlotHeader) -> Self {
        let mut bytes = [0; HEADER_SIZE];
        put(&mut bytes, 0, &header.encode());
        Self(bytes)
    }

    /// The same page with these signatures of its header.
    pub fn with_signatures(mut self, signatures: &[Signature]) -> Result<Self, PageError> {
        if signatures.len() > MAX_SIGNATURES {
            return Err(PageError::Signatures {
                count: signatures.len(),
            });
        }
        let room = self.0.get_mut(SIGNED_SIZE..SIGNATURES_END);
        let room = room.unwrap_or_default();
        room.fill(0);
        for (entry, signature) in room.chunks_exact_mut(SIGNATURE_SIZE).zip(signatures) {
            entry.copy_from_slice(&signature.encode());
        }
        Ok(self)
    }

    /// The same page with these texts for GRUB: lines of printable ASCII characters.
    pub fn with_grub(mut self, hashes: &str, script: &str) -> Result<Self, PageError> {
        let plain = |c: u8| c == b'\n' || c == b' ' || c.is_ascii_graphic();
        if !hashes.bytes().chain(script.bytes()).all(plain) {
            return Err(PageError::NotPlainText);
        }
        // One line feed at least ends the last line.
        if hashes.len() >= GRUB_HASHES_SIZE {
            return Err(PageError::GrubHashes { len: hashes.len() });
        }
        if script.len() >= GRUB_SCRIPT_SIZE {
            return Err(PageError::GrubScript { len: script.len() });
        }
        if let Some(room) = self.0.get_mut(GRUB_HASHES_OFFSET..) {
            room.fill(b'\n');
        }
        put(&mut self.0, GRUB_HASHES_OFFSET, hashes.as_bytes());
        put(&mut self.0, GRUB_SCRIPT_OFFSET, script.as_bytes());
        Ok(self)
    }

    /// The bytes to write.
    pub const fn as_bytes(&self) -> &[u8; HEADER_SIZE] {
        &self.0
    }

    /// The signatures in the first bytes of a slot.
    pub fn signatures(page: &[u8]) -> impl Iterator<Item = Signature> + Clone {
        Signature::list(page.get(SIGNED_SIZE..SIGNATURES_END).unwrap_or_default())
    }
}

impl fmt::Debug for SlotPage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = Self::signatures(&self.0).count();
        write!(
            f,
            "SlotPage({:?}, {count} signatures)",
            SlotHeader::decode(&self.0)
        )
    }
}

impl fmt::Display for PageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::GrubHashes { len } => write!(
                f,
                "the list of hashes for GRUB has {len} bytes; fewer than {GRUB_HASHES_SIZE} fit"
            ),
            Self::GrubScript { len } => write!(
                f,
                "the script for GRUB has {len} bytes; fewer than {GRUB_SCRIPT_SIZE} fit"
            ),
            Self::NotPlainText => f.write_str("a text for GRUB is not plain ASCII"),
            Self::Signatures { count } => {
                write!(f, "{count} signatures; {MAX_SIGNATURES} fit")
            }
        }
    }
}

impl core::error::Error for PageError {}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use super::*;
    use crate::header::tests::header;
    use crate::signature::{KeyCertificate, PublicKey};

    fn signature(byte: u8) -> Signature {
        Signature {
            certificate: KeyCertificate {
                key: PublicKey::new([byte; 32]),
                epoch: 1,
                root: PublicKey::new([2; 32]),
                signature: [3; 64],
            },
            signature: [4; 64],
        }
    }

    #[test]
    fn everything_is_where_loaders_look_for_it() {
        let signatures = [signature(1), signature(2)];
        let page = SlotPage::new(&header(5, 1))
            .with_signatures(&signatures)
            .and_then(|page| page.with_grub("hash  file\n", "boot"))
            .unwrap();
        let bytes = page.as_bytes();
        assert_eq!(bytes[..128], header(5, 1).encode());
        assert_eq!(bytes[128..384], signatures[0].encode());
        assert!(bytes[640..2048].iter().all(|b| *b == 0));
        assert_eq!(&bytes[2048..2060], b"hash  file\n\n");
        assert_eq!(&bytes[2558..2566], b"\n\nboot\n\n");
        assert_eq!(bytes[4095], b'\n');
        assert_eq!(SlotPage::signatures(bytes).collect::<Vec<_>>(), signatures);
        assert_eq!(SlotPage::signatures(&bytes[..1000]).count(), 0);
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let page = SlotPage::new(&header(5, 1));
        assert!(page.clone().with_signatures(&[signature(1); 7]).is_ok());
        assert_eq!(
            page.clone().with_signatures(&[signature(1); 8]),
            Err(PageError::Signatures { count: 8 })
        );
        assert!(page.clone().with_grub(&"a".repeat(511), "").is_ok());
        assert_eq!(
            page.clone().with_grub(&"a".repeat(512), ""),
            Err(PageError::GrubHashes { len: 512 })
        );
        assert!(page.clone().with_grub("", &"a".repeat(1535)).is_ok());
        assert_eq!(
            page.clone().with_grub("", &"a".repeat(1536)),
            Err(PageError::GrubScript { len: 1536 })
        );
        for text in ["\0", "ü", "\r\n"] {
            let error = page.clone().with_grub("", text);
            assert_eq!(error, Err(PageError::NotPlainText));
        }
    }

    #[test]
    fn seven_signatures_are_all_read() {
        let all: [Signature; 7] = core::array::from_fn(|n| signature(u8::try_from(n).unwrap() + 1));
        let page = SlotPage::new(&header(5, 1)).with_signatures(&all).unwrap();
        assert_eq!(
            SlotPage::signatures(page.as_bytes()).collect::<Vec<_>>(),
            all
        );
    }
}
