//! Systems that do not work, as `variants/*.yaml` describe them.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::Deserialize;

/// Where the descriptions are in the repository.
const FOLDER: &str = "tests/bundles/variants";

/// What a system has that the real one has not.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct Variant {
    /// What the initramfs holds instead of the node binary as `init`.
    pub initramfs: Option<BTreeMap<String, Program>>,
    /// Arguments for the kernel after those of the platform.
    pub kernel_arguments: Vec<String>,
    /// Changed files of `rootfs/tree`.
    pub root: Vec<Replacement>,
    /// Whether a bit in the middle of the root file system is flipped after its hash tree was
    /// made.
    pub flip_root_bit: bool,
}

/// A program of an initramfs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Program {
    /// Stops PID 1 once it has armed the watchdog (`tests/bundles/hang`).
    Hang,
    /// The node binary.
    Node,
}

/// Text of a file that becomes another one.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Replacement {
    /// The file below `rootfs/tree`.
    pub file: PathBuf,
    /// What stands in it, exactly once.
    pub replace: String,
    /// What shall stand there.
    pub with: String,
}

/// Why a variant cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LoadVariantError {
    /// The file to change does not have the text.
    #[error("{path} has {text:?} {count} times, not once")]
    NotOnce {
        /// The file.
        path: PathBuf,
        /// The text.
        text: String,
        /// How often it is there.
        count: usize,
    },
    /// The description is not what it should be.
    #[error("{path} does not describe a variant")]
    Parse {
        /// The file.
        path: PathBuf,
        /// Where and why.
        source: Box<serde_saphyr::Error>,
    },
    /// A file cannot be read or written.
    #[error("cannot use {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl Variant {
    /// The names of all variants.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn names(repo: &Path) -> Result<Vec<String>, LoadVariantError> {
        let folder = repo.join(FOLDER);
        let mut names = Vec::new();
        for entry in fs::read_dir(&folder).map_err(read(&folder))? {
            let path = entry.map_err(read(&folder))?.path();
            if let Some(name) = path.file_stem().and_then(|name| name.to_str()) {
                names.push(name.to_owned());
            }
        }
        names.sort();
        Ok(names)
    }

    /// The one with this name.
    ///
    /// # Errors
    /// When there is none or it makes no sense.
    pub fn load(repo: &Path, name: &str) -> Result<Self, LoadVariantError> {
        let path = Self::path(repo, name);
        let text = fs::read_to_string(&path).map_err(read(&path))?;
        serde_saphyr::from_str(&text).map_err(|source| LoadVariantError::Parse {
            path,
            source: Box::new(source),
        })
    }

    /// The file that describes it.
    pub fn path(repo: &Path, name: &str) -> PathBuf {
        repo.join(FOLDER).join(format!("{name}.yaml"))
    }

    /// Copies `rootfs/tree` with the changes to the empty folder `to`.
    ///
    /// # Errors
    /// When a file that is to be changed does not have the text, or cannot be copied.
    pub fn write_tree(&self, repo: &Path, to: &Path) -> Result<(), LoadVariantError> {
        copy(&repo.join("rootfs/tree"), to)?;
        for Replacement {
            file,
            replace,
            with,
        } in &self.root
        {
            let path = to.join(file);
            let text = fs::read_to_string(&path).map_err(read(&path))?;
            let count = text.matches(replace).count();
            if count != 1 {
                return Err(LoadVariantError::NotOnce {
                    path: file.clone(),
                    text: replace.clone(),
                    count,
                });
            }
            fs::write(&path, text.replace(replace, with)).map_err(read(&path))?;
        }
        Ok(())
    }
}

fn copy(from: &Path, to: &Path) -> Result<(), LoadVariantError> {
    for entry in fs::read_dir(from).map_err(read(from))? {
        let entry = entry.map_err(read(from))?;
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        if entry.file_type().map_err(read(&source))?.is_dir() {
            fs::create_dir(&target).map_err(read(&target))?;
            copy(&source, &target)?;
        } else {
            fs::copy(&source, &target).map_err(read(&source))?;
        }
    }
    Ok(())
}

fn read(path: &Path) -> impl FnOnce(io::Error) -> LoadVariantError + use<> {
    let path = path.to_owned();
    move |source| LoadVariantError::Read { path, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn repo() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
    }

    #[test]
    fn all_variants_fit_the_tree_and_differ_from_the_real_system() {
        let names = Variant::names(&repo()).unwrap();
        assert!(names.contains(&"init-hangs".to_owned()), "{names:?}");
        for name in names {
            let variant = Variant::load(&repo(), &name).unwrap();
            assert_ne!(variant, Variant::default(), "{name}");
            let folder = tempfile::tempdir().unwrap();
            variant.write_tree(&repo(), folder.path()).unwrap();
            assert!(folder.path().join("etc/passwd").is_file());
            for change in &variant.root {
                let text = fs::read_to_string(folder.path().join(&change.file)).unwrap();
                assert!(text.contains(&change.with), "{name}");
            }
        }
    }

    #[test]
    fn a_text_that_is_not_there_is_an_error() {
        let variant = Variant {
            root: vec![Replacement {
                file: "etc/passwd".into(),
                replace: "no such text".into(),
                with: String::new(),
            }],
            ..Variant::default()
        };
        let folder = tempfile::tempdir().unwrap();
        let error = variant.write_tree(&repo(), folder.path()).unwrap_err();
        assert!(error.to_string().ends_with("0 times, not once"), "{error}");
    }
}
