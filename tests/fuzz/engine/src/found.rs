//! Limits that make a hang or a flood of memory a finding, and how a panic is told.

use std::panic;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Targets take microseconds to a few milliseconds; this is long enough for a machine that does
/// something else in between.
pub(crate) const LONGEST_EXECUTION: Duration = Duration::from_secs(10);

/// Address space of the whole program. The engine needs some 200 MiB; a parser that wants
/// gigabytes for a few kilobytes of input is broken.
const MEMORY: u64 = 3 << 30;

/// Memory beyond the limit is refused, which ends the program as a crash.
pub(crate) fn limit_memory() -> rustix::io::Result<()> {
    let limits = Rlimit {
        current: Some(MEMORY),
        ..getrlimit(Resource::As)
    };
    setrlimit(Resource::As, limits)
}

/// A panic is one line: the backtrace comes with `repeat`.
pub(crate) fn tell_panics_in_short() {
    panic::set_hook(Box::new(|info| {
        let place = info.location().map(ToString::to_string).unwrap_or_default();
        println!(
            "panicked at {place}: {}",
            info.payload_as_str().unwrap_or("(no message)")
        );
    }));
}
