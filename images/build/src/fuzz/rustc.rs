//! Stands in for rustc while tests/fuzz is compiled: cargo calls this program with rustc's path
//! and arguments, and the crates that do the fuzzing are compiled without coverage.
//!
//! They run between any two calls of a target: counting their edges would make them several times
//! slower, and the fuzzer would take its own code for the target's. Cargo has no flags for single
//! crates.

use std::env;
use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use super::compile::is_coverage;

/// Set in the environment of cargo and so of this program.
pub(crate) const STAND_IN: &str = "KEELSON_BUILD_AS_RUSTC";

/// Crates of the fuzzer, by what their names begin with.
const FUZZER: [&str; 6] = [
    "fast_rands",
    "keelson_fuzz_engine",
    "libafl",
    "ownedref",
    "tuple_list",
    "wide",
];

/// Becomes rustc when cargo asked for it; returns only when it did not, or rustc cannot start.
pub(crate) fn stand_in() -> Option<ExitCode> {
    env::var_os(STAND_IN)?;
    let mut words = env::args_os().skip(1);
    let rustc = words.next()?;
    let error = Command::new(&rustc).args(arguments(words)).exec();
    eprintln!(
        "keelson-build: could not start {}: {error}",
        rustc.display()
    );
    Some(ExitCode::FAILURE)
}

fn arguments(words: impl Iterator<Item = OsString>) -> Vec<OsString> {
    let mut words: Vec<OsString> = words.collect();
    let name = words
        .iter()
        .skip_while(|word| *word != "--crate-name")
        .nth(1)
        .and_then(|name| name.to_str())
        .unwrap_or_default();
    if FUZZER.iter().any(|prefix| name.starts_with(prefix)) {
        words.retain(|word| !word.to_str().is_some_and(is_coverage));
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_fuzzer_is_compiled_without_coverage() {
        let given = |name: &str| -> Vec<String> {
            let line =
                format!("--crate-name {name} src/lib.rs -Cpasses=sancov-module -Copt-level=3");
            let words = line.split(' ').map(OsString::from);
            let arguments = arguments(words);
            arguments
                .iter()
                .map(|word| word.to_string_lossy().into_owned())
                .collect()
        };
        let target = "--crate-name keelson_config src/lib.rs -Cpasses=sancov-module -Copt-level=3";
        assert_eq!(given("keelson_config").join(" "), target);
        let fuzzer = "--crate-name libafl_bolts src/lib.rs -Copt-level=3";
        assert_eq!(given("libafl_bolts").join(" "), fuzzer);
    }

    #[test]
    fn questions_about_rustc_pass() {
        let words = ["-vV"].map(OsString::from);
        assert_eq!(arguments(words.clone().into_iter()), words);
    }
}
