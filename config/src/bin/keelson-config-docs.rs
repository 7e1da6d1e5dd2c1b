//! Writes the reference page and the JSON schema of the node configuration into a folder.

use std::path::PathBuf;
use std::process::ExitCode;

use keelson_config::reference;

fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1);
    let folder = match (args.next(), args.next()) {
        (None, _) => PathBuf::from("docs/reference"),
        (Some(folder), None) => PathBuf::from(folder),
        (Some(_), Some(_)) => {
            eprintln!("usage: keelson-config-docs [FOLDER]   (default: docs/reference)");
            return ExitCode::from(2);
        }
    };
    for (name, text) in reference::files() {
        let path = folder.join(name);
        let written = std::fs::create_dir_all(&folder).and_then(|()| std::fs::write(&path, text));
        if let Err(error) = written {
            eprintln!("cannot write {}: {error}", path.display());
            return ExitCode::FAILURE;
        }
        println!("{}", path.display());
    }
    ExitCode::SUCCESS
}
