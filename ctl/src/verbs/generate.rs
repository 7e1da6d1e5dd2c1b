//! Completions and man pages, made from the command line's own description.

use std::path::Path;

use clap_complete::Shell;

use crate::exit::Exit;
use crate::failure::Failure;
use crate::help;
use crate::terminal::print_bytes;

pub(super) fn completion(shell: Shell) -> Result<Exit, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut help::command(), "keelsonctl", &mut script);
    print_bytes(&script)?;
    Ok(Exit::Ok)
}

pub(super) fn man(folder: &Path) -> Result<Exit, Failure> {
    std::fs::create_dir_all(folder)
        .and_then(|()| clap_mangen::generate_to(help::command(), folder))
        .map_err(Failure::file("write man pages into", folder))?;
    Ok(Exit::Ok)
}
