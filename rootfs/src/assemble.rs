//! Puts the root file system together and makes an erofs file of it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use keelson_buildroot::BuildRoot;
use keelson_cache::{Cache, Check, GetError, Key, KeyError, Progress};
use serde::Serialize;
use thiserror::Error;

use crate::build::Components;
use crate::component::Install;
use crate::debian::{PickError, Picks};
use crate::erofs::{self, ErofsError, Options};
use crate::layout::{self, Layout, LayoutError};
use crate::system_images::{self, ImageError};
use crate::tree::{AddError, Content, Node, Tree};

/// Raised when the way the root is put together changes in a way its inputs do not show.
const RECIPE: &str = "2";

const IMAGES: &str = "/usr/share/keelson/images";

/// What the root file system is made of.
#[derive(Debug)]
pub struct Inputs<'a> {
    /// The repository's folder.
    pub repo: &'a Path,
    /// The built components.
    pub components: &'a Components,
    /// The static `keelson` program.
    pub node_program: &'a Path,
    /// The kernel it will run under.
    pub kernel: Kernel<'a>,
    /// Version of Keelson.
    pub version: &'a str,
    /// The folder with the files that are copied as they are: `rootfs/tree`.
    pub tree: &'a Path,
    /// The list of keys whose builds the node takes.
    pub trust: &'a Path,
    /// How the file system is made.
    pub options: Options,
}

/// What of the kernel build goes into the root.
#[derive(Debug)]
pub struct Kernel<'a> {
    /// `uname -r`.
    pub release: &'a str,
    /// `modules.builtin` and its like: `modprobe` in pods answers from them that a module is
    /// there.
    pub modules: &'a [PathBuf],
}

/// The finished root file system.
#[derive(Debug)]
pub struct Root {
    /// The erofs file.
    pub erofs: PathBuf,
    /// Its size in bytes.
    pub size: u64,
    /// Hash over everything that went into it, shortened; also in build.json.
    pub build_id: String,
    /// Every path with mode, size and link target, one per line.
    pub listing: PathBuf,
}

