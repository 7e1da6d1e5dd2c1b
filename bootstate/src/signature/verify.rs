//! Whether a signature counts.

use core::fmt;

use ed25519_dalek::{Signature as Ed25519, VerifyingKey};

use super::{Context, KeyCertificate, PublicKey, Signature, Trust, certified};

/// Why none of the signatures counts: what is wrong with the one that came closest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Untrusted {
    /// There is no signature.
    Unsigned,
    /// No root key that counts certified the release key.
    UnknownRoot,
    /// The certificate of the release key is forged.
    Certificate,
    /// The release key was withdrawn.
    Epoch {
        /// Its epoch.
        has: u32,
        /// The lowest that counts.
        minimum: u32,
    },
    /// The message is not what the release key signed.
    Signature,
}

impl Trust {
    /// Checks the signatures of a message; one that counts is enough, and its certificate is given
    /// back.
    pub fn check(
        &self,
        context: Context,
        message: &[u8],
        signatures: impl IntoIterator<Item = Signature>,
    ) -> Result<KeyCertificate, Untrusted> {
        let mut closest = Untrusted::Unsigned;
        for signature in signatures {
            match self.check_one(context, message, &signature) {
                Ok(()) => return Ok(signature.certificate),
                Err(reason) => closest = closest.max(reason),
            }
        }
        Err(closest)
    }

    fn check_one(
        &self,
        context: Context,
        message: &[u8],
        signature: &Signature,
    ) -> Result<(), Untrusted> {
        let certificate = &signature.certificate;
        self.check_certificate(certificate)?;
        let good = verifies(certificate.key, context, message, &signature.signature);
        good.then_some(()).ok_or(Untrusted::Signature)
    }

    /// Checks that a root key that counts certified a release key, and that the key was not
    /// withdrawn.
    pub fn check_certificate(&self, certificate: &KeyCertificate) -> Result<(), Untrusted> {
        let KeyCertificate {
            key,
            epoch,
            root,
            signature,
        } = certificate;
        if !self.roots().any(|known| known == *root) {
            return Err(Untrusted::UnknownRoot);
        }
        let message = certified(*key, *epoch);
        if !verifies(*root, Context::KeyCertificate, &message, signature) {
            return Err(Untrusted::Certificate);
        }
        if *epoch < self.minimum_epoch() {
            return Err(Untrusted::Epoch {
                has: *epoch,
                minimum: self.minimum_epoch(),
            });
        }
        Ok(())
    }
}

fn verifies(key: PublicKey, context: Context, message: &[u8], signature: &[u8; 64]) -> bool {
    let Ok(key) = VerifyingKey::from_bytes(&key.to_bytes()) else {
        return false;
    };
    // Under a weak key one signature fits many messages.
    if key.is_weak() {
        return false;
    }
    // In pieces, because a loader has no room to join context and message.
    let Ok(mut stream) = key.verify_stream(&Ed25519::from_bytes(signature)) else {
        return false;
    };
    stream.update(context.domain());
    stream.update(message);
    stream.finalize_and_verify().is_ok()
}

impl fmt::Display for Untrusted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unsigned => f.write_str("it is not signed"),
            Self::UnknownRoot => f.write_str("it is signed by a key that is not trusted here"),
            Self::Certificate => f.write_str("the certificate of the key that signed it is forged"),
            Self::Epoch { has, minimum } => write!(
                f,
                "the key that signed it was withdrawn (epoch {has}; {minimum} and later count)"
            ),
            Self::Signature => f.write_str("its signature is not of this content"),
        }
    }
}

impl core::error::Error for Untrusted {}
