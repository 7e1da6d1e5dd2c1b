//! Blocks: fixed bytes, what GRUB would read, tears.

use proptest::prelude::{any, prop_assert, prop_assert_eq, proptest};
use std::string::String;
use std::vec::Vec;

use super::*;
use crate::record::tests::any_record;

fn text(block: &[u8]) -> &str {
    core::str::from_utf8(block).unwrap()
}

fn grub(sequence: u32, trial: Option<Slot>, default: Slot) -> GrubRecord {
    let record = BootRecord::new(sequence, trial, default, [None; 2]).unwrap();
    GrubRecord::from(&record)
}

#[test]
fn fixed_text() {
    let block = grub(10, Some(Slot::B), Slot::A).encode();
    let (first, second) = block.split_at(512);
    let first = text(first);
    assert!(first.starts_with("# GRUB Environment Block\ns1=10\nt1=b\nd1=a\npad=.."));
    assert!(first.ends_with("..\n"));
    let second = text(second);
    assert!(second.starts_with("d2=a\nt2=b\ns2=10\n###"));
    assert!(second.ends_with("###"));

    let block = encode_tries(Tries::Used(2));
    assert!(text(&block).starts_with("# GRUB Environment Block\ntries=11\n###"));
    let block = encode_tries(Tries::FRESH);
    assert!(text(&block).starts_with("# GRUB Environment Block\ntries=\n###"));
}

#[test]
fn halves_that_differ_do_not_count() {
    let (old, new) = (grub(9, None, Slot::A), grub(10, Some(Slot::B), Slot::A));
    for (one, two) in [(old, new), (new, old)] {
        let mut block = one.encode();
        block[512..].copy_from_slice(&two.encode()[512..]);
        assert_eq!(GrubRecord::decode(&block), None);
    }
}

#[test]
fn the_higher_sequence_counts() {
    let (old, new) = (grub(9, None, Slot::A), grub(10, None, Slot::B));
    let (old_text, new_text) = (old.encode(), new.encode());
    let newest = GrubRecord::newest;
    assert_eq!(newest([&old_text, &new_text]), Some((new, Copy::Second)));
    assert_eq!(newest([&new_text, &old_text]), Some((new, Copy::First)));
    assert_eq!(newest([&[], &old_text]), Some((old, Copy::Second)));
    assert_eq!(newest([&old_text, &[]]), Some((old, Copy::First)));
    assert_eq!(newest([&[], &[]]), None);
}

#[test]
fn values_that_make_no_sense_do_not_count() {
    let good = String::from_utf8(grub(10, None, Slot::B).encode().to_vec()).unwrap();
    let with = |from: &str, to: &str| {
        assert!(good.contains(from), "{from}");
        let mut changed = good.replace(from, to);
        changed.truncate(BLOCK_SIZE);
        GrubRecord::decode(&[changed.as_bytes(), &[b'#'; 16]].concat())
    };
    assert!(with("s1=10", "s1=10").is_some());
    for (from, to) in [
        ("s1=10", "s1=010"),
        ("s1=10", "s1=9999999999"),
        ("s1=10", "s1="),
        ("d1=b", "d1=B"),
        ("t1=-", "t1="),
        ("# GRUB", "# grub"),
    ] {
        assert_eq!(with(from, to), None, "{to}");
    }
    // GRUB takes the last line of a name.
    assert_eq!(with("d1=b", "d1=b\nd1=a"), None);
    let zero = good.replace("=10\n", "=0\n#");
    assert_eq!(GrubRecord::decode(zero.as_bytes()), None);
    let same = good.replace("t1=-", "t1=b").replace("t2=-", "t2=b");
    assert_eq!(GrubRecord::decode(same.as_bytes()), None);
}

#[test]
fn tries_of_grub() {
    for used in 0..=TRIES_PER_TRIAL {
        let block = encode_tries(Tries::Used(used));
        assert_eq!(decode_tries(&block), Tries::Used(used));
    }
    // What save_env leaves of other variables does not matter.
    let block = |lines: &str| {
        let mut block = [b'#'; BLOCK_SIZE];
        put(&mut block, 0, MARK);
        put(&mut block, MARK.len(), lines.as_bytes());
        block
    };
    assert_eq!(decode_tries(&block("x=1\ntries=1\n")), Tries::Used(1));
    for lines in ["tries=1111\n", "tries=2\n", "tries=1\\\n", "triesx=1\n", ""] {
        assert_eq!(decode_tries(&block(lines)), Tries::Unreadable, "{lines:?}");
    }
    assert_eq!(decode_tries(&[]), Tries::Unreadable);
    assert_eq!(
        decode_tries(&encode_tries(Tries::Unreadable)),
        Tries::Used(TRIES_PER_TRIAL)
    );
}

#[test]
fn the_file_is_found_where_it_starts_at_a_sector() {
    let mut partition = std::vec![0; 16384];
    assert_eq!(find(&partition), None);
    put(&mut partition, 700, &encode_tries(Tries::FRESH));
    assert_eq!(find(&partition), None);
    put(&mut partition, 2560, &encode_tries(Tries::FRESH));
    assert_eq!(find(&partition), Some(2560));
    assert_eq!(find(&partition[..2560 + 1023]), None);
}

proptest! {
    #[test]
    fn round_trip(record in any_record()) {
        let grub = GrubRecord::from(&record);
        prop_assert_eq!(GrubRecord::decode(&grub.encode()), Some(grub));
        let read = grub.to_record().unwrap();
        prop_assert_eq!(GrubRecord::from(&read), grub);
    }

    #[test]
    fn a_torn_sector_leaves_old_new_or_nothing(
        old in any_record(), new in any_record(), cut in 0usize..=512, which in 0usize..5
    ) {
        let (old, new) = (GrubRecord::from(&old), GrubRecord::from(&new));
        // One of the sectors torn, the other one old or new; or both torn at the same byte.
        let (first, second) = [(cut, 0), (cut, 512), (0, cut), (512, cut), (cut, cut)][which];
        let mut block = old.encode();
        block[..first].copy_from_slice(&new.encode()[..first]);
        block[512..512 + second].copy_from_slice(&new.encode()[512..512 + second]);
        if let Some(read) = GrubRecord::decode(&block) {
            prop_assert!(read == old || read == new, "{:?}", read);
        }
    }

    #[test]
    fn junk_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..1100), lines in "[std12=\n#-]{0,200}") {
        let marked: Vec<u8> = [MARK, lines.as_bytes(), &bytes].concat();
        for block in [&bytes, &marked] {
            if let Some(record) = GrubRecord::decode(block) {
                prop_assert!(record.to_record().is_some());
            }
            let _ = (decode_tries(block), find(block));
        }
    }
}
