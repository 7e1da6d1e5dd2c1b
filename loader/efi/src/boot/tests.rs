//! Whole boots on disks in memory: what is started, what is counted, what is told.

use alloc::string::{String, ToString};

use keelson_bootstate::layout::Partition;
use keelson_bootstate::{BootRecord, COPY_OFFSETS, HEADER_SIZE, Tries};

use super::*;
use crate::fake::{FakeDisk, Writes, foreign_key, payload, release_key, trust};

const A: Slot = Slot::A;
const B: Slot = Slot::B;

/// A disk with a build in each slot, A the default.
fn disk(trial: Option<Slot>, used: u8) -> FakeDisk {
    let record = BootRecord::new(5, trial, A, [None; 2]).unwrap();
    FakeDisk::new(512)
        .with_slot(A, &payload(5000), &release_key())
        .with_slot(B, &payload(6000), &release_key())
        .with_state(&record, Tries::Used(used))
}

/// What starts, why, and all that is told.
fn start(disk: &mut FakeDisk) -> (Option<(Slot, Why)>, String) {
    let outcome = choose(disk, &trust()).unwrap();
    let chosen = outcome.chosen.map(|chosen| {
        let len = chosen.verified.payload().len();
        assert_eq!(len, if chosen.slot == A { 5000 } else { 6000 });
        (chosen.slot, chosen.why)
    });
    let lines: Vec<&str> = outcome.report.lines().collect();
    (chosen, lines.join("\n"))
}

fn damage(disk: &mut FakeDisk, slot: Slot) {
    disk.put(Partition::boot(slot), HEADER_SIZE, b"damage");
}

#[test]
fn the_default_slot_is_started_and_nothing_is_written() {
    let mut disk = disk(None, 0);
    assert_eq!(start(&mut disk), (Some((A, Why::Default)), String::new()));
    assert_eq!(disk.log, []);
}

#[test]
fn a_trial_is_counted_on_the_medium_before_each_of_its_three_starts() {
    for sector_size in [512, 4096] {
        let record = BootRecord::new(5, Some(B), A, [None; 2]).unwrap();
        let mut disk = FakeDisk::new(sector_size)
            .with_slot(A, &payload(5000), &release_key())
            .with_slot(B, &payload(6000), &release_key())
            .with_state(&record, Tries::FRESH);
        let sector = disk.sector(Partition::Tries, 0);
        for used in 1..=3 {
            disk.log.clear();
            let trial = (Some((B, Why::Trial)), String::new());
            assert_eq!(start(&mut disk), trial);
            assert_eq!(disk.tries(), Tries::Used(used));
            assert_eq!(disk.log, [Some(sector..sector + 1), None]);
        }
        disk.log.clear();
        for _ in 0..2 {
            let (chosen, told) = start(&mut disk);
            assert_eq!(chosen, Some((A, Why::Default)));
            assert_eq!(
                told,
                "slot B not tried: the trial was started 3 times in vain"
            );
        }
        assert_eq!(disk.log, []);
    }
}

#[test]
fn a_trial_that_does_not_verify_is_neither_counted_nor_started() {
    let mut damaged = disk(Some(B), 0);
    damage(&mut damaged, B);
    let (chosen, told) = start(&mut damaged);
    assert_eq!(chosen, Some((A, Why::Default)));
    assert!(told.starts_with("slot B skipped: its SHA-256"), "{told}");
    assert_eq!((damaged.tries(), damaged.log), (Tries::FRESH, vec![]));

    let mut foreign = disk(Some(B), 0).with_slot(B, &payload(6000), &foreign_key());
    let (chosen, told) = start(&mut foreign);
    assert_eq!(chosen, Some((A, Why::Default)));
    assert!(told.starts_with("slot B skipped: it is signed by a key"));
    assert_eq!(foreign.tries(), Tries::FRESH);
}

#[test]
fn a_trial_that_cannot_be_counted_is_not_started() {
    for (writes, reason) in [
        (Writes::Refused, "the disk cannot be written at sector"),
        (Writes::Unflushed, "the disk does not finish writing"),
        (Writes::Dropped, "the disk did not keep it"),
    ] {
        let mut disk = disk(Some(B), 1);
        disk.writes = writes;
        let (chosen, told) = start(&mut disk);
        assert_eq!(chosen, Some((A, Why::Default)), "{writes:?}");
        assert!(told.contains(reason), "{told}");
        // With the default damaged, a slot that verifies is still better than none.
        damage(&mut disk, A);
        assert_eq!(start(&mut disk).0, Some((B, Why::Other)), "{writes:?}");
    }
}

