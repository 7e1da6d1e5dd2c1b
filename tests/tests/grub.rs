//! What the real GRUB chooses, against the rule in `keelson_bootstate`: many records, tries and
//! slots in one start of a machine that has nothing but GRUB.

// Helpers outside of #[test] functions unwrap as the tests do.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::time::Instant;

use keelson_bootstate::grub_env::{BLOCK_SIZE, GrubRecord, MARK, decode_tries, encode_tries};
use keelson_bootstate::{
    Decision, GRUB_HASHES_OFFSET, GRUB_SCRIPT_OFFSET, HEADER_SIZE, MAX_SEQUENCE, Slot, Tries,
    decide,
};
use keelson_tests::Environment;
use keelson_tests::grub::{
    Block, Chosen, Counter, Facts, Grub, Point, counters, record, slot_bytes,
};

/// A point with words about it.
type Case = (String, Point);

/// What makes the good slots report themselves instead of loading a kernel.
const SCRIPT: &str = "set loaded=1\n";

#[test]
fn the_record_decides() {
    let mut cases = Vec::new();
    for (about, records) in records() {
        let [first, second] = &records;
        let newest = GrubRecord::newest([first, second]).and_then(|(one, _)| one.to_record());
        let on_trial = newest.is_some_and(|record| record.trial().is_some());
        let all_tries: &[u8] = if on_trial { &[0, 1, 2, 3] } else { &[0] };
        for used in all_tries {
            let point = Point {
                records,
                tries: Counter::File(encode_tries(Tries::Used(*used))),
                slots: ["good", "good"],
            };
            cases.push((format!("{about}, {used} tries used"), point));
        }
    }
    check("records", &cases);
}

#[test]
fn a_try_is_counted_before_anything_else_or_there_is_no_trial() {
    let mut cases = Vec::new();
    for (trial, default) in [(Slot::A, Slot::B), (Slot::B, Slot::A)] {
        let old = record(1, None, default);
        let records = [record(2, Some(trial), default), old];
        for (about, tries) in tries_files() {
            let point = Point {
                records,
                tries,
                slots: ["good", "good"],
            };
            cases.push((format!("trial {trial}, tries {about}"), point));
        }
    }
    let records = [record(1, None, Slot::B), record(2, None, Slot::A)];
    for (about, tries) in tries_files() {
        let point = Point {
            records,
            tries,
            slots: ["good", "good"],
        };
        cases.push((format!("no trial, tries {about}"), point));
    }
    check("tries", &cases);
}

#[test]
fn only_a_slot_that_is_whole_is_started() {
    let names: Vec<_> = slots().into_keys().collect();
    let mut cases = Vec::new();
    let records = [
        ("trial B", record(2, Some(Slot::B), Slot::A)),
        ("default B", record(2, None, Slot::B)),
    ];
    for name in &names {
        for slots in [["good", name], [name, "good"], [name, name]] {
            for (about, newest) in records {
                let point = Point {
                    records: [newest, [0; BLOCK_SIZE]],
                    tries: Counter::File(encode_tries(Tries::FRESH)),
                    slots,
                };
                cases.push((format!("{about}, A and B are {slots:?}"), point));
            }
        }
    }
    check("slots", &cases);
}

