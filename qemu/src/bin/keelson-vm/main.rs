//! `keelson-vm`: boots an image in QEMU and keeps it running for a person (`make run`).

mod kubeconfig;
mod progress;
mod run;
mod stop;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Runs a Keelson image in QEMU.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// Folder of the machine: disk, firmware variables, logs.
    #[arg(long, global = true, default_value = "out/vm/default")]
    state: PathBuf,
    #[command(subcommand)]
    command: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Print what the machine wrote to its serial port.
    Logs,
    /// Boot, wait until the node is Ready, run until Ctrl-C.
    Run(run::Options),
    /// Say whether the machine runs and where its ports are.
    Status,
    /// Shut the machine down through its power button.
    Stop,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let result = match arguments.command {
        Action::Logs => stop::logs(&arguments.state),
        Action::Run(options) => run::run(&arguments.state, &options),
        Action::Status => stop::status(&arguments.state),
        Action::Stop => stop::stop(&arguments.state),
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            eprintln!("keelson-vm: {error:#}");
            ExitCode::FAILURE
        }
    }
}
