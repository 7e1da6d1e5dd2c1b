//! Operates nodes from outside: the program `keelsonctl`, as a library for its tests and for the
//! generator of its reference page.
//!
//! [`main`] reads the command line and runs one verb of `verbs`. A verb opens a session (which
//! nodes, and what proves who we are), asks the nodes at the same time, and shows the answers:
//! `views` turns messages into tables, `output` puts them, JSON or YAML on standard output.
//! Errors, questions and progress go to standard error. Everything runs on one thread.

#![forbid(unsafe_code)]

mod arguments;
mod exit;
mod failure;
mod fleet;
mod help;
mod output;
mod prompt;
mod reconnect;
pub mod reference;
mod session;
mod signals;
mod table;
mod terminal;
mod units;
mod verbs;
mod views;

use std::process::ExitCode;

use clap::FromArgMatches;

use crate::arguments::Arguments;
use crate::exit::Exit;

/// Runs the command line of this process.
#[must_use]
pub fn main() -> ExitCode {
    let matches = help::command().get_matches();
    let arguments = match Arguments::from_arg_matches(&matches) {
        Ok(arguments) => arguments,
        Err(error) => error.exit(),
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let exit = match runtime {
        Ok(runtime) => {
            let result = runtime.block_on(verbs::run(arguments));
            // A question that nobody answers must not hold the program.
            runtime.shutdown_background();
            result.unwrap_or_else(|failure| failure.report())
        }
        Err(error) => {
            terminal::note(&format!("keelsonctl: cannot start: {error}"));
            Exit::Failed
        }
    };
    ExitCode::from(exit.code())
}
