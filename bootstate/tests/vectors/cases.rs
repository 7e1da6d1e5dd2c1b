//! Boot records, tries and slots, and what is started.

use std::collections::BTreeMap;

use keelson_bootstate::grub_env::{self, GrubRecord};
use keelson_bootstate::{BootRecord, BuildId, Decision, Slot, Tries, decide, newest_record};
use serde_json::{Value, json};

use crate::block;

/// A record, or what is there instead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Copy {
    Blank,
    Garbage,
    /// With this sequence, this trial, this default.
    Record(u32, Option<Slot>, Slot),
    /// Its first half or sector is the second record's, its second half the first one's.
    Torn(&'static Copy, &'static Copy),
}

/// Tries, or what is there instead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Count {
    Blank,
    Garbage,
    Used(u8),
}

const A: Slot = Slot::A;
const B: Slot = Slot::B;
const NEVER: Copy = Copy::Record(1, None, A);
const TRIAL: Copy = Copy::Record(7, Some(B), A);
const BACK: Copy = Copy::Record(9, None, A);
const TEN: Copy = Copy::Record(10, None, B);
const GOOD: Copy = Copy::Record(8, None, B);
const TRIAL_OF_A: Copy = Copy::Record(9, Some(A), B);
const LAST: Copy = Copy::Record(0x7fff_ffff, None, B);

/// Both copies of each kind of disk.
const DISKS: [(&str, [Copy; 2]); 17] = [
    ("fresh", [NEVER, NEVER]),
    ("trial of B", [TRIAL, TRIAL]),
    ("trial of B in the first copy", [TRIAL, NEVER]),
    ("trial of B in the second copy", [NEVER, TRIAL]),
    ("trial of A", [TRIAL_OF_A, GOOD]),
    ("B is good", [TRIAL, GOOD]),
    ("B was withdrawn", [BACK, GOOD]),
    ("ten is more than nine", [BACK, TEN]),
    ("the highest sequence", [NEVER, LAST]),
    ("first copy torn", [Copy::Torn(&BACK, &TRIAL), GOOD]),
    ("second copy torn", [TRIAL, Copy::Torn(&GOOD, &NEVER)]),
    ("first copy garbage", [Copy::Garbage, GOOD]),
    ("second copy garbage", [TRIAL, Copy::Garbage]),
    ("first copy blank", [Copy::Blank, TRIAL]),
    ("both copies garbage", [Copy::Garbage, Copy::Garbage]),
    (
        "both copies torn",
        [Copy::Torn(&BACK, &GOOD), Copy::Torn(&GOOD, &TRIAL)],
    ),
    ("nothing written", [Copy::Blank, Copy::Blank]),
];

const COUNTS: [Count; 6] = [
    Count::Used(0),
    Count::Used(1),
    Count::Used(2),
    Count::Used(3),
    Count::Garbage,
    Count::Blank,
];

/// All blocks by name.
pub(crate) fn blocks() -> Value {
    let mut blocks = BTreeMap::new();
    for (_, copies) in DISKS {
        for copy in copies {
            blocks.insert(copy.name(), block(&copy.binary(), 0));
            blocks.insert(format!("text {}", copy.name()), block(&copy.text(), b'#'));
        }
    }
    for count in COUNTS {
        blocks.insert(count.name(), block(&count.binary(), 0));
        blocks.insert(format!("grub {}", count.name()), block(&count.grub(), b'#'));
    }
    json!(blocks)
}

pub(crate) fn cases() -> Vec<Value> {
    let mut cases = Vec::new();
    for (name, copies) in DISKS {
        let trial = copies.contains(&TRIAL) || copies.contains(&TRIAL_OF_A);
        for (n, count) in COUNTS.into_iter().enumerate() {
            // Without a trial the tries do not matter: used up shows that.
            if trial || n == 3 {
                cases.push(case(name, copies, count, [true; 2]));
            }
        }
        for good in [[false, true], [true, false], [false, false]] {
            cases.push(case(name, copies, Count::Used(1), good));
        }
    }
    cases
}

