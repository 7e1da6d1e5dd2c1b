//! Which fragments make which kernel: the lists per architecture, read and checked together.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use thiserror::Error;

use crate::fragment::{Conflict, Fragment, FragmentError, merge};

/// The folder of this crate in the repository, which also holds the data.
pub(crate) const FOLDER: &str = "kernel-config";

/// One kernel of ours: an architecture and a variant of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Name of a file in `architectures/`.
    pub architecture: String,
    /// Name of a variant in it.
    pub variant: String,
}

impl Target {
    /// A target by its two names.
    pub fn new(architecture: &str, variant: &str) -> Self {
        Self {
            architecture: architecture.to_owned(),
            variant: variant.to_owned(),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}-{}", self.architecture, self.variant)
    }
}

/// A file in `architectures/`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Architecture {
    make: String,
    compiler: String,
    image: String,
    image_path: PathBuf,
    fragments: Vec<String>,
    variants: BTreeMap<String, Vec<String>>,
}

/// Everything that decides what one kernel is.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Which one.
    pub target: Target,
    /// The kernel's own name of the architecture (`ARCH=`).
    pub make: String,
    /// The compiler in the build root.
    pub compiler: String,
    /// The kernel's name of the file to make.
    pub image: String,
    /// Where the build leaves that file.
    pub image_path: PathBuf,
    /// The fragments, in order.
    pub fragments: Vec<Fragment>,
    /// All of them as one configuration.
    pub merged: String,
}

/// Why there is no plan.
#[derive(Debug, Error)]
pub enum PlanError {
    /// A file cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A list is not what we expect.
    #[error("{path} is not an architecture's list of fragments: {why}")]
    List {
        /// The file.
        path: PathBuf,
        /// Where and what.
        why: String,
    },
    /// There is no such variant.
    #[error("{path} has no variant {variant}; it has {known}")]
    Variant {
        /// The file.
        path: PathBuf,
        /// What was asked for.
        variant: String,
        /// What there is.
        known: String,
    },
    /// A fragment is wrong.
    #[error("cannot use a kernel fragment")]
    Fragment(#[source] FragmentError),
    /// Two fragments disagree.
    #[error("the fragments of {target} do not go together")]
    Conflict {
        /// The kernel.
        target: Target,
        /// Which ones, about what.
        source: Box<Conflict>,
    },
}

impl Plan {
    /// Reads what the repository says about a target.
    pub fn read(repository: &Path, target: &Target) -> Result<Self, PlanError> {
        let path = list_path(repository, &target.architecture);
        let architecture = read_list(&path)?;
        let Some(added) = architecture.variants.get(&target.variant) else {
            let known: Vec<_> = architecture.variants.keys().map(String::as_str).collect();
            return Err(PlanError::Variant {
                path,
                variant: target.variant.clone(),
                known: known.join(", "),
            });
        };
        let names = architecture.fragments.iter().chain(added);
        let fragments: Vec<_> = names
            .map(|name| read_fragment(repository, name))
            .collect::<Result<_, _>>()?;
        let merged = merge(&fragments).map_err(|source| PlanError::Conflict {
            target: target.clone(),
            source,
        })?;
        Ok(Self {
            target: target.clone(),
            make: architecture.make,
            compiler: architecture.compiler,
            image: architecture.image,
            image_path: architecture.image_path,
            fragments,
            merged,
        })
    }
}

/// Every variant that a list names.
pub fn variants(repository: &Path, architecture: &str) -> Result<Vec<Target>, PlanError> {
    let list = read_list(&list_path(repository, architecture))?;
    let names = list.variants.keys();
    Ok(names.map(|name| Target::new(architecture, name)).collect())
}

fn list_path(repository: &Path, architecture: &str) -> PathBuf {
    let folder = repository.join(FOLDER).join("architectures");
    folder.join(format!("{architecture}.yaml"))
}

fn read_list(path: &Path) -> Result<Architecture, PlanError> {
    serde_saphyr::from_str(&read(path)?).map_err(|error| PlanError::List {
        path: path.to_owned(),
        why: error.to_string(),
    })
}

fn read_fragment(repository: &Path, name: &str) -> Result<Fragment, PlanError> {
    let folder = repository.join(FOLDER).join("fragments");
    let text = read(&folder.join(format!("{name}.config")))?;
    Fragment::parse(name, &text).map_err(PlanError::Fragment)
}

fn read(path: &Path) -> Result<String, PlanError> {
    fs::read_to_string(path).map_err(|source| PlanError::Read {
        path: path.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn repository() -> &'static Path {
        Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
    }

    #[test]
    fn all_lists_and_fragments_are_right_and_every_fragment_is_used() {
        let mut used = BTreeSet::new();
        for architecture in ["amd64", "arm64", "armv7"] {
            for target in variants(repository(), architecture).unwrap() {
                let plan = Plan::read(repository(), &target).unwrap();
                used.extend(plan.fragments.into_iter().map(|fragment| fragment.name));
            }
        }
        let folder = fs::read_dir(repository().join(FOLDER).join("fragments")).unwrap();
        for entry in folder {
            let name = entry.unwrap().file_name().into_string().unwrap();
            assert!(used.contains(name.trim_end_matches(".config")), "{name}");
        }
    }

    #[test]
    fn architectures_share_the_common_fragments() {
        let names = |architecture| {
            let plan = Plan::read(repository(), &Target::new(architecture, "vm")).unwrap();
            let names = plan.fragments.into_iter().map(|fragment| fragment.name);
            names.collect::<BTreeSet<_>>()
        };
        let armv7 = names("armv7");
        let own = armv7
            .difference(&names("amd64"))
            .cloned()
            .collect::<Vec<_>>();
        assert_eq!(own, ["armv7", "zram"]);
        let arm64 = names("arm64");
        let own = arm64
            .difference(&names("amd64"))
            .cloned()
            .collect::<Vec<_>>();
        assert_eq!(own, ["arm64"]);
    }

    #[test]
    fn an_unknown_variant_is_answered_with_the_known_ones() {
        let error = Plan::read(repository(), &Target::new("amd64", "toaster")).unwrap_err();
        assert!(error.to_string().contains("cloud, metal, vm"), "{error}");
    }
}
