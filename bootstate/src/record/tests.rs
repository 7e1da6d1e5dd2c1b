//! Records: fixed bytes, sequences, damage; and any record, for the tests of others.

use proptest::prelude::{Strategy, any, prop_assert_eq, proptest};

use super::*;

pub(crate) fn any_slot() -> impl Strategy<Value = Slot> {
    any::<bool>().prop_map(|b| if b { Slot::A } else { Slot::B })
}

fn any_build() -> impl Strategy<Value = Option<BuildId>> {
    any::<[u8; 16]>().prop_map(BuildId::from_record)
}

pub(crate) fn any_record() -> impl Strategy<Value = BootRecord> {
    (
        1..=MAX_SEQUENCE,
        any::<bool>(),
        any_slot(),
        any_build(),
        any_build(),
    )
        .prop_map(|(sequence, trial, default, a, b)| {
            let trial = trial.then_some(default.other());
            BootRecord::new(sequence, trial, default, [a, b]).unwrap()
        })
}

#[test]
fn fixed_bytes() {
    let hash = core::array::from_fn(|i| u8::try_from(i).unwrap());
    let bytes = BootRecord::fresh(BuildId::from_payload_hash(&hash)).encode();
    let words = b"KSBR\x01\0\0\0\x01\0\0\0\0\0\0\0\x01\0\0\0";
    for half in [0, 256] {
        assert_eq!(&bytes[half..half + 20], words);
        assert_eq!(bytes[half + 20..half + 36], hash[..16]);
        assert!(bytes[half + 36..half + 256].iter().all(|b| *b == 0));
    }
}

#[test]
fn trial_and_default_differ() {
    assert_eq!(BootRecord::new(1, Some(Slot::B), Slot::B, [None; 2]), None);
    let mut bytes = BootRecord::new(1, Some(Slot::B), Slot::A, [None; 2])
        .unwrap()
        .encode();
    bytes[12] = 1;
    bytes[256 + 12] = 1;
    assert_eq!(BootRecord::decode(&bytes), Err(InvalidRecord::Slots));
}

#[test]
fn sequences_out_of_range_do_not_count() {
    let good = BootRecord::new(MAX_SEQUENCE, None, Slot::A, [None; 2]).unwrap();
    assert_eq!(BootRecord::decode(&good.encode()), Ok(good));
    for sequence in [0, MAX_SEQUENCE + 1, u32::MAX] {
        assert_eq!(BootRecord::new(sequence, None, Slot::A, [None; 2]), None);
        let mut bytes = good.encode();
        for half in [0, HALF] {
            put(&mut bytes, half + 8, &sequence.to_le_bytes());
        }
        assert_eq!(
            BootRecord::decode(&bytes),
            Err(InvalidRecord::Sequence(sequence))
        );
    }
}

#[test]
fn successors_keep_what_is_not_changed() {
    let build = BuildId::from_payload_hash(&[7; 32]);
    let fresh = BootRecord::fresh(build);
    let trial = fresh
        .successor()
        .with_build(Slot::B, Some(build))
        .with_trial();
    assert_eq!(
        BootRecord::new(2, Some(Slot::B), Slot::A, [Some(build); 2]),
        Some(trial)
    );
    let good = trial.successor().with_default(Slot::B);
    assert_eq!(
        BootRecord::new(3, None, Slot::B, [Some(build); 2]),
        Some(good)
    );
    assert_eq!(trial.successor().trial(), Some(Slot::B));
    assert_eq!(trial.without_trial().trial(), None);
    let last = BootRecord::new(MAX_SEQUENCE, None, Slot::B, [None; 2]).unwrap();
    assert_eq!(last.successor().sequence(), 1);
}

proptest! {
    #[test]
    fn round_trip(record in any_record()) {
        prop_assert_eq!(BootRecord::decode(&record.encode()), Ok(record));
    }

    #[test]
    fn damage_in_one_half_is_seen(
        record in any_record(), half in 0usize..2, from in 0usize..256,
        damage in proptest::collection::vec(any::<u8>(), 1..256)
    ) {
        let mut bytes = record.encode();
        for (byte, xor) in bytes[half * 256..][..256][from..].iter_mut().zip(&damage) {
            *byte ^= xor;
        }
        let unchanged = bytes == record.encode();
        prop_assert_eq!(BootRecord::decode(&bytes).is_ok(), unchanged);
    }

    #[test]
    fn a_write_torn_at_any_byte_leaves_old_new_or_nothing(
        old in any_record(), new in any_record(), cut in 0usize..=512
    ) {
        let mut bytes = old.encode();
        bytes[..cut].copy_from_slice(&new.encode()[..cut]);
        if let Ok(read) = BootRecord::decode(&bytes) {
            proptest::prop_assert!(read == old || read == new);
        }
    }

    #[test]
    fn a_broken_copy_falls_back_to_the_other(
        good in any_record(), junk in proptest::collection::vec(any::<u8>(), 0..1024)
    ) {
        prop_assert_eq!(newest_record(&good.encode(), &junk), Ok((good, Copy::First)));
        prop_assert_eq!(newest_record(&junk, &good.encode()), Ok((good, Copy::Second)));
    }

    #[test]
    fn the_higher_sequence_counts(one in any_record(), two in any_record()) {
        let (read, _) = newest_record(&one.encode(), &two.encode()).unwrap();
        prop_assert_eq!(read.sequence, one.sequence.max(two.sequence));
    }

    #[test]
    fn repeated_junk_never_panics(half in proptest::collection::vec(any::<u8>(), 256), version in 0u32..3) {
        let mut bytes = half.repeat(2);
        for at in [0, 256] {
            bytes[at..at + 4].copy_from_slice(&MAGIC);
            bytes[at + 4..at + 8].copy_from_slice(&version.to_le_bytes());
        }
        if let Ok(record) = BootRecord::decode(&bytes) {
            prop_assert_eq!(&record.encode()[..], &bytes[..]);
        }
    }
}
