//! Looks at and ends the machine that an earlier `keelson-vm run --detach` left running.

use std::fs::File;
use std::io;
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;
use keelson_qemu::{Ending, MachineFolder, Remote};

use crate::run::SHUTDOWN_DEADLINE;

pub(crate) fn stop(state: &Path) -> anyhow::Result<ExitCode> {
    let Some(machine) = attach(state)? else {
        println!("no machine is running");
        return Ok(ExitCode::SUCCESS);
    };
    println!("shutting down …");
    let ending = machine.shut_down(SHUTDOWN_DEADLINE)?;
    MachineFolder::new(state).remove_sockets()?;
    match ending {
        Ending::Clean => println!("the machine is off"),
        Ending::Killed => println!(
            "the machine did not shut down in time and was switched off; its log: {}",
            log(state).display()
        ),
    }
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn status(state: &Path) -> anyhow::Result<ExitCode> {
    let Some(mut machine) = attach(state)? else {
        println!("no machine is running");
        return Ok(ExitCode::from(3));
    };
    println!("running, log: {}", log(state).display());
    for (guest, host) in machine.forwards()? {
        println!("  port {guest} of the node is 127.0.0.1:{host}");
    }
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn logs(state: &Path) -> anyhow::Result<ExitCode> {
    let path = log(state);
    let mut file =
        File::open(&path).with_context(|| format!("no log: cannot open {}", path.display()))?;
    io::copy(&mut file, &mut io::stdout().lock())?;
    Ok(ExitCode::SUCCESS)
}

fn attach(state: &Path) -> anyhow::Result<Option<Remote>> {
    Ok(Remote::attach(&MachineFolder::new(state).sockets()?)?)
}

fn log(state: &Path) -> std::path::PathBuf {
    state.join("serial.log")
}