#[test]
fn tries_that_cannot_be_read_are_used_up() {
    let mut garbage = disk(Some(B), 0);
    garbage.put(Partition::Tries, 100, b"x");
    let mut unreadable = disk(Some(B), 0);
    unreadable.bad_sector = Some(unreadable.sector(Partition::Tries, 0));
    for mut disk in [garbage, unreadable] {
        let (chosen, told) = start(&mut disk);
        assert_eq!(chosen, Some((A, Why::Default)));
        assert_eq!(
            told,
            "slot B not tried: the tries of the trial cannot be read"
        );
        assert_eq!(disk.log, []);
    }
}

#[test]
fn a_damaged_default_gives_way_to_the_other_slot_in_the_same_boot() {
    for (trial, used) in [(None, 0), (Some(B), 3)] {
        let mut disk = disk(trial, used);
        damage(&mut disk, A);
        let (chosen, told) = start(&mut disk);
        assert_eq!(chosen, Some((B, Why::Other)));
        assert!(told.contains("slot A skipped: its SHA-256"), "{told}");
        assert_eq!(disk.log, []);
    }
}

#[test]
fn with_two_bad_slots_nothing_starts_and_both_reasons_are_told() {
    let mut disk = disk(Some(B), 0);
    damage(&mut disk, A);
    disk.put(Partition::BootB, 0, &[0; HEADER_SIZE]);
    let (chosen, told) = start(&mut disk);
    assert_eq!(chosen, None);
    let lines: Vec<&str> = told.lines().collect();
    assert_eq!(lines[0], "slot B skipped: nothing is installed in it");
    assert!(lines[1].starts_with("slot A skipped: its SHA-256"));
    assert_eq!(disk.tries(), Tries::FRESH);
}

#[test]
fn what_the_firmware_does_not_start_is_skipped_too() {
    let mut disk = disk(Some(B), 0);
    let mut boot = Boot::begin(&mut disk, &trust()).unwrap();
    let first = boot.next(&mut disk).unwrap();
    assert_eq!((first.slot, first.why), (B, Why::Trial));
    boot.failed(first.slot, &"not a program");
    let second = boot.next(&mut disk).unwrap();
    assert_eq!((second.slot, second.why), (A, Why::Default));
    assert_eq!(
        boot.report().to_variable(second.why),
        "default\nslot B skipped: not a program"
    );
    assert!(boot.next(&mut disk).is_none());
}

#[test]
fn one_good_copy_of_the_record_is_enough() {
    let [first, second] = COPY_OFFSETS.map(|offset| usize::try_from(offset).unwrap());
    for lost in [first, second] {
        let mut unreadable = disk(Some(B), 0);
        unreadable.bad_sector = Some(unreadable.sector(Partition::BootState, lost));
        let mut torn = disk(Some(B), 0);
        torn.put(Partition::BootState, lost + 256, b"torn");
        for mut disk in [unreadable, torn] {
            assert_eq!(start(&mut disk).0, Some((B, Why::Trial)));
        }
    }
}

#[test]
fn without_a_record_slot_a_is_started_and_that_is_told() {
    let mut lost = disk(Some(B), 0);
    for offset in COPY_OFFSETS {
        let offset = usize::try_from(offset).unwrap();
        lost.put(Partition::BootState, offset, &[0xff; 512]);
    }
    let (chosen, told) = start(&mut lost);
    assert_eq!(chosen, Some((A, Why::Default)));
    assert!(told.starts_with("no valid boot record"), "{told}");
    damage(&mut lost, A);
    assert_eq!(start(&mut lost).0, Some((B, Why::Other)));
}

#[test]
fn a_disk_without_a_table_is_an_error_and_long_lines_are_cut() {
    let mut empty = FakeDisk::new(512);
    empty.bytes.fill(0);
    let error = choose(&mut empty, &trust()).unwrap_err().to_string();
    assert!(error.contains("no usable partition table"), "{error}");

    let mut report = Report::default();
    report.skipped(A, &"ü".repeat(1000));
    let line = report.lines().next().unwrap();
    assert_eq!(line.chars().count(), 160);
}
