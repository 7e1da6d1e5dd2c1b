//! Makes signatures: for the imager and for tests, never on a node.

extern crate alloc;

use alloc::vec::Vec;
use core::fmt;

use ed25519_dalek::Signer;

use super::{Context, KeyCertificate, PublicKey, Signature, certified};

/// A private key, of a root or of a release.
pub struct SigningKey(ed25519_dalek::SigningKey);

/// A release key with its certificate: what signs builds.
#[derive(Debug)]
pub struct ReleaseKey {
    key: SigningKey,
    certificate: KeyCertificate,
}

impl SigningKey {
    /// From its 32 secret bytes, which must come from a random generator.
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        Self(ed25519_dalek::SigningKey::from_bytes(seed))
    }

    /// The public part.
    pub fn public(&self) -> PublicKey {
        PublicKey::new(self.0.verifying_key().to_bytes())
    }

    /// As a root key, certifies a release key.
    pub fn certify(&self, key: PublicKey, epoch: u32) -> KeyCertificate {
        KeyCertificate {
            key,
            epoch,
            root: self.public(),
            signature: self.sign(Context::KeyCertificate, &certified(key, epoch)),
        }
    }

    fn sign(&self, context: Context, message: &[u8]) -> [u8; 64] {
        let whole: Vec<u8> = [context.domain(), message].concat();
        self.0.sign(&whole).to_bytes()
    }
}

impl ReleaseKey {
    /// Joins a key with its certificate; `None` when the certificate is of another key.
    pub fn new(key: SigningKey, certificate: KeyCertificate) -> Option<Self> {
        (key.public() == certificate.key).then_some(Self { key, certificate })
    }

    /// Signs a message.
    pub fn sign(&self, context: Context, message: &[u8]) -> Signature {
        Signature {
            certificate: self.certificate,
            signature: self.key.sign(context, message),
        }
    }

    /// Its certificate.
    pub const fn certificate(&self) -> &KeyCertificate {
        &self.certificate
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey(public {})", self.public())
    }
}
