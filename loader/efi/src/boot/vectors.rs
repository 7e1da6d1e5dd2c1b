//! The cases that every loader is tested with: `bootstate/vectors/decisions.json`.

extern crate std;

use alloc::vec::Vec;
use std::fs;
use std::path::Path;

use keelson_bootstate::layout::Partition;
use keelson_bootstate::signature::Trust;
use keelson_bootstate::{COPY_OFFSETS, Slot};
use serde_json::Value;

use super::choose;
use crate::fake::{FakeDisk, payload, release_key, trust};
use crate::slot::Verified;
use crate::table;

fn vectors() -> Value {
    let repo = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let text = fs::read(repo.join("bootstate/vectors/decisions.json")).unwrap();
    serde_json::from_slice(&text).unwrap()
}

fn hex(text: &Value) -> Vec<u8> {
    let text = text.as_str().unwrap();
    (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap())
        .collect()
}

fn block(block: &Value) -> Vec<u8> {
    let size = usize::try_from(block["size"].as_u64().unwrap()).unwrap();
    let mut bytes = hex(&block["hex"]);
    bytes.resize(size, hex(&block["fill"])[0]);
    bytes
}

#[test]
fn every_case_is_decided_as_written_down() {
    let vectors = vectors();
    let named = |name: &Value| block(&vectors["blocks"][name.as_str().unwrap()]);
    let cases = vectors["cases"].as_array().unwrap();
    for case in cases {
        let mut disk = FakeDisk::new(512);
        for (slot, name) in [(Slot::A, "a"), (Slot::B, "b")] {
            if case["slots"][name].as_bool().unwrap() {
                disk = disk.with_slot(slot, &payload(600), &release_key());
            }
        }
        for (copy, offset) in case["record"].as_array().unwrap().iter().zip(COPY_OFFSETS) {
            let offset = usize::try_from(offset).unwrap();
            disk.put(Partition::BootState, offset, &named(copy));
        }
        let before = named(&case["tries"]);
        disk.put(Partition::Tries, 0, &before);

        let outcome = choose(&mut disk, &trust()).unwrap();
        let expected = &case["efi"];
        let start = outcome.chosen.as_ref().map(|chosen| chosen.slot.letter());
        let why = outcome.chosen.as_ref().map(|chosen| chosen.why.name());
        let letter = expected["start"]
            .as_str()
            .and_then(|text| text.chars().next());
        assert_eq!(start, letter, "{case}");
        assert_eq!(why, expected["why"].as_str(), "{case}");
        let after = match &expected["tries_after"] {
            Value::Null => before,
            name => named(name),
        };
        assert!(disk.at(Partition::Tries, 0).starts_with(&after), "{case}");
    }
    assert!(cases.len() > 100, "{} cases", cases.len());
}

#[test]
fn every_header_is_judged_as_written_down() {
    let vectors = vectors();
    let trust = Trust::decode(&hex(&vectors["trust"])).unwrap();
    for header in vectors["headers"].as_array().unwrap() {
        let mut disk = FakeDisk::new(512);
        disk.put(Partition::BootA, 0, &block(&header["page"]));
        let partitions = table::read(&mut disk).unwrap();
        let error = Verified::read(&mut disk, &partitions, Slot::A, &trust).unwrap_err();
        let expected = match header["result"].as_str().unwrap() {
            // The headers are good, but nothing is behind them.
            "good" => "its SHA-256 is not the one in its header: it is damaged",
            other => other,
        };
        assert_eq!(alloc::format!("{error}"), expected, "{}", header["name"]);
    }
}
