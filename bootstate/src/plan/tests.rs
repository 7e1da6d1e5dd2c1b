//! Plans of single operations, written out. What they are worth is tried in `tests/model`.

use std::vec;
use std::vec::Vec;

use super::*;
use crate::grub_env::BLOCK_SIZE;

fn build() -> BuildId {
    BuildId::from_payload_hash(&[7; 32])
}

/// The bytes of one copy.
fn copy_bytes(binary: &BootRecord, text: &BootRecord) -> Vec<u8> {
    let offset = usize::try_from(RECORD_OFFSET).unwrap();
    let mut bytes = vec![0; offset + BLOCK_SIZE];
    bytes[..512].copy_from_slice(&binary.encode());
    bytes[offset..].copy_from_slice(&GrubRecord::from(text).encode());
    bytes
}

fn stored(first: &BootRecord, second: &BootRecord) -> Stored {
    let (first, second) = (copy_bytes(first, first), copy_bytes(second, second));
    Stored::read([&first, &second]).unwrap()
}

fn record(sequence: u32, trial: Option<Slot>, default: Slot) -> BootRecord {
    BootRecord::new(sequence, trial, default, [Some(build()); 2]).unwrap()
}

fn writes(copy: Copy, record: BootRecord) -> [Step; 4] {
    [
        Step::WriteRecord { copy, record },
        Step::Flush,
        Step::WriteGrubRecord { copy, record },
        Step::Flush,
    ]
}

fn steps(plan: impl Iterator<Item = Step>) -> Vec<Step> {
    plan.collect()
}

#[test]
fn a_whole_disk_needs_no_healing() {
    let now = record(5, None, Slot::A);
    assert!(stored(&now, &now).is_whole());
    assert_eq!(steps(heal(&stored(&now, &now))), []);
}

#[test]
fn healing_starts_with_what_grub_needs() {
    let (old, new) = (record(4, None, Slot::A), record(5, Some(Slot::B), Slot::A));
    assert_eq!(
        steps(heal(&stored(&old, &new))),
        writes(Copy::First, new),
        "the copy that is behind"
    );
    // Cut between the binary form and the text.
    let cut = [copy_bytes(&new, &old), copy_bytes(&old, &old)];
    let cut = Stored::read([&cut[0], &cut[1]]).unwrap();
    let (copy, record) = (Copy::First, new);
    let text = [Step::WriteGrubRecord { copy, record }, Step::Flush];
    assert_eq!(
        steps(heal(&cut)),
        [&text[..], &writes(Copy::Second, new)].concat()
    );
    assert!(!cut.is_whole());
}

#[test]
fn an_upgrade() {
    let now = record(5, None, Slot::A);
    let forgotten = record(6, None, Slot::A).with_build(Slot::B, None);
    let install = install(&stored(&now, &now), Slot::B).unwrap();
    assert_eq!(
        steps(install),
        [
            &writes(Copy::Second, forgotten)[..],
            &[
                Step::InvalidateHeader(Slot::B),
                Step::Flush,
                Step::WriteRoot(Slot::B),
                Step::WritePayload(Slot::B),
                Step::Flush,
                Step::ReadBackContent(Slot::B),
                Step::WriteHeader(Slot::B),
                Step::Flush,
                Step::ReadBackHeader(Slot::B),
            ],
        ]
        .concat()
    );

    let trial = record(7, Some(Slot::B), Slot::A);
    let start = start_trial(&stored(&now, &forgotten), Slot::B, build(), true).unwrap();
    assert_eq!(
        steps(start),
        [
            &writes(Copy::First, forgotten)[..],
            &[Step::ClearTries, Step::ClearGrubTries, Step::Flush],
            &writes(Copy::First, trial),
        ]
        .concat()
    );

    let good = record(8, None, Slot::B);
    let whole = stored(&trial, &trial);
    assert_eq!(
        steps(mark_good(&whole, Slot::B)),
        writes(Copy::Second, good)
    );
    let back = record(8, None, Slot::A);
    assert_eq!(steps(withdraw(&whole)), writes(Copy::Second, back));
}

#[test]
fn a_trial_under_way_ends_before_its_tries_are_cleared() {
    let trial = record(5, Some(Slot::B), Slot::A);
    let plan = steps(start_trial(&stored(&trial, &trial), Slot::B, build(), false).unwrap());
    let (ended, again) = (record(6, None, Slot::A), record(7, Some(Slot::B), Slot::A));
    assert_eq!(
        plan,
        [
            &writes(Copy::Second, ended)[..],
            &[Step::ClearTries, Step::Flush],
            &writes(Copy::First, again),
        ]
        .concat()
    );
    let install = steps(install(&stored(&trial, &trial), Slot::B).unwrap());
    let forgotten = ended.with_build(Slot::B, None);
    assert_eq!(install[..4], writes(Copy::Second, forgotten));
}

#[test]
fn what_is_done_already_writes_nothing() {
    let now = record(5, None, Slot::A);
    let whole = stored(&now, &now);
    assert_eq!(steps(withdraw(&whole)), []);
    assert_eq!(steps(mark_good(&whole, Slot::A)), []);
}

#[test]
fn the_default_slot_is_neither_written_nor_tried() {
    let now = record(5, None, Slot::B);
    let whole = stored(&now, &now);
    let refused = PlanError::DefaultSlot(Slot::B);
    assert_eq!(install(&whole, Slot::B).err(), Some(refused));
    assert_eq!(
        start_trial(&whole, Slot::B, build(), true).err(),
        Some(refused)
    );
}

#[test]
fn after_the_highest_sequence_both_copies_are_replaced() {
    let last = record(MAX_SEQUENCE, Some(Slot::B), Slot::A);
    let plan = steps(mark_good(&stored(&last, &last), Slot::B));
    let (one, two) = (record(1, None, Slot::B), record(2, None, Slot::B));
    assert_eq!(
        plan,
        [writes(Copy::Second, one), writes(Copy::First, two)].concat()
    );
    // What follows in the same plan goes on from there.
    let plan = steps(start_trial(&stored(&last, &last), Slot::B, build(), false).unwrap());
    let again = record(3, Some(Slot::B), Slot::A);
    assert_eq!(plan[plan.len() - 4..], writes(Copy::Second, again));
}

#[test]
fn a_lost_record_is_rebuilt_from_what_runs() {
    assert!(Stored::read([&[], &[0; 512]]).is_err());
    let rebuilt = BootRecord::new(1, None, Slot::B, [None, Some(build())]).unwrap();
    assert_eq!(
        steps(rebuild(Slot::B, Some(build()), [&[], &[]])),
        [writes(Copy::First, rebuilt), writes(Copy::Second, rebuilt)].concat()
    );
    // The text that GRUB lives by is replaced last, by a record that is newer.
    let text = GrubRecord::from(&record(9, None, Slot::A)).encode();
    let newer = BootRecord::new(10, None, Slot::B, [None; 2]).unwrap();
    assert_eq!(
        steps(rebuild(Slot::B, None, [&text, &[]])),
        [writes(Copy::Second, newer), writes(Copy::First, newer)].concat()
    );
}
