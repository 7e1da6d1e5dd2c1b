//! Bytes on a disk and what a loader must do with them, as a file that tests of loader scripts read:
//! `vectors/decisions.json`.
//!
//! The file is made here and compared, so that a change of a format or of the decision shows in a
//! review. To write it anew: `KEELSON_WRITE_VECTORS=1 cargo test -p keelson-bootstate --test vectors`.

#![expect(clippy::unwrap_used, reason = "a helper that fails fails the test")]

mod cases;
mod headers;

use std::fs;
use std::path::PathBuf;

use serde_json::{Value, json};

#[test]
fn the_file_is_what_the_code_says() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("vectors/decisions.json");
    let all = json!({
        "about": [
            "Bytes on a disk and what a loader must do with them; made by tests/vectors of",
            "keelson-bootstate. A block is the bytes of `hex`, then the byte of `fill` up to `size`.",
            "A case: `record`, the two binary copies at 0 and 65536 of BOOTSTATE; `text`, the two",
            "blocks at 4096 and 69632; `tries`, the first sector of TRIES; `grub_tries`, GRUB's file;",
            "`slots`, whether each slot verifies. For each loader: `start`, the slot, null for none;",
            "`why`, as in keelson.why; `tries_after`, what was written before the start, null for",
            "nothing: a block for EFI, the value of the variable for GRUB.",
            "A header: the first 4096 bytes of a slot, and what checking them against `trust` gives.",
        ],
        "blocks": cases::blocks(),
        "cases": cases::cases(),
        "headers": headers::headers(),
        "trust": headers::trust_hex(),
    });
    let text = format!("{}\n", serde_json::to_string_pretty(&all).unwrap());
    if std::env::var_os("KEELSON_WRITE_VECTORS").is_some() {
        fs::write(&path, &text).unwrap();
    }
    let known = fs::read_to_string(&path).unwrap();
    assert!(
        known == text,
        "{} is not what the code says; if that is meant, write it anew (see above)",
        path.display()
    );
}

/// A block as JSON. Padding is left out, as it is most of it.
fn block(bytes: &[u8], fill: u8) -> Value {
    let len = bytes
        .iter()
        .rposition(|b| *b != fill)
        .map_or(0, |at| at + 1);
    json!({ "size": bytes.len(), "fill": hex(&[fill]), "hex": hex(&bytes[..len]) })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
