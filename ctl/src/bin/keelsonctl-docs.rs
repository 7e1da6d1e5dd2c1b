//! Writes the reference page of keelsonctl into a folder.

use std::path::PathBuf;
use std::process::ExitCode;

fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1);
    let folder = match (args.next(), args.next()) {
        (None, _) => PathBuf::from("docs/reference"),
        (Some(folder), None) => PathBuf::from(folder),
        (Some(_), Some(_)) => {
            eprintln!("usage: keelsonctl-docs [FOLDER]   (default: docs/reference)");
            return ExitCode::from(2);
        }
    };
    let path = folder.join(keelsonctl::reference::FILE);
    let written = std::fs::create_dir_all(&folder)
        .and_then(|()| std::fs::write(&path, keelsonctl::reference::page()));
    if let Err(error) = written {
        eprintln!("cannot write {}: {error}", path.display());
        return ExitCode::FAILURE;
    }
    println!("{}", path.display());
    ExitCode::SUCCESS
}
