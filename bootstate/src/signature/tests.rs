//! Signatures by keys made here.

use proptest::prelude::{any, prop_assert, prop_assert_eq, proptest};
use std::vec::Vec;

use super::*;

fn key(seed: u8) -> SigningKey {
    SigningKey::from_seed(&[seed; 32])
}

fn release(root: u8, seed: u8, epoch: u32) -> ReleaseKey {
    let key = key(seed);
    let certificate = super::tests::key(root).certify(key.public(), epoch);
    ReleaseKey::new(key, certificate).unwrap()
}

fn trust(roots: &[u8], minimum_epoch: u32) -> Trust {
    let roots: Vec<PublicKey> = roots.iter().map(|seed| key(*seed).public()).collect();
    Trust::new(&roots, minimum_epoch).unwrap()
}

const MESSAGE: &[u8] = b"what is signed";

#[test]
fn one_signature_that_counts_is_enough() {
    let foreign = release(9, 10, 5).sign(Context::SlotHeader, MESSAGE);
    let ours = release(1, 2, 5).sign(Context::SlotHeader, MESSAGE);
    let trust = trust(&[1, 3], 5);
    assert_eq!(
        trust.check(Context::SlotHeader, MESSAGE, [foreign, ours]),
        Ok(ours.certificate)
    );
}

#[test]
fn every_reason_against_a_signature() {
    let good = release(1, 2, 5).sign(Context::SlotHeader, MESSAGE);
    let check = |trust: &Trust, context, message: &[u8], signatures: &[Signature]| {
        trust.check(context, message, signatures.iter().copied())
    };
    let ours = trust(&[1], 5);
    let context = Context::SlotHeader;
    assert_eq!(
        check(&ours, context, MESSAGE, &[]),
        Err(Untrusted::Unsigned)
    );
    assert_eq!(
        check(&trust(&[2, 3], 0), context, MESSAGE, &[good]),
        Err(Untrusted::UnknownRoot)
    );
    let withdrawn = Untrusted::Epoch { has: 5, minimum: 6 };
    assert_eq!(
        check(&trust(&[1], 6), context, MESSAGE, &[good]),
        Err(withdrawn)
    );
    let mut later = good;
    later.certificate.epoch = 6;
    assert_eq!(
        check(&ours, context, MESSAGE, &[later]),
        Err(Untrusted::Certificate)
    );
    let mut other_key = good;
    other_key.certificate.key = key(7).public();
    assert_eq!(
        check(&ours, context, MESSAGE, &[other_key]),
        Err(Untrusted::Certificate)
    );
    for (context, message) in [
        (Context::BundleManifest, MESSAGE),
        (Context::SlotHeader, &b"something else"[..]),
    ] {
        assert_eq!(
            check(&ours, context, message, &[good]),
            Err(Untrusted::Signature)
        );
    }
    // The reason shown is the one of the signature that came closest.
    let foreign = release(9, 10, 5).sign(context, MESSAGE);
    assert_eq!(
        check(&ours, context, b"x", &[good, foreign]),
        Err(Untrusted::Signature)
    );
}

#[test]
fn a_root_key_does_not_sign_builds_and_a_certificate_belongs_to_its_key() {
    let root = key(1);
    let certificate = root.certify(key(2).public(), 1);
    assert!(ReleaseKey::new(key(3), certificate).is_none());
    // A message that is a certificate's content is still no certificate.
    let message = certified(key(2).public(), 1);
    let signed = release(1, 2, 1).sign(Context::SlotHeader, &message);
    let forged = KeyCertificate {
        key: key(2).public(),
        epoch: 1,
        root: key(2).public(),
        signature: signed.signature,
    };
    assert_eq!(
        trust(&[2], 0).check_certificate(&forged),
        Err(Untrusted::Certificate)
    );
}

#[test]
fn a_weak_key_signs_nothing() {
    // The point of order one: with it, a signature of zeros around it fits every message.
    let mut weak = [0; 32];
    weak[0] = 1;
    let mut zero = [0; 64];
    zero[0] = 1;
    let certificate = key(1).certify(PublicKey::new(weak), 1);
    let signature = Signature {
        certificate,
        signature: zero,
    };
    assert_eq!(
        trust(&[1], 0).check(Context::SlotHeader, MESSAGE, [signature]),
        Err(Untrusted::Signature)
    );
}

/// RFC 8032, section 7.1, test 2: what we call Ed25519 is what everybody does.
#[test]
fn keys_are_those_of_the_standard() {
    let seed = hex("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb");
    let public = hex("3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c");
    let key = SigningKey::from_seed(&seed.try_into().unwrap());
    assert_eq!(key.public().to_bytes()[..], public[..]);
}

