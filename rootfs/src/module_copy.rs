//! Copies a Go module of ours to where it is built, and upstream programs into it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::component::GoModule;

/// Why the copy could not be made.
#[derive(Debug, Error)]
#[error("cannot {action} {path}")]
pub struct CopyError {
    action: &'static str,
    path: PathBuf,
    source: io::Error,
}

/// Copies a folder with everything in it.
pub(crate) fn folder(from: &Path, to: &Path) -> Result<(), CopyError> {
    fs::create_dir_all(to).map_err(file_error("make", to))?;
    for entry in fs::read_dir(from).map_err(file_error("list", from))? {
        let entry = entry.map_err(file_error("list", from))?;
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        if entry
            .file_type()
            .map_err(file_error("look at", &source))?
            .is_dir()
        {
            folder(&source, &target)?;
        } else {
            fs::copy(&source, &target).map_err(file_error("copy", &source))?;
        }
    }
    Ok(())
}

/// Copies upstream programs as packages: Go does not let a program be imported.
pub(crate) fn mains(module: &GoModule, upstream: &Path, work: &Path) -> Result<(), CopyError> {
    for main in &module.copy_mains {
        let source = upstream.join(main);
        let name = package_name(main);
        let target = work.join("gen").join(&name);
        fs::create_dir_all(&target).map_err(file_error("make", &target))?;
        for entry in fs::read_dir(&source).map_err(file_error("list", &source))? {
            let path = entry.map_err(file_error("list", &source))?.path();
            let file = path
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            if !file.ends_with(".go") || file.ends_with("_test.go") {
                continue;
            }
            let text = fs::read_to_string(&path).map_err(file_error("read", &path))?;
            let copy = target.join(file);
            fs::write(&copy, as_package(&text, &name)).map_err(file_error("write", &copy))?;
        }
    }
    Ok(())
}

/// A package name: the folder's name without what Go does not allow in one.
fn package_name(folder: &Path) -> String {
    let name = folder.file_name().unwrap_or_default().to_string_lossy();
    name.chars().filter(char::is_ascii_alphanumeric).collect()
}

fn as_package(text: &str, name: &str) -> String {
    let mut copy = String::with_capacity(text.len());
    for line in text.lines() {
        if line == "package main" {
            copy.push_str("package ");
            copy.push_str(name);
        } else if let Some(rest) = line.strip_prefix("func main()") {
            copy.push_str("func Main()");
            copy.push_str(rest);
        } else {
            copy.push_str(line);
        }
        copy.push('\n');
    }
    copy
}

fn file_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> CopyError {
    let path = path.to_owned();
    move |source| CopyError {
        action,
        path,
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_becomes_a_package() {
        let text = "// x\npackage main\n\nfunc main() {\n\tmain2()\n}\n";
        let copy = as_package(text, "ptp");
        assert_eq!(copy, "// x\npackage ptp\n\nfunc Main() {\n\tmain2()\n}\n");
    }

    #[test]
    fn package_names_are_what_go_allows() {
        assert_eq!(
            package_name(Path::new("plugins/ipam/host-local")),
            "hostlocal"
        );
    }
}
