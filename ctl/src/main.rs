//! `keelsonctl`: operates nodes from outside. Everything is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    keelsonctl::main()
}
