//! The scrubber of support archives: any text ends soon, and what is not touched stays the same.

use std::process::ExitCode;

use keelson_fuzz_engine::Target;
use keelson_observe::scrub::{REMOVED, scrub};

fn main() -> ExitCode {
    keelson_fuzz_engine::main(Target {
        run,
        seeds: Vec::new,
        longest: 4096,
    })
}

fn run(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let scrubbed = scrub(&text);
    if scrubbed.removed == 0 {
        assert_eq!(scrubbed.text, text);
    } else {
        assert!(scrubbed.text.contains(REMOVED), "{:?}", scrubbed.text);
    }
}
