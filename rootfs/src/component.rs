//! The list of programs built for the image (`components.yaml`), parsed and checked.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use thiserror::Error;

/// One upstream project: what is built from it and where that goes.
#[derive(Debug, Clone, Deserialize)]
#[serde(try_from = "RawComponent")]
pub struct Component {
    /// Name of the component and of its cache stage.
    pub name: String,
    /// SPDX expression.
    pub licence: String,
    /// How its programs are made.
    pub source: Source,
    /// What is made.
    pub programs: Vec<Program>,
}

/// How the programs of a component are made.
#[derive(Debug, Clone)]
pub enum Source {
    /// One C file, linked statically by the build root's compiler.
    C {
        /// The file, relative to `rootfs/`.
        file: PathBuf,
        /// Our own version of it.
        version: String,
    },
    /// A Go module of ours.
    Go(GoModule),
}

/// A Go module of ours that pins an upstream.
#[derive(Debug, Clone)]
pub struct GoModule {
    /// Its folder, relative to `rootfs/`.
    pub folder: PathBuf,
    /// The module whose version is the component's.
    pub upstream: String,
    /// Build tags.
    pub tags: Vec<String>,
    /// Go variables set by the linker; values may hold placeholders.
    pub variables: BTreeMap<String, String>,
    /// Upstream programs that are copied as packages, by folder in the upstream module.
    pub copy_mains: Vec<PathBuf>,
    /// Present when the program holds C: then it is compiled in the build root.
    pub cgo: Option<Cgo>,
}

/// What the C half of a Go program needs.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cgo {
    /// Linker flags for its libraries.
    pub libraries: Vec<String>,
}

/// One program of a component.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Program {
    /// File name of the program in the cache entry.
    pub name: String,
    /// The Go package; unused for C.
    #[serde(default = "this_package")]
    pub package: String,
    /// Where it ends up.
    pub install: Install,
}

/// Where a program ends up.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub enum Install {
    /// Alone in a container image, as its entry point.
    Image {
        /// Name and tag; may hold placeholders.
        reference: String,
        /// Path inside the image.
        path: String,
        /// `uid:gid` it runs as.
        user: String,
    },
    /// In the root file system.
    Root {
        /// Absolute path.
        path: String,
        /// Symbolic links to it: the other names it answers to.
        #[serde(default)]
        links: Vec<String>,
    },
}

/// Why the list cannot be used.
#[derive(Debug, Error)]
pub enum LoadError {
    /// The file cannot be read.
    #[error("cannot read the component list {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file is not the list it should be.
    #[error("{path} is not a component list: {reason}")]
    Parse {
        /// The file.
        path: PathBuf,
        /// Where and what, from the YAML parser.
        reason: String,
    },
}

/// Reads `components.yaml`.
pub(crate) fn load(path: &Path) -> Result<Vec<Component>, LoadError> {
    let text = fs::read_to_string(path).map_err(|source| LoadError::Read {
        path: path.to_owned(),
        source,
    })?;
    parse(&text).map_err(|reason| LoadError::Parse {
        path: path.to_owned(),
        reason,
    })
}

fn parse(text: &str) -> Result<Vec<Component>, String> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct List {
        components: Vec<Component>,
    }
    let list: List = serde_saphyr::from_str(text).map_err(|error| error.to_string())?;
    Ok(list.components)
}

/// The version of an upstream and what placeholders in texts stand for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    /// Without the leading `v`.
    pub number: String,
    /// When upstream tagged it; empty when nobody asked.
    pub time: String,
}

impl Version {
    /// Replaces `{version}`, `{major}`, `{minor}` and `{time}`.
    pub(crate) fn fill(&self, text: &str) -> String {
        let mut parts = self.number.split('.');
        let mut part = || parts.next().unwrap_or_default();
        let (major, minor) = (part(), part());
        text.replace("{version}", &self.number)
            .replace("{major}", major)
            .replace("{minor}", minor)
            .replace("{time}", &self.time)
    }
}

/// The component as written, before it is known to make sense.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct RawComponent {
    name: String,
    licence: String,
    programs: Vec<Program>,
    c_source: Option<PathBuf>,
    version: Option<String>,
    module: Option<PathBuf>,
    upstream: Option<String>,
    #[serde(default)]
    tags: Vec<String>,
    #[serde(default)]
    variables: BTreeMap<String, String>,
    #[serde(default)]
    copy_mains: Vec<PathBuf>,
    cgo: Option<Cgo>,
}

impl TryFrom<RawComponent> for Component {
    type Error = String;

    fn try_from(raw: RawComponent) -> Result<Self, String> {
        let name = raw.name;
        let source = match (raw.c_source, raw.version, raw.module, raw.upstream) {
            (Some(file), Some(version), None, None) => Source::C { file, version },
            (None, None, Some(folder), Some(upstream)) => Source::Go(GoModule {
                folder,
                upstream,
                tags: raw.tags,
                variables: raw.variables,
                copy_mains: raw.copy_mains,
                cgo: raw.cgo,
            }),
            _ => {
                return Err(format!(
                    "component {name} needs either module and upstream, or cSource and version"
                ));
            }
        };
        if raw.programs.is_empty() {
            return Err(format!("component {name} has no programs"));
        }
        Ok(Self {
            name,
            licence: raw.licence,
            source,
            programs: raw.programs,
        })
    }
}

fn this_package() -> String {
    ".".to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_of_the_project_is_valid() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("components.yaml");
        let components = load(&path).unwrap();
        let names: Vec<_> = components.iter().map(|c| c.name.as_str()).collect();
        assert!(names.contains(&"kubernetes"), "{names:?}");
        assert!(names.contains(&"pause"), "{names:?}");
    }

    #[test]
    fn a_component_is_go_or_c_and_not_both() {
        let text = "components:\n- {name: x, licence: MIT, module: go/x, cSource: x.c, version: '1', programs: []}\n";
        let error = parse(text).unwrap_err();
        assert!(error.contains("component x needs either module"), "{error}");
    }

    #[test]
    fn an_unknown_key_is_refused() {
        let text = "components:\n- {name: x, license: MIT, programs: []}\n";
        assert!(parse(text).unwrap_err().contains("license"));
    }

    #[test]
    fn placeholders_are_filled_from_the_version() {
        let version = Version {
            number: "1.37.1".into(),
            time: "2026-09-23T17:06:22Z".into(),
        };
        let filled = version.fill("v{version} {major} {minor} {time} {other}");
        assert_eq!(filled, "v1.37.1 1 37 2026-09-23T17:06:22Z {other}");
    }
}
