//! Who vouches for a build: release keys, the root keys that certify them, and what they sign.
//!
//! A root key signs certificates of release keys; a release key signs slot headers and bundles. A
//! [`Trust`] names the root keys that count, so release keys change without touching a loader that
//! is never updated. Checking needs the feature `verify`, signing the feature `sign`.
//!
//! An entry of 256 bytes:
//!
//! | offset | size | field |
//! |---|---|---|
//! | 0 | 32 | release key |
//! | 32 | 4 | epoch of its certificate |
//! | 36 | 4 | zero |
//! | 40 | 32 | root key |
//! | 72 | 64 | the root key's signature over release key and epoch |
//! | 136 | 64 | the release key's signature over the message |
//! | 200 | 56 | zero |

mod trust;

#[cfg(feature = "sign")]
mod sign;
#[cfg(feature = "verify")]
mod verify;

use core::fmt;

use crate::words::{array_at, put, u32_at};

#[cfg(feature = "sign")]
pub use sign::{ReleaseKey, SigningKey};
pub use trust::{MAX_ROOTS, Trust, TrustError, TrustFile};
#[cfg(feature = "verify")]
pub use verify::Untrusted;

/// Bytes of a [`Signature`].
pub const SIGNATURE_SIZE: usize = 256;

/// Bytes of a [`KeyCertificate`]: the start of a [`Signature`].
pub const CERTIFICATE_SIZE: usize = 136;

const KEY: usize = 0;
const EPOCH: usize = 32;
const RESERVED: usize = 36;
const ROOT: usize = 40;
const BY_ROOT: usize = 72;
const BY_KEY: usize = 136;
const END: usize = 200;

/// What a signature is about. Its text is signed in front of the message, so that a signature for
/// one thing never counts for another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Context {
    /// The manifest of a bundle.
    BundleManifest,
    /// A release key with its epoch, signed by a root key.
    KeyCertificate,
    /// The first 128 bytes of a slot.
    SlotHeader,
}

/// An Ed25519 public key.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct PublicKey([u8; 32]);

/// A root key's word that a release key may sign.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyCertificate {
    /// The release key.
    pub key: PublicKey,
    /// Which generation of release keys it belongs to; a [`Trust`] names the first that counts.
    pub epoch: u32,
    /// The root key that signed.
    pub root: PublicKey,
    /// Its Ed25519 signature.
    pub signature: [u8; 64],
}

/// A signature with the certificate of the key that made it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Signature {
    /// Who signed.
    pub certificate: KeyCertificate,
    /// The Ed25519 signature over context and message.
    pub signature: [u8; 64],
}

impl Context {
    /// The bytes in front of the message.
    pub const fn domain(self) -> &'static [u8] {
        match self {
            Self::BundleManifest => b"keelson bundle manifest v1\0",
            Self::KeyCertificate => b"keelson key certificate v1\0",
            Self::SlotHeader => b"keelson slot header v1\0",
        }
    }
}

impl PublicKey {
    /// From its 32 bytes. Whether they are a point of the curve is seen when it is used.
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Its 32 bytes.
    pub const fn to_bytes(self) -> [u8; 32] {
        self.0
    }
}

impl KeyCertificate {
    /// Reads a certificate; `None` when bytes are missing or the reserved word is not zero.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        if u32_at(bytes, RESERVED)? != 0 {
            return None;
        }
        Some(Self {
            key: PublicKey(array_at(bytes, KEY)?),
            epoch: u32_at(bytes, EPOCH)?,
            root: PublicKey(array_at(bytes, ROOT)?),
            signature: array_at(bytes, BY_ROOT)?,
        })
    }

    /// Its bytes.
    pub fn encode(&self) -> [u8; CERTIFICATE_SIZE] {
        let mut bytes = [0; CERTIFICATE_SIZE];
        put(&mut bytes, KEY, &self.key.0);
        put(&mut bytes, EPOCH, &self.epoch.to_le_bytes());
        put(&mut bytes, ROOT, &self.root.0);
        put(&mut bytes, BY_ROOT, &self.signature);
        bytes
    }
}

/// What a root key signs, after the context: the release key and its epoch.
#[cfg(feature = "verify")]
fn certified(key: PublicKey, epoch: u32) -> [u8; 36] {
    let mut message = [0; 36];
    put(&mut message, 0, &key.0);
    put(&mut message, 32, &epoch.to_le_bytes());
    message
}

impl Signature {
    /// Reads an entry; `None` when bytes are missing, or reserved ones are not zero.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let entry: [u8; SIGNATURE_SIZE] = array_at(bytes, 0)?;
        if entry.iter().skip(END).any(|byte| *byte != 0) {
            return None;
        }
        Some(Self {
            certificate: KeyCertificate::decode(&entry)?,
            signature: array_at(&entry, BY_KEY)?,
        })
    }

    /// The bytes of the entry.
    pub fn encode(&self) -> [u8; SIGNATURE_SIZE] {
        let mut bytes = [0; SIGNATURE_SIZE];
        put(&mut bytes, 0, &self.certificate.encode());
        put(&mut bytes, BY_KEY, &self.signature);
        bytes
    }

    /// The entries of a list. One of zeros or the end of the bytes ends it; one that makes no sense
    /// is left out, as a signature that does not count.
    pub fn list(bytes: &[u8]) -> impl Iterator<Item = Self> + Clone {
        bytes
            .chunks_exact(SIGNATURE_SIZE)
            .take_while(|entry| entry.iter().any(|byte| *byte != 0))
            .filter_map(Self::decode)
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests;
