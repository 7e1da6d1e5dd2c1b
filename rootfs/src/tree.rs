//! The root file system as data: what is where, with which mode; then as a folder.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use thiserror::Error;

/// One name in the tree. Everything belongs to root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Node {
    /// A folder.
    Folder {
        /// Permission bits.
        mode: u32,
    },
    /// A file.
    File {
        /// Permission bits.
        mode: u32,
        /// What is in it.
        content: Content,
    },
    /// A symbolic link.
    Link {
        /// What it points at.
        target: String,
    },
}

/// Where a file's bytes come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Content {
    /// Here.
    Bytes(Vec<u8>),
    /// A file of the host.
    Host(PathBuf),
}

/// A tree of nodes by absolute path. Adding twice is an error, so two sources never fight.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tree {
    nodes: BTreeMap<String, Node>,
}

/// Why a node cannot be added.
#[derive(Debug, Error)]
pub enum AddError {
    /// Something is there already.
    #[error("two things want to be {path} in the root file system")]
    Twice {
        /// The place.
        path: String,
    },
    /// The path is not one inside the tree.
    #[error("{path} is not an absolute path without \"..\"")]
    Path {
        /// The path as given.
        path: String,
    },
    /// The path leads through a symbolic link or a file.
    #[error("{path} cannot be inside {parent}, which is no folder")]
    Parent {
        /// The path as given.
        path: String,
        /// What is in the way.
        parent: String,
    },
    /// A folder of the host cannot be read.
    #[error("cannot read {path}")]
    Host {
        /// The folder or file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// Why a tree cannot be written to a folder.
#[derive(Debug, Error)]
#[error("cannot write {path}")]
pub struct WriteError {
    path: PathBuf,
    source: io::Error,
}

impl Tree {
    /// Adds a file.
    pub(crate) fn file(&mut self, path: &str, mode: u32, content: Content) -> Result<(), AddError> {
        self.add(path, Node::File { mode, content })
    }

    /// Adds a folder; one that is there already is kept when the mode agrees.
    pub(crate) fn folder(&mut self, path: &str, mode: u32) -> Result<(), AddError> {
        let node = Node::Folder { mode };
        if self.nodes.get(path) == Some(&node) {
            return Ok(());
        }
        self.add(path, node)
    }

    /// Adds a symbolic link.
    pub(crate) fn link(&mut self, path: &str, target: &str) -> Result<(), AddError> {
        let target = target.to_owned();
        self.add(path, Node::Link { target })
    }

    /// Adds everything below a folder of the host, at the same places: files with mode
    /// 0644, or 0755 when the owner may execute them (git keeps no other bits).
    pub(crate) fn overlay(&mut self, host: &Path) -> Result<(), AddError> {
        self.overlay_at(host, "")
    }

    fn overlay_at(&mut self, host: &Path, prefix: &str) -> Result<(), AddError> {
        let error = |path: &Path| {
            let path = path.to_owned();
            move |source| AddError::Host { path, source }
        };
        for entry in fs::read_dir(host).map_err(error(host))? {
            let entry = entry.map_err(error(host))?;
            let source = entry.path();
            let path = format!("{prefix}/{}", entry.file_name().to_string_lossy());
            let metadata = fs::symlink_metadata(&source).map_err(error(&source))?;
            if metadata.is_dir() {
                self.folder(&path, 0o755)?;
                self.overlay_at(&source, &path)?;
            } else if metadata.is_symlink() {
                let target = fs::read_link(&source).map_err(error(&source))?;
                self.link(&path, &target.to_string_lossy())?;
            } else {
                let executable = metadata.permissions().mode() & 0o100 != 0;
                let mode = if executable { 0o755 } else { 0o644 };
                self.file(&path, mode, Content::Host(source))?;
            }
        }
        Ok(())
    }

    /// Everything in the tree, in order.
    pub(crate) fn nodes(&self) -> impl Iterator<Item = (&str, &Node)> {
        self.nodes.iter().map(|(path, node)| (path.as_str(), node))
    }

    /// Writes the tree below `folder`, which must exist. Owners and times are left to
    /// whoever makes a file system of it.
    pub(crate) fn write(&self, folder: &Path) -> Result<(), WriteError> {
        // The root itself: what the umask made of it must not show.
        fs::set_permissions(folder, fs::Permissions::from_mode(0o755)).map_err(|source| {
            WriteError {
                path: folder.to_owned(),
                source,
            }
        })?;
        for (path, node) in &self.nodes {
            let target = folder.join(path.trim_start_matches('/'));
            write_node(&target, node).map_err(|source| WriteError {
                path: target,
                source,
            })?;
        }
        Ok(())
    }

    fn add(&mut self, path: &str, node: Node) -> Result<(), AddError> {
        if !is_inside(path) {
            return Err(AddError::Path { path: path.into() });
        }
        for (at, _) in path.match_indices('/').skip(1) {
            let parent = &path[..at];
            match self.nodes.get(parent) {
                Some(Node::Folder { .. }) => {}
                Some(_) => {
                    return Err(AddError::Parent {
                        path: path.into(),
                        parent: parent.into(),
                    });
                }
                None => {
                    let folder = Node::Folder { mode: 0o755 };
                    self.nodes.insert(parent.to_owned(), folder);
                }
            }
        }
        if self.nodes.contains_key(path) {
            return Err(AddError::Twice { path: path.into() });
        }
        self.nodes.insert(path.to_owned(), node);
        Ok(())
    }
}

fn is_inside(path: &str) -> bool {
    let Some(rest) = path.strip_prefix('/') else {
        return false;
    };
    rest.split('/').all(|part| !matches!(part, "" | "." | ".."))
}

fn write_node(target: &Path, node: &Node) -> io::Result<()> {
    match node {
        Node::Folder { mode } => {
            fs::create_dir(target)?;
            fs::set_permissions(target, fs::Permissions::from_mode(*mode))
        }
        Node::File { mode, content } => {
            match content {
                Content::Bytes(bytes) => fs::write(target, bytes)?,
                Content::Host(source) => {
                    fs::copy(source, target)?;
                }
            }
            fs::set_permissions(target, fs::Permissions::from_mode(*mode))
        }
        Node::Link { target: to } => symlink(to, target),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Content {
        Content::Bytes(text.into())
    }

    #[test]
    fn parents_are_made_and_order_is_by_path() {
        let mut tree = Tree::default();
        tree.file("/usr/bin/b", 0o755, text("b")).unwrap();
        tree.link("/bin", "usr/bin").unwrap();
        let paths: Vec<_> = tree.nodes().map(|(path, _)| path).collect();
        assert_eq!(paths, ["/bin", "/usr", "/usr/bin", "/usr/bin/b"]);
    }

    #[test]
    fn two_sources_of_one_path_are_an_error() {
        let mut tree = Tree::default();
        tree.file("/etc/passwd", 0o644, text("a")).unwrap();
        let error = tree.file("/etc/passwd", 0o644, text("b")).unwrap_err();
        assert_eq!(
            error.to_string(),
            "two things want to be /etc/passwd in the root file system"
        );
    }

    #[test]
    fn nothing_goes_through_a_link_or_out_of_the_tree() {
        let mut tree = Tree::default();
        tree.link("/lib", "usr/lib").unwrap();
        assert!(matches!(
            tree.folder("/lib/modules", 0o755),
            Err(AddError::Parent { .. })
        ));
        for path in ["x", "/", "/a/../b", "/a//b", "/a/"] {
            assert!(
                matches!(tree.folder(path, 0o755), Err(AddError::Path { .. })),
                "{path}"
            );
        }
    }

    #[test]
    fn the_written_folder_is_the_tree() {
        let folder = tempfile::tempdir().unwrap();
        let mut tree = Tree::default();
        tree.file("/a/run", 0o755, text("x")).unwrap();
        tree.folder("/secret", 0o700).unwrap();
        tree.link("/b", "a/run").unwrap();
        tree.write(folder.path()).unwrap();
        let mode = |path: &str| {
            let metadata = fs::metadata(folder.path().join(path)).unwrap();
            metadata.permissions().mode() & 0o7777
        };
        assert_eq!(mode("a/run"), 0o755);
        assert_eq!(mode("secret"), 0o700);
        assert_eq!(fs::read_to_string(folder.path().join("b")).unwrap(), "x");
    }
}
