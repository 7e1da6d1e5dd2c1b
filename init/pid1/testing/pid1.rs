//! PID 1 as a program of its own, for the tests: the node binary takes minutes to build.

use std::process::ExitCode;

fn main() -> ExitCode {
    keelson_init::run(std::env::args().skip(1))
}
