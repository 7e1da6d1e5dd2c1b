//! Builds every component, each in a cache entry keyed by what goes into it.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use keelson_buildroot::BuildRoot;
use keelson_cache::{Cache, Check, Entry, GetError, Key, KeyError, OpenError, Progress};
use thiserror::Error;

use crate::component::{self, Component, LoadError, Source, Version};
use crate::golang::{self, FindGoError, Go, GoBuildError};
use crate::licences::LICENCES;
use crate::native::{self, NativeBuildError};

/// Raised when the way components are built changes in a way their inputs do not show.
const RECIPE: &str = "2";

/// Every component, built.
#[derive(Debug)]
pub struct Components {
    built: BTreeMap<String, Built>,
}

/// One built component.
#[derive(Debug)]
pub struct Built {
    /// What it is.
    pub component: Component,
    /// Which version of it.
    pub version: Version,
    /// Its cache entry.
    pub entry: Entry,
}

/// Why the components cannot be had.
#[derive(Debug, Error)]
pub enum ComponentsError {
    /// The list is unusable.
    #[error("no component list")]
    List(#[source] LoadError),
    /// No Go.
    #[error("components cannot be built")]
    Go(#[source] FindGoError),
    /// A component's version cannot be read.
    #[error("cannot tell the version of component {component}")]
    Version {
        /// The component.
        component: String,
        /// Why.
        source: GoBuildError,
    },
    /// An input is missing.
    #[error("cannot tell the inputs of component {component}")]
    Key {
        /// The component.
        component: String,
        /// Why.
        source: KeyError,
    },
    /// The build failed.
    #[error("component {component}")]
    Build {
        /// The component.
        component: String,
        /// Why.
        source: Box<GetError<BuildError>>,
    },
}

/// Why one component could not be built.
#[derive(Debug, Error)]
pub enum BuildError {
    /// No folder to work in.
    #[error("no folder to build in")]
    Work(#[source] io::Error),
    /// No place in the cache.
    #[error("no place in the cache to build in")]
    Place(#[source] OpenError),
    /// A Go program.
    #[error("cannot build the Go module")]
    Go(#[source] GoBuildError),
    /// A C program.
    #[error("cannot build the C program")]
    Native(#[source] NativeBuildError),
}

impl Components {
    /// All of them, by name.
    pub fn iter(&self) -> impl Iterator<Item = &Built> {
        self.built.values()
    }

    /// The component called `name`.
    pub fn get(&self, name: &str) -> Option<&Built> {
        self.built.get(name)
    }
}

impl Built {
    /// The licence texts of everything linked into its programs; none for our own.
    pub fn licences(&self) -> Option<PathBuf> {
        let path = self.entry.path().join(LICENCES);
        path.is_file().then_some(path)
    }

    /// The file of one of its programs.
    pub fn program(&self, name: &str) -> PathBuf {
        self.entry.path().join(name)
    }
}

/// Builds what the cache does not hold. `repo` is the repository's folder.
pub fn components(
    cache: &Cache,
    build_root: &BuildRoot,
    repo: &Path,
    progress: Progress<'_>,
) -> Result<Components, ComponentsError> {
    let folder = repo.join("rootfs");
    let list = component::load(&folder.join("components.yaml")).map_err(ComponentsError::List)?;
    let go = Go::find(cache).map_err(ComponentsError::Go)?;
    let mut built = BTreeMap::new();
    for component in list {
        let name = component.name.clone();
        let one = build_one(cache, build_root, &go, &folder, component, progress)?;
        built.insert(name, one);
    }
    Ok(Components { built })
}

fn build_one(
    cache: &Cache,
    build_root: &BuildRoot,
    go: &Go,
    rootfs: &Path,
    component: Component,
    progress: Progress<'_>,
) -> Result<Built, ComponentsError> {
    let name = component.name.clone();
    let (key, version) = key_of(build_root, go, rootfs, &component)?;
    let entry = cache.get_or_build(key, Check::Contents, progress, |out| {
        let place = cache.folder("go/work").map_err(BuildError::Place)?;
        let work = tempfile::tempdir_in(place).map_err(BuildError::Work)?;
        match &component.source {
            Source::Go(module) => {
                let source = rootfs.join(&module.folder);
                let site = golang::Site {
                    source: &source,
                    work: work.path(),
                    out,
                };
                go.build(&component, module, &site, build_root, progress)
                    .map_err(BuildError::Go)?;
            }
            Source::C { file, .. } => {
                let source = rootfs.join(file);
                native::build(&component, &source, work.path(), out, build_root)
                    .map_err(BuildError::Native)?;
            }
        }
        // Tools write programs as the umask says; everyone may run what is in an image.
        make_executable(out, &component).map_err(BuildError::Work)
    });
    let entry = entry.map_err(|source| ComponentsError::Build {
        component: name,
        source: Box::new(source),
    })?;
    Ok(Built {
        component,
        version,
        entry,
    })
}

/// The key holds all that decides the bytes of the programs.
fn key_of(
    build_root: &BuildRoot,
    go: &Go,
    rootfs: &Path,
    component: &Component,
) -> Result<(Key, Version), ComponentsError> {
    let key_error = |source| ComponentsError::Key {
        component: component.name.clone(),
        source,
    };
    let mut key = Key::stage(&component.name).text("recipe", RECIPE);
    for program in &component.programs {
        key = key.text("program", &format!("{} {}", program.name, program.package));
    }
    match &component.source {
        Source::Go(module) => {
            let source = rootfs.join(&module.folder);
            let version = golang::module_version(component, module, &source).map_err(|source| {
                ComponentsError::Version {
                    component: component.name.clone(),
                    source,
                }
            })?;
            key = key
                .text("go", go.version())
                .text("tags", &module.tags.join(","))
                .text("linker", &golang::linker_flags(module, &version))
                .folder_where("module", &source, |path| !path.ends_with("_test.go"))
                .map_err(key_error)?;
            for main in &module.copy_mains {
                key = key.text("main", &main.to_string_lossy());
            }
            if let Some(cgo) = &module.cgo {
                key = key
                    .text("libraries", &cgo.libraries.join(" "))
                    .file("build root", build_root.used_lock())
                    .map_err(key_error)?;
            }
            Ok((key.finish(), version))
        }
        Source::C { file, version } => {
            let key = key
                .text("flags", &native::FLAGS.join(" "))
                .file("source", &rootfs.join(file))
                .and_then(|key| key.file("build root", build_root.used_lock()))
                .map_err(key_error)?;
            let version = Version {
                number: version.clone(),
                time: String::new(),
            };
            Ok((key.finish(), version))
        }
    }
}

fn make_executable(out: &Path, component: &Component) -> io::Result<()> {
    for program in &component.programs {
        let mode = fs::Permissions::from_mode(0o755);
        fs::set_permissions(out.join(&program.name), mode)?;
    }
    Ok(())
}