/// Has GRUB choose, and compares what it started and every byte of its counters.
fn check(name: &str, cases: &[Case]) {
    let folder = tempfile::tempdir().unwrap();
    let environment = Environment::prepare().unwrap();
    let points: Vec<_> = cases.iter().map(|(_, point)| point.clone()).collect();
    let started = Instant::now();
    let grub = Grub::start(&environment.tools, folder.path(), &slots(), &points).unwrap();
    let Chosen {
        facts,
        counters: after,
    } = grub.finish().unwrap();
    println!(
        "{name}: {} points in {} ms",
        cases.len(),
        started.elapsed().as_millis()
    );
    let mut wrong = Vec::new();
    for ((about, point), facts) in cases.iter().zip(&facts) {
        let expected = expected(point);
        if *facts != expected {
            wrong.push(format!("{about}: {facts:?} instead of {expected:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let expected = counters(points.iter().map(counter_after)).unwrap();
    assert!(
        expected == after,
        "{name}: GRUB wrote something else than its tries"
    );
}

/// What must be started, and with which words.
fn expected(point: &Point) -> Facts {
    let decision = decision(point);
    let [first, second] = decision.order();
    let good = |slot: &Slot| point.slots[usize::from(*slot == Slot::B)] == "good";
    let Some(slot) = [first, second].into_iter().find(good) else {
        return Facts::new();
    };
    let why = match decision {
        _ if slot != first => "other",
        Decision::Default { .. } => "default",
        Decision::Trial { .. } => "trial",
    };
    let letter = slot.letter();
    let mut facts = Facts::from([
        ("loader".to_owned(), "grub".to_owned()),
        ("slot".to_owned(), letter.to_string()),
        (
            "part".to_owned(),
            format!("0000000{letter}-0000-0000-0000-000000000000"),
        ),
        ("why".to_owned(), why.to_owned()),
    ]);
    if slot != first {
        facts.insert("skipped".to_owned(), first.letter().to_string());
    }
    facts
}

fn decision(point: &Point) -> Decision {
    let [first, second] = &point.records;
    let record = GrubRecord::newest([first, second]);
    let record = record.and_then(|(record, _)| record.to_record());
    let tries = match &point.tries {
        Counter::File(block) => decode_tries(block),
        // A try that cannot be counted is none.
        Counter::Frozen(_) | Counter::Missing => Tries::Unreadable,
    };
    decide(record.as_ref(), tries)
}

/// GRUB's tries afterwards: one `1` more in its place when a trial was started.
fn counter_after(point: &Point) -> Counter {
    match (point.tries, decision(point)) {
        (Counter::File(block), Decision::Trial { tries, .. }) => {
            let text = str::from_utf8(&block).unwrap();
            let ones = |count: u8| format!("\ntries={}\n", "1".repeat(usize::from(count)));
            let text = text.replacen(&ones(tries.used() - 1), &ones(tries.used()), 1);
            let mut after = block;
            after.copy_from_slice(&text.as_bytes()[..BLOCK_SIZE]);
            Counter::File(after)
        }
        (tries, _) => tries,
    }
}

/// Pairs of copies: what upgrades and power cuts leave, and what nothing should.
fn records() -> Vec<(String, [Block; 2])> {
    let zeros = [0; BLOCK_SIZE];
    let (a, b) = (record(5, None, Slot::A), record(6, None, Slot::B));
    let trial = record(7, Some(Slot::B), Slot::A);
    let back = record(7, Some(Slot::A), Slot::B);
    let mut torn = trial;
    torn[512..].copy_from_slice(&a[512..]);
    let mut torn_late = trial;
    torn_late[..512].copy_from_slice(&a[..512]);
    let mut noise = trial;
    noise[512..].fill(0xa5);
    let mut pairs: Vec<(&str, [Block; 2])> = vec![
        ("no record at all", [zeros, zeros]),
        ("one copy, A", [a, zeros]),
        ("one copy, B", [zeros, b]),
        ("the second is newer", [a, b]),
        ("the first is newer", [b, a]),
        ("trial B", [trial, a]),
        ("trial B in the second copy", [a, trial]),
        ("trial A", [back, b]),
        ("trial A in the second copy", [b, back]),
        ("the trial is over", [trial, record(8, None, Slot::A)]),
        ("the trial was good", [record(8, None, Slot::B), trial]),
        ("torn between the sectors", [torn, a]),
        ("torn the other way", [b, torn_late]),
        ("half of it noise", [noise, b]),
        ("both torn", [torn, torn_late]),
        ("erased", [[0xff; BLOCK_SIZE], [0xff; BLOCK_SIZE]]),
        ("the same twice", [b, b]),
        ("same sequence", [record(6, None, Slot::A), b]),
        (
            "numbers and not texts are compared",
            [record(10, None, Slot::B), record(9, None, Slot::A)],
        ),
        (
            "large numbers",
            [
                record(MAX_SEQUENCE - 1, None, Slot::A),
                record(MAX_SEQUENCE, None, Slot::B),
            ],
        ),
    ];
    for (about, from, to) in [
        ("sequence too large", "=6\n", "=2147483648\n"),
        ("sequence far too large", "=6\n", "=99999999999\n"),
        ("leading zero", "=6\n", "=06\n"),
        ("no number", "=6\n", "=six\n"),
        ("no sequence", "=6\n", "=\n"),
        ("no such slot", "=b\n", "=c\n"),
        ("no default", "d1=", "x1="),
        ("trial and default are one", "=-\n", "=b\n"),
        ("another mark", "# GRUB", "# GRUP"),
    ] {
        pairs.push((about, [changed(&b, from, to), a]));
    }
    pairs
        .into_iter()
        .map(|(about, pair)| (about.to_owned(), pair))
        .collect()
}

fn tries_files() -> Vec<(&'static str, Counter)> {
    let block = |lines: &str| {
        let mut block = [b'#'; BLOCK_SIZE];
        let text = [MARK, lines.as_bytes()].concat();
        block[..text.len()].copy_from_slice(&text);
        block
    };
    let used = |used| encode_tries(Tries::Used(used));
    vec![
        ("fresh", Counter::File(used(0))),
        ("once", Counter::File(used(1))),
        ("twice", Counter::File(used(2))),
        ("used up", Counter::File(used(3))),
        ("too many", Counter::File(block("tries=1111\n"))),
        ("other digits", Counter::File(block("tries=2\n"))),
        ("words", Counter::File(block("tries=a b\n"))),
        ("not there", Counter::File(block("try=1\n"))),
        ("among others", Counter::File(block("x=1\ntries=1\ny=2\n"))),
        ("empty block", Counter::File(block(""))),
        ("zeros", Counter::File([0; BLOCK_SIZE])),
        (
            "torn",
            Counter::File({
                let mut torn = used(1);
                torn[..512].fill(0xa5);
                torn
            }),
        ),
        ("without a file", Counter::Missing),
        ("that cannot be written", Counter::Frozen(used(0))),
        ("that cannot be written twice", Counter::Frozen(used(1))),
    ]
}

/// One whole slot and every kind of damage.
fn slots() -> BTreeMap<&'static str, Vec<u8>> {
    let good = slot_bytes(&[0x5a; 3000], SCRIPT).unwrap();
    let flipped = |at: usize| {
        let mut bytes = good.clone();
        bytes[at] ^= 0x04;
        bytes
    };
    let mut cut = good.clone();
    cut[HEADER_SIZE + 1024..].fill(0);
    let mut half_header = good.clone();
    half_header[..GRUB_SCRIPT_OFFSET].fill(0);
    let mut no_script = good.clone();
    no_script[GRUB_SCRIPT_OFFSET..HEADER_SIZE].fill(b'\n');
    let mut newlines = good.clone();
    newlines[GRUB_HASHES_OFFSET..GRUB_SCRIPT_OFFSET].fill(b'\n');
    BTreeMap::from([
        ("good", good.clone()),
        ("blank", vec![0; good.len()]),
        ("first-bit", flipped(HEADER_SIZE)),
        ("last-bit", flipped(good.len() - 1)),
        ("script-bit", flipped(GRUB_SCRIPT_OFFSET + 3)),
        ("list-bit", flipped(GRUB_SCRIPT_OFFSET - 10)),
        ("cut", cut),
        ("half-header", half_header),
        ("no-script", no_script),
        ("newlines", newlines),
    ])
}

/// A record with other words in both halves, which keep their places.
fn changed(block: &Block, from: &str, to: &str) -> Block {
    let mut changed = [b'#'; BLOCK_SIZE];
    for (half, room) in block.chunks(512).zip(changed.chunks_mut(512)) {
        let text = str::from_utf8(half).unwrap().replace(from, to);
        let keep = text.len().min(512);
        room[..keep].copy_from_slice(&text.as_bytes()[..keep]);
        // The filling of the first half must end with its line.
        room[511] = half[511];
    }
    changed
}
