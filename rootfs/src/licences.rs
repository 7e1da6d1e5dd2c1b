//! Collects the licence texts of all modules linked into a component.
//!
//! Many modules share one text, so the file holds every text once, under the names of
//! the modules that came with it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

/// Name of the file beside a component's programs.
pub(crate) const LICENCES: &str = "copyright";

/// File names that hold licences and notices begin with one of these.
const NAMES: [&str; 6] = [
    "COPYING",
    "COPYRIGHT",
    "LICENCE",
    "LICENSE",
    "NOTICE",
    "PATENTS",
];

/// Why texts could not be collected.
#[derive(Debug, Error)]
pub enum LicenceError {
    /// A file or folder cannot be used.
    #[error("cannot {action} {path}")]
    File {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A module without a licence must not be shipped.
    #[error("module {module} has no licence file in {folder}")]
    Missing {
        /// The module.
        module: String,
        /// Its folder.
        folder: PathBuf,
    },
}

/// Writes the texts of `modules` (name to folder) to `target`.
pub(crate) fn write(
    modules: &BTreeMap<String, PathBuf>,
    target: &Path,
) -> Result<(), LicenceError> {
    let mut texts: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for (module, folder) in modules {
        let found = texts_in(folder)?;
        if found.is_empty() {
            return Err(LicenceError::Missing {
                module: module.clone(),
                folder: folder.clone(),
            });
        }
        for text in found {
            texts.entry(text).or_default().push(module);
        }
    }
    fs::write(target, render(&texts)).map_err(file_error("write", target))
}

fn texts_in(folder: &Path) -> Result<Vec<String>, LicenceError> {
    let mut texts = Vec::new();
    for entry in fs::read_dir(folder).map_err(file_error("list", folder))? {
        let entry = entry.map_err(file_error("list", folder))?;
        let name = entry.file_name().to_string_lossy().to_uppercase();
        let path = entry.path();
        if NAMES.iter().any(|start| name.starts_with(start)) && path.is_file() {
            let bytes = fs::read(&path).map_err(file_error("read", &path))?;
            texts.push(String::from_utf8_lossy(&bytes).trim().to_owned());
        }
    }
    Ok(texts)
}

fn render(texts: &BTreeMap<String, Vec<&str>>) -> String {
    // By the first module's name, so that a reader finds things.
    let mut sorted: Vec<_> = texts.iter().collect();
    sorted.sort_by(|one, other| (one.1, one.0).cmp(&(other.1, other.0)));
    let mut file = String::new();
    for (text, modules) in sorted {
        for module in modules {
            // Writing to a String cannot fail.
            let _ = writeln!(file, "### {module}");
        }
        let _ = writeln!(file, "\n{text}\n");
    }
    file
}

fn file_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> LicenceError {
    let path = path.to_owned();
    move |source| LicenceError::File {
        action,
        path,
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shared_text_is_written_once() {
        let folder = tempfile::tempdir().unwrap();
        let module = |name: &str, file: &str, text: &str| {
            let path = folder.path().join(name);
            fs::create_dir_all(&path).unwrap();
            fs::write(path.join(file), text).unwrap();
            (name.to_owned(), path)
        };
        let mut modules = BTreeMap::from([
            module("a", "LICENSE", "same\n"),
            module("b", "License.md", "same"),
            module("c", "COPYING", "other"),
        ]);
        let target = folder.path().join("out");
        write(&modules, &target).unwrap();
        let text = fs::read_to_string(&target).unwrap();
        assert_eq!(text, "### a\n### b\n\nsame\n\n### c\n\nother\n\n");

        modules.extend([module("d", "README", "x")]);
        let error = write(&modules, &target).unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("module d has no licence file")
        );
    }
}
