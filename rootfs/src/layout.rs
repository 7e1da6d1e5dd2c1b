//! Folders and links of the root file system (`layout.yaml`) and what must not be in it.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use thiserror::Error;

use crate::tree::{AddError, Content, Tree};

/// The parsed `layout.yaml`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Layout {
    folders: Vec<Folder>,
    links: BTreeMap<String, String>,
    node: Node,
    forbidden: Vec<String>,
}

/// Why the layout cannot be used.
#[derive(Debug, Error)]
pub enum LayoutError {
    /// The file cannot be read.
    #[error("cannot read the layout {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file is not a layout.
    #[error("{path} is not a layout: {reason}")]
    Parse {
        /// The file.
        path: PathBuf,
        /// Where and what, from the YAML parser.
        reason: String,
    },
    /// The tree has it already.
    #[error("cannot place a folder, a link or the node program")]
    Add(#[source] AddError),
    /// A shell, or something like it, got in.
    #[error("{path} must not be in the root file system")]
    Forbidden {
        /// The file.
        path: String,
    },
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Folder {
    path: String,
    #[serde(default)]
    mode: Mode,
}

/// Permission bits, written as a quoted octal number.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(try_from = "String")]
struct Mode(u32);

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Node {
    path: String,
    links: Vec<String>,
}

impl Layout {
    /// Reads `layout.yaml`.
    pub(crate) fn load(path: &Path) -> Result<Self, LayoutError> {
        let text = fs::read_to_string(path).map_err(|source| LayoutError::Read {
            path: path.to_owned(),
            source,
        })?;
        serde_saphyr::from_str(&text).map_err(|error| LayoutError::Parse {
            path: path.to_owned(),
            reason: error.to_string(),
        })
    }

    /// Adds folders, links and the node program with its names.
    pub(crate) fn add_to(&self, tree: &mut Tree, node_program: &Path) -> Result<(), LayoutError> {
        for folder in &self.folders {
            tree.folder(&folder.path, folder.mode.0)
                .map_err(LayoutError::Add)?;
        }
        for (path, target) in &self.links {
            tree.link(path, target).map_err(LayoutError::Add)?;
        }
        let content = Content::Host(node_program.to_owned());
        tree.file(&self.node.path, 0o755, content)
            .map_err(LayoutError::Add)?;
        for link in &self.node.links {
            tree.link(link, &relative(link, &self.node.path))
                .map_err(LayoutError::Add)?;
        }
        Ok(())
    }

    /// Refuses a tree in which a file, folder or link has a forbidden name.
    pub(crate) fn check(&self, tree: &Tree) -> Result<(), LayoutError> {
        let wrong = tree.nodes().map(|(path, _)| path).find(|path| {
            let name = path.rsplit('/').next().unwrap_or(path);
            self.forbidden.iter().any(|forbidden| forbidden == name)
        });
        match wrong {
            None => Ok(()),
            Some(path) => Err(LayoutError::Forbidden { path: path.into() }),
        }
    }
}

/// What a link at `from` must say to point at `to`: relative, so that it also holds
/// when the root is looked at from outside.
pub(crate) fn relative(from: &str, to: &str) -> String {
    let mut folder: Vec<_> = from.split('/').collect();
    folder.pop();
    let target: Vec<_> = to.split('/').collect();
    let same = folder
        .iter()
        .zip(&target)
        .take_while(|(a, b)| a == b)
        .count();
    let mut parts = vec![".."; folder.len() - same];
    parts.extend(&target[same..]);
    parts.join("/")
}

impl Default for Mode {
    fn default() -> Self {
        Self(0o755)
    }
}

impl TryFrom<String> for Mode {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        match u32::from_str_radix(&text, 8) {
            Ok(mode) if mode <= 0o7777 => Ok(Self(mode)),
            _ => Err(format!("{text:?} is not an octal mode such as \"0755\"")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn project() -> Layout {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("layout.yaml");
        Layout::load(&path).unwrap()
    }

    #[test]
    fn links_are_relative() {
        assert_eq!(relative("/usr/bin/mount", "/usr/bin/keelson"), "keelson");
        assert_eq!(relative("/opt/x", "/usr/bin/y"), "../usr/bin/y");
        assert_eq!(relative("/init", "/usr/bin/keelson"), "usr/bin/keelson");
    }

    #[test]
    fn the_layout_of_the_project_fits_together() {
        let mut tree = Tree::default();
        let layout = project();
        layout.add_to(&mut tree, Path::new("keelson")).unwrap();
        for path in ["/usr/bin/umount", "/proc"] {
            assert!(tree.nodes().any(|(found, _)| found == path), "{path}");
        }
        layout.check(&tree).unwrap();
    }

    #[test]
    fn a_shell_is_refused_wherever_it_hides() {
        for path in ["/usr/bin/sh", "/usr/libexec/busybox", "/opt/x/bash"] {
            let mut tree = Tree::default();
            tree.file(path, 0o755, Content::Bytes(Vec::new())).unwrap();
            let error = project().check(&tree).unwrap_err();
            assert_eq!(
                error.to_string(),
                format!("{path} must not be in the root file system")
            );
        }
    }
}