/// Why there is no root file system.
#[derive(Debug, Error)]
pub enum AssembleError {
    /// An input is missing.
    #[error("cannot tell the inputs of the root file system")]
    Key(#[source] KeyError),
    /// It could not be made.
    #[error("no root file system")]
    Build(#[source] Box<GetError<BuildError>>),
    /// The finished file vanished.
    #[error("cannot look at {path}")]
    Size {
        /// The erofs file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// What went wrong while it was made.
#[derive(Debug, Error)]
pub enum BuildError {
    /// The files of Debian.
    #[error("cannot take files from Debian's packages")]
    Debian(#[source] PickError),
    /// The file system itself.
    #[error("cannot make the root file system")]
    Erofs(#[source] ErofsError),
    /// The container images.
    #[error("cannot make the system images")]
    Images(#[source] ImageError),
    /// Folders and links.
    #[error("the layout does not fit")]
    Layout(#[source] LayoutError),
    /// Two files for one place.
    #[error("the root file system does not fit together")]
    Tree(#[source] AddError),
    /// A folder to work in or the listing.
    #[error("cannot write {path}")]
    Write {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// The root file system of these inputs, from the cache or made now.
pub fn assemble(
    cache: &Cache,
    build_root: &BuildRoot,
    inputs: &Inputs<'_>,
    progress: Progress<'_>,
) -> Result<Root, AssembleError> {
    let key = key_of(build_root, inputs).map_err(AssembleError::Key)?;
    // 64 bits name one build among those anyone will ever compare.
    let build_id = key.hash().chars().take(16).collect::<String>();
    let entry = cache
        .get_or_build(key, Check::Contents, progress, |out| {
            build(build_root, inputs, &build_id, out, progress)
        })
        .map_err(|error| AssembleError::Build(Box::new(error)))?;
    let erofs = entry.path().join(EROFS);
    let size = fs::metadata(&erofs)
        .map_err(|source| AssembleError::Size {
            path: erofs.clone(),
            source,
        })?
        .len();
    Ok(Root {
        erofs,
        size,
        build_id,
        listing: entry.path().join(LISTING),
    })
}

const EROFS: &str = "root.erofs";
const LISTING: &str = "files.txt";

fn key_of(build_root: &BuildRoot, inputs: &Inputs<'_>) -> Result<Key, KeyError> {
    let rootfs = inputs.repo.join("rootfs");
    let mut key = Key::stage("rootfs")
        .text("recipe", RECIPE)
        .text("version", inputs.version)
        .text("kernel", inputs.kernel.release)
        .text("mkfs", &erofs::arguments(&inputs.options).join(" "))
        .file("build root", build_root.used_lock())?
        .folder("tree", inputs.tree)?
        .file("trust", inputs.trust)?
        .file("node program", inputs.node_program)?;
    for list in ["components.yaml", "debian.yaml", "layout.yaml"] {
        key = key.file(list, &rootfs.join(list))?;
    }
    for built in inputs.components.iter() {
        key = key.entry(&built.component.name, &built.entry);
    }
    for modules in inputs.kernel.modules {
        key = key.file("modules", modules)?;
    }
    Ok(key.finish())
}

fn build(
    build_root: &BuildRoot,
    inputs: &Inputs<'_>,
    build_id: &str,
    out: &Path,
    progress: Progress<'_>,
) -> Result<(), BuildError> {
    let write_error = |path: &Path| {
        let path = path.to_owned();
        move |source| BuildError::Write { path, source }
    };
    // Beside the entry, so that copies are cheap and the cache's owner can write there.
    let work = out.parent().unwrap_or(out).join("work");
    let (images, stage) = (work.join("images"), work.join("stage"));
    for folder in [&work, &images, &stage] {
        fs::create_dir(folder).map_err(write_error(folder))?;
    }
    progress("container images of the system pods");
    let archives = system_images::write(inputs.components, &images).map_err(BuildError::Images)?;
    let tree = plan(build_root, inputs, build_id, &images, &archives)?;

    let listing = out.join(LISTING);
    fs::write(&listing, list(&tree)).map_err(write_error(&listing))?;
    progress("erofs");
    erofs::make(build_root, &tree, &stage, &out.join(EROFS), &inputs.options)
        .map_err(BuildError::Erofs)?;
    fs::remove_dir_all(&work).map_err(write_error(&work))
}

/// Everything in its place.
fn plan(
    build_root: &BuildRoot,
    inputs: &Inputs<'_>,
    build_id: &str,
    images: &Path,
    archives: &[String],
) -> Result<Tree, BuildError> {
    let rootfs = inputs.repo.join("rootfs");
    let layout = Layout::load(&rootfs.join("layout.yaml")).map_err(BuildError::Layout)?;
    let picks = Picks::load(&rootfs.join("debian.yaml")).map_err(BuildError::Debian)?;
    let mut tree = Tree::default();
    layout
        .add_to(&mut tree, inputs.node_program)
        .map_err(BuildError::Layout)?;
    picks
        .add_to(&mut tree, build_root.path())
        .map_err(BuildError::Debian)?;
    let packages = picks.versions(build_root).map_err(BuildError::Debian)?;
    let description = description(inputs, build_id, &packages);
    tree.file(
        "/usr/share/keelson/build.json",
        0o644,
        Content::Bytes(description.into_bytes()),
    )
    .map_err(BuildError::Tree)?;
    add_ours(&mut tree, inputs, build_id, images, archives).map_err(BuildError::Tree)?;
    layout.check(&tree).map_err(BuildError::Layout)?;
    Ok(tree)
}

fn add_ours(
    tree: &mut Tree,
    inputs: &Inputs<'_>,
    build_id: &str,
    images: &Path,
    archives: &[String],
) -> Result<(), AddError> {
    tree.overlay(inputs.tree)?;
    let trust = Content::Host(inputs.trust.to_owned());
    tree.file("/usr/share/keelson/trust", 0o644, trust)?;
    for built in inputs.components.iter() {
        for program in &built.component.programs {
            if let Install::Root { path, links } = &program.install {
                tree.file(path, 0o755, Content::Host(built.program(&program.name)))?;
                for link in links {
                    tree.link(link, &layout::relative(link, path))?;
                }
            }
        }
    }
    for built in inputs.components.iter() {
        if let Some(licences) = built.licences() {
            let path = format!("/usr/share/doc/{}/copyright", built.component.name);
            tree.file(&path, 0o644, Content::Host(licences))?;
        }
    }
    for archive in archives {
        let content = Content::Host(images.join(archive));
        tree.file(&format!("{IMAGES}/{archive}"), 0o644, content)?;
    }
    let modules = format!("/usr/lib/modules/{}", inputs.kernel.release);
    tree.folder(&modules, 0o755)?;
    for source in inputs.kernel.modules {
        let name = source.file_name().unwrap_or_default().to_string_lossy();
        tree.file(
            &format!("{modules}/{name}"),
            0o644,
            Content::Host(source.clone()),
        )?;
    }
    let os_release = Content::Bytes(os_release(inputs.version, build_id).into_bytes());
    tree.file("/usr/lib/os-release", 0o644, os_release)?;
    tree.link("/etc/os-release", "../usr/lib/os-release")
}

/// The content of os-release; the boot file carries it too, so that boot menus can name it.
pub fn os_release(version: &str, build_id: &str) -> String {
    format!(
        "NAME=\"Keelson\"\nID=keelson\nPRETTY_NAME=\"Keelson {version}\"\nVERSION=\"{version}\"\nVERSION_ID={version}\nBUILD_ID={build_id}\n"
    )
}

/// build.json: what this root is and which upstream versions it holds.
fn description(inputs: &Inputs<'_>, build_id: &str, packages: &BTreeMap<String, String>) -> String {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Description<'a> {
        version: &'a str,
        build_id: &'a str,
        kernel: &'a str,
        components: BTreeMap<&'a str, &'a str>,
        debian: &'a BTreeMap<String, String>,
    }
    let components = inputs.components.iter();
    let description = Description {
        version: inputs.version,
        build_id,
        kernel: inputs.kernel.release,
        components: components
            .map(|built| (built.component.name.as_str(), built.version.number.as_str()))
            .collect(),
        debian: packages,
    };
    // Strings and maps with string keys always serialize; empty is what nobody will see.
    serde_json::to_string_pretty(&description).unwrap_or_default() + "\n"
}

fn list(tree: &Tree) -> String {
    let mut text = String::new();
    for (path, node) in tree.nodes() {
        // Writing to a String cannot fail.
        let _ = match node {
            Node::Folder { mode } => writeln!(text, "d {mode:04o} - {path}"),
            Node::File { mode, content } => {
                let size = match content {
                    Content::Bytes(bytes) => bytes.len().to_string(),
                    Content::Host(source) => fs::metadata(source)
                        .map_or_else(|_| "?".to_owned(), |metadata| metadata.len().to_string()),
                };
                writeln!(text, "f {mode:04o} {size} {path}")
            }
            Node::Link { target } => writeln!(text, "l 0777 - {path} -> {target}"),
        };
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn os_release_names_version_and_build() {
        let text = os_release("0.1.0", "abc");
        assert!(text.contains("PRETTY_NAME=\"Keelson 0.1.0\"\n"));
        assert!(text.ends_with("BUILD_ID=abc\n"));
    }

    #[test]
    fn the_listing_has_a_line_for_everything() {
        let mut tree = Tree::default();
        tree.file("/a/b", 0o644, Content::Bytes(b"xyz".to_vec()))
            .unwrap();
        tree.link("/c", "a/b").unwrap();
        assert_eq!(
            list(&tree),
            "d 0755 - /a\nf 0644 3 /a/b\nl 0777 - /c -> a/b\n"
        );
    }
}
