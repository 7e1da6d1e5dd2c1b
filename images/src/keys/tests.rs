//! Keys in scratch folders.

use std::os::unix::fs::PermissionsExt;

use keelson_bootstate::signature::{Context, Untrusted};

use super::*;

const MESSAGE: &[u8] = b"a build";

struct Scratch {
    _above: tempfile::TempDir,
    folder: PathBuf,
}

impl Scratch {
    fn new() -> Self {
        let above = tempfile::tempdir().unwrap();
        let folder = above.path().join("some/keys");
        Keys::ensure(&folder, &|_| ()).unwrap();
        Self {
            _above: above,
            folder,
        }
    }

    fn load(&self) -> Keys {
        Keys::load(&self.folder).unwrap()
    }
}

/// What `old` signs, seen by who trusts `trust`.
fn counts(signer: &Keys, trust: &Trust) -> Result<u32, Untrusted> {
    let keys = signer.release();
    let signatures = keys
        .iter()
        .map(|key| key.sign(Context::SlotHeader, MESSAGE));
    let certificate = trust.check(Context::SlotHeader, MESSAGE, signatures)?;
    Ok(certificate.epoch)
}

#[test]
fn keys_are_made_once_and_for_the_owner_only() {
    let scratch = Scratch::new();
    let keys = scratch.load();
    assert_eq!(counts(&keys, keys.trust()), Ok(1));
    let again = Keys::ensure(&scratch.folder, &|_| panic!("made again")).unwrap();
    assert_eq!(again.certificates(), keys.certificates());
    let mode = |name: &str| {
        let metadata = fs::metadata(scratch.folder.join(name)).unwrap();
        metadata.permissions().mode() & 0o777
    };
    assert_eq!([mode(""), mode(ROOT), mode(RELEASE)], [0o700, 0o600, 0o600]);
    assert_eq!([mode(CERTIFICATE), mode(TRUST)], [0o644, 0o644]);
}

#[test]
fn a_rotation_keeps_old_builds_until_the_key_is_withdrawn() {
    let scratch = Scratch::new();
    let first = scratch.load();
    let second = Keys::rotate(&scratch.folder, false).unwrap();
    assert_ne!(first.certificates()[0].key, second.certificates()[0].key);
    // Nodes of the first build take the second, and the other way round.
    assert_eq!(counts(&second, first.trust()), Ok(2));
    assert_eq!(counts(&first, second.trust()), Ok(1));
    let third = Keys::rotate(&scratch.folder, true).unwrap();
    assert_eq!(counts(&third, first.trust()), Ok(3));
    let withdrawn = Untrusted::Epoch { has: 2, minimum: 3 };
    assert_eq!(counts(&second, third.trust()), Err(withdrawn));
}

#[test]
fn a_root_key_is_replaced_without_a_gap() {
    let scratch = Scratch::new();
    let old = scratch.load();
    let first_root = old.certificates()[0].root;
    let both = Keys::add_root(&scratch.folder).unwrap();
    assert_eq!(both.trust().roots().count(), 2);
    assert_eq!(counts(&both, old.trust()), Ok(1));
    let new = Keys::drop_root(&scratch.folder, first_root).unwrap();
    assert_eq!(counts(&new, both.trust()), Ok(1));
    assert_eq!(counts(&new, old.trust()), Err(Untrusted::UnknownRoot));
    let last = new.certificates()[0].root;
    let error = Keys::drop_root(&scratch.folder, last).unwrap_err();
    assert!(matches!(error, KeysError::Trust { .. }), "{error}");
    assert_eq!(counts(&scratch.load(), both.trust()), Ok(1));
}

#[test]
fn without_the_root_key_builds_are_signed_but_no_key_is_certified() {
    let scratch = Scratch::new();
    fs::remove_file(scratch.folder.join(ROOT)).unwrap();
    let keys = scratch.load();
    assert_eq!(counts(&keys, keys.trust()), Ok(1));
    let error = Keys::rotate(&scratch.folder, false)
        .unwrap_err()
        .to_string();
    assert!(error.contains("bring root.key back"), "{error}");
}

#[test]
fn an_interrupted_rotation_is_mended_by_the_next() {
    let scratch = Scratch::new();
    new_key(&scratch.folder.join(RELEASE)).unwrap();
    let error = Keys::load(&scratch.folder).unwrap_err().to_string();
    assert!(error.contains("keelson-build keys rotate"), "{error}");
    let keys = Keys::rotate(&scratch.folder, false).unwrap();
    assert_eq!(counts(&keys, keys.trust()), Ok(2));
}

#[test]
fn what_is_no_key_is_named() {
    let scratch = Scratch::new();
    for (name, expected) in [
        (RELEASE, "is not an Ed25519 private key"),
        (CERTIFICATE, "is not a list of certificates"),
        (TRUST, "is not a list of trusted keys"),
    ] {
        let path = scratch.folder.join(name);
        let good = fs::read(&path).unwrap();
        fs::write(&path, b"odd").unwrap();
        let error = Keys::load(&scratch.folder).unwrap_err().to_string();
        assert!(error.contains(expected) && error.contains(name), "{error}");
        fs::write(&path, good).unwrap();
    }
}