fn case(name: &str, copies: [Copy; 2], count: Count, good: [bool; 2]) -> Value {
    let [first, second] = copies.map(Copy::binary);
    let newest = newest_record(&first, &second)
        .ok()
        .map(|(record, _)| record);
    let efi = decide(newest.as_ref(), Tries::decode(&count.binary()));

    let [first, second] = copies.map(Copy::text);
    let newest = GrubRecord::newest([&first, &second]);
    let newest = newest.and_then(|(record, _)| record.to_record());
    let grub = decide(newest.as_ref(), grub_env::decode_tries(&count.grub()));

    let state = |good| if good { "verifies" } else { "does not verify" };
    json!({
        "name": format!("{name}, {}, A {}, B {}", count.name(), state(good[0]), state(good[1])),
        "record": copies.map(Copy::name),
        "text": copies.map(|copy| format!("text {}", copy.name())),
        "tries": count.name(),
        "grub_tries": format!("grub {}", count.name()),
        "slots": { "a": good[0], "b": good[1] },
        "efi": started(&efi, good, |tries| json!(Count::Used(tries.used()).name())),
        "grub": started(&grub, good, |tries| json!("1".repeat(tries.used().into()))),
    })
}

fn started(decision: &Decision, good: [bool; 2], after: impl Fn(Tries) -> Value) -> Value {
    let first = decision.slot();
    let start = decision
        .order()
        .into_iter()
        .find(|slot| good[*slot as usize]);
    let (why, tries) = match (start, decision) {
        (None, _) => (Value::Null, Value::Null),
        (Some(slot), Decision::Trial { tries, .. }) if slot == first => {
            (json!("trial"), after(*tries))
        }
        // A trial that does not verify leaves the default.
        (Some(_), Decision::Trial { .. }) => (json!("default"), Value::Null),
        (Some(slot), Decision::Default { .. }) if slot == first => (json!("default"), Value::Null),
        (Some(_), Decision::Default { .. }) => (json!("other"), Value::Null),
    };
    json!({
        "start": start.map(|slot| slot.letter().to_string()),
        "why": why,
        "tries_after": tries,
    })
}

impl Copy {
    fn name(self) -> String {
        match self {
            Self::Blank => "blank record".into(),
            Self::Garbage => "garbage record".into(),
            Self::Record(sequence, trial, default) => {
                let trial = trial.map_or('-', Slot::letter);
                format!(
                    "record {sequence} trial {trial} default {}",
                    default.letter()
                )
            }
            Self::Torn(one, two) => format!("torn: {} then {}", one.name(), two.name()),
        }
    }

    fn record(self) -> Option<BootRecord> {
        let Self::Record(sequence, trial, default) = self else {
            return None;
        };
        let builds = [1, 2].map(|build| Some(BuildId::from_payload_hash(&[build; 32])));
        BootRecord::new(sequence, trial, default, builds)
    }

    fn binary(self) -> Vec<u8> {
        match self {
            Self::Torn(one, two) => [&one.binary()[..256], &two.binary()[256..]].concat(),
            Self::Blank => vec![0; 512],
            Self::Garbage => garbage(512),
            Self::Record(..) => self.record().unwrap().encode().to_vec(),
        }
    }

    fn text(self) -> Vec<u8> {
        match self {
            Self::Torn(one, two) => [&one.text()[..512], &two.text()[512..]].concat(),
            Self::Blank => vec![0; 1024],
            Self::Garbage => garbage(1024),
            Self::Record(..) => GrubRecord::from(&self.record().unwrap()).encode().to_vec(),
        }
    }
}

impl Count {
    fn name(self) -> String {
        match self {
            Self::Blank => "blank tries".into(),
            Self::Garbage => "garbage tries".into(),
            Self::Used(used) => format!("{used} tries used"),
        }
    }

    fn binary(self) -> Vec<u8> {
        match self {
            Self::Blank => vec![0; 512],
            Self::Garbage => garbage(512),
            Self::Used(used) => Tries::Used(used).encode().to_vec(),
        }
    }

    fn grub(self) -> Vec<u8> {
        match self {
            Self::Blank => vec![0; 1024],
            Self::Garbage => garbage(1024),
            Self::Used(used) => grub_env::encode_tries(Tries::Used(used)).to_vec(),
        }
    }
}

fn garbage(len: u32) -> Vec<u8> {
    (0..len)
        .map(|n| u8::try_from(n * 7 % 251).unwrap())
        .collect()
}
