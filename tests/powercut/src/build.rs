//! Small builds: everything a slot of a real one has, in a few sectors.

use keelson_bootstate::signature::{Context, ReleaseKey};
use keelson_bootstate::{BuildId, HeaderError, PageError, SlotHeader, SlotHeaderFields, SlotPage};
use keelson_images::grub;
use sha2::{Digest, Sha256};
use thiserror::Error;

use crate::points::Random;

/// More than eight sectors, so that payload and root part are written in several pieces.
const PAYLOAD: usize = 48 * 1024;
const ROOT: usize = 40 * 1024;

/// The content of a slot.
#[derive(Clone, Debug)]
pub struct Build {
    /// Its version.
    pub version: String,
    /// Which build it is.
    pub id: BuildId,
    /// What is in front of the payload.
    pub page: SlotPage,
    /// Noise: no loader starts it.
    pub payload: Vec<u8>,
    /// The root part.
    pub root: Vec<u8>,
}

/// Why there is no build.
#[derive(Debug, Error)]
pub enum BuildError {
    /// Its header.
    #[error("no header for a small build")]
    Header(#[source] HeaderError),
    /// What is in front of its payload.
    #[error("no page for a small build")]
    Page(#[source] PageError),
}

impl Build {
    /// A signed build; other bytes for each version.
    pub fn small(version: &str, key: &ReleaseKey) -> Result<Self, BuildError> {
        let seed = version.bytes().fold(7, |seed: u64, byte| {
            seed.wrapping_mul(31).wrapping_add(u64::from(byte))
        });
        let mut random = Random(seed);
        let payload = random.bytes(PAYLOAD);
        let root = random.bytes(ROOT);
        let (sha256, root_sha256) = (hash(&payload), hash(&root));
        let header = SlotHeader::new(SlotHeaderFields {
            payload_len: length(&payload),
            sha256,
            root_len: length(&root),
            root_sha256,
            version,
        })
        .map_err(BuildError::Header)?;
        let script = format!("echo \"{}\"\n", Self::word(version));
        let signature = key.sign(Context::SlotHeader, &header.encode());
        let page = SlotPage::new(&header)
            .with_signatures(&[signature])
            .and_then(|page| page.with_grub(&grub::check_list(&payload, &script), &script))
            .map_err(BuildError::Page)?;
        Ok(Self {
            version: version.to_owned(),
            id: header.build_id(),
            page,
            payload,
            root,
        })
    }

    /// What GRUB prints when it runs the script of the slot that holds this version.
    pub fn word(version: &str) -> String {
        format!("powercut: script of {version}")
    }
}

fn hash(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

fn length(bytes: &[u8]) -> u64 {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use keelson_bootstate::signature::{SigningKey, Trust};

    use super::*;

    fn key() -> ReleaseKey {
        let (root, release) = (
            SigningKey::from_seed(&[1; 32]),
            SigningKey::from_seed(&[2; 32]),
        );
        let certificate = root.certify(release.public(), 1);
        ReleaseKey::new(release, certificate).unwrap()
    }

    #[test]
    fn a_small_build_is_what_loaders_want() {
        let (one, two) = (
            Build::small("1.0.0", &key()).unwrap(),
            Build::small("2.0.0", &key()).unwrap(),
        );
        assert_ne!(one.id, two.id);
        let header = SlotHeader::decode(one.page.as_bytes()).unwrap();
        assert_eq!(header.build_id(), one.id);
        assert_eq!(header.root_len(), length(&one.root));
        let trust = Trust::new(&[SigningKey::from_seed(&[1; 32]).public()], 1).unwrap();
        let signatures = SlotPage::signatures(one.page.as_bytes());
        let signed = trust.check(Context::SlotHeader, &header.encode(), signatures);
        assert!(signed.is_ok(), "{signed:?}");
    }
}