fn hex(text: &str) -> Vec<u8> {
    (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap())
        .collect()
}

#[test]
fn fixed_places() {
    let signature = release(1, 2, 0x0102_0304).sign(Context::SlotHeader, MESSAGE);
    let bytes = signature.encode();
    assert_eq!(bytes[..32], key(2).public().to_bytes());
    assert_eq!(bytes[32..40], [4, 3, 2, 1, 0, 0, 0, 0]);
    assert_eq!(bytes[40..72], key(1).public().to_bytes());
    assert_eq!(bytes[72..136], signature.certificate.signature);
    assert_eq!(bytes[136..200], signature.signature);
    assert_eq!(bytes[200..], [0; 56]);
    assert_eq!(bytes[..136], signature.certificate.encode());

    let file = trust(&[1, 3], 7).encode();
    assert_eq!(
        file.as_bytes()[..24],
        *b"KEELTRST\x01\0\0\0\x07\0\0\0\x02\0\0\0\0\0\0\0"
    );
    assert_eq!(file.as_bytes()[24..56], key(1).public().to_bytes());
    assert_eq!(file.as_bytes().len(), 24 + 64);
}

#[test]
fn a_list_ends_at_zeros_and_leaves_out_what_makes_no_sense() {
    let one = release(1, 2, 1).sign(Context::SlotHeader, MESSAGE);
    let two = release(1, 3, 1).sign(Context::SlotHeader, MESSAGE);
    let mut reserved = one.encode();
    reserved[255] = 1;
    let bytes = [reserved, one.encode(), [0; 256], two.encode()].concat();
    assert_eq!(Signature::list(&bytes).collect::<Vec<_>>(), [one]);
    let cut = &[one.encode(), two.encode()].concat()[..511];
    assert_eq!(Signature::list(cut).collect::<Vec<_>>(), [one]);
}

#[test]
fn trust_files_that_are_refused() {
    let good = trust(&[1], 0).encode();
    let with = |at: usize, byte: u8| {
        let mut bytes = good.as_bytes().to_vec();
        bytes[at] = byte;
        Trust::decode(&bytes)
    };
    assert!(Trust::decode(good.as_bytes()).is_ok());
    assert_eq!(with(0, 0), Err(TrustError::NotATrust));
    assert_eq!(with(8, 2), Err(TrustError::Version(2)));
    assert_eq!(with(16, 0), Err(TrustError::Count(0)));
    assert_eq!(with(16, 9), Err(TrustError::Count(9)));
    assert_eq!(with(16, 2), Err(TrustError::Length));
    assert_eq!(with(20, 1), Err(TrustError::Reserved));
    assert_eq!(
        Trust::decode(&good.as_bytes()[..20]),
        Err(TrustError::Length)
    );
    assert_eq!(Trust::new(&[], 0), Err(TrustError::Count(0)));
    assert_eq!(
        Trust::new(&[key(1).public(); 9], 0),
        Err(TrustError::Count(9))
    );
}

proptest! {
    #[test]
    fn trusts_round_trip(count in 1usize..=MAX_ROOTS, epoch: u32, byte: u8) {
        let roots: Vec<PublicKey> = (0..count)
            .map(|n| PublicKey::new([byte.wrapping_add(u8::try_from(n).unwrap()); 32]))
            .collect();
        let trust = Trust::new(&roots, epoch).unwrap();
        prop_assert_eq!(Trust::decode(trust.encode().as_bytes()), Ok(trust));
        prop_assert_eq!(trust.roots().collect::<Vec<_>>(), roots);
    }

    #[test]
    fn any_flipped_bit_of_an_entry_unmakes_it(at in 0usize..SIGNATURE_SIZE, bit in 0u32..8) {
        let mut bytes = release(1, 2, 5).sign(Context::SlotHeader, MESSAGE).encode();
        bytes[at] ^= 1 << bit;
        let trust = trust(&[1], 0);
        prop_assert!(trust.check(Context::SlotHeader, MESSAGE, Signature::list(&bytes)).is_err());
    }

    #[test]
    fn junk_never_panics_and_never_counts(
        bytes in proptest::collection::vec(any::<u8>(), 0..600), root: [u8; 32], claimed: [u8; 32]
    ) {
        let _ = Trust::decode(&bytes);
        let trust = Trust::new(&[PublicKey::new(root)], 0).unwrap();
        let mut entry = bytes;
        entry.resize(SIGNATURE_SIZE, 7);
        entry[..32].copy_from_slice(&claimed);
        entry[36..40].fill(0);
        entry[40..72].copy_from_slice(&root);
        entry[200..].fill(0);
        prop_assert!(trust.check(Context::SlotHeader, MESSAGE, Signature::list(&entry)).is_err());
    }
}
