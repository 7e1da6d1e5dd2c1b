//! The Go tool: where it is, its environment, modules and builds.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use keelson_buildroot::{Bind, BuildRoot};
use keelson_cache::{Cache, OpenError, Progress};
use thiserror::Error;

use crate::component::{Cgo, Component, GoModule, Program, Version};
use crate::gomod::{self, NotRequired};
use crate::licences::{self, LICENCES, LicenceError};
use crate::module_copy::{self, CopyError};
use crate::process::{self, RunError};

/// Where the machine's Go is seen inside the build root: one place on every machine,
/// because cgo's cache knows files by path.
const GO_PLACE: &str = "/go";

/// The Go tool of the machine, with caches in our folder.
#[derive(Debug)]
pub(crate) struct Go {
    version: String,
    root: PathBuf,
    build_cache: PathBuf,
    module_cache: PathBuf,
}

/// Why no Go tool can be used.
#[derive(Debug, Error)]
pub enum FindGoError {
    /// It is not there.
    #[error("Go cannot be used; install Go 1.26 or newer (https://go.dev/dl/) and put it on PATH")]
    Missing(#[source] RunError),
    /// A folder for its caches cannot be made.
    #[error("no place for Go's caches")]
    Cache(#[source] OpenError),
}

/// Why a module could not be built.
#[derive(Debug, Error)]
pub enum GoBuildError {
    /// The module cannot be copied.
    #[error("cannot copy the module of component {component}")]
    Copy {
        /// The component.
        component: String,
        /// Why.
        source: CopyError,
    },
    /// Licence texts cannot be collected.
    #[error("cannot collect the licences of component {component}")]
    Licences {
        /// The component.
        component: String,
        /// Why.
        source: LicenceError,
    },
    /// The module's go.mod cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// The go.mod.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// go.mod does not say the version.
    #[error("component {component} has no version")]
    Version {
        /// The component.
        component: String,
        /// Why.
        source: NotRequired,
    },
    /// The Go tool failed.
    #[error("cannot {action} for component {component}")]
    Go {
        /// What was tried.
        action: &'static str,
        /// The component.
        component: String,
        /// What it said.
        source: RunError,
    },
}

impl Go {
    /// Asks the Go tool on PATH who it is.
    pub(crate) fn find(cache: &Cache) -> Result<Self, FindGoError> {
        let mut command = Command::new("go");
        command
            .args(["env", "GOVERSION", "GOROOT"])
            .env("GOTOOLCHAIN", "local");
        let text = process::output(command).map_err(FindGoError::Missing)?;
        let (version, root) = text.split_once('\n').unwrap_or((&text, ""));
        Ok(Self {
            version: version.to_owned(),
            root: PathBuf::from(root),
            build_cache: cache.folder("go/build").map_err(FindGoError::Cache)?,
            module_cache: cache.folder("go/mod").map_err(FindGoError::Cache)?,
        })
    }

    /// What the tool calls itself, for example `go1.26.8`.
    pub(crate) fn version(&self) -> &str {
        &self.version
    }

    /// Builds every program of `component`.
    ///
    /// The repository is not written to: copied upstream programs and whatever Go
    /// would like to change in go.mod stay in the copy of the module.
    pub(crate) fn build(
        &self,
        component: &Component,
        module: &GoModule,
        site: &Site<'_>,
        build_root: &BuildRoot,
        progress: Progress<'_>,
    ) -> Result<(), GoBuildError> {
        let name = &component.name;
        let copy_error = |source| GoBuildError::Copy {
            component: name.clone(),
            source,
        };
        module_copy::folder(site.source, site.work).map_err(copy_error)?;
        let mut version = module_version(component, module, site.source)?;

        progress(&format!("{name} {}: looking for modules", version.number));
        let mut download = self.command(site.work);
        download.args(["mod", "download", &module.upstream]);
        self.run(download, "download the upstream", name, progress)?;

        let mut describe = self.command(site.work);
        let format = "{{.Time.Format \"2006-01-02T15:04:05Z07:00\"}}\n{{.Dir}}";
        describe.args(["list", "-m", "-f", format, &module.upstream]);
        let described = process::output(describe)
            .map_err(|source| go_error("look up the upstream", name, source))?;
        let (time, folder) = described.split_once('\n').unwrap_or((&described, ""));
        time.clone_into(&mut version.time);
        module_copy::mains(module, Path::new(folder), site.work).map_err(copy_error)?;

        for program in &component.programs {
            let mut build = match &module.cgo {
                None => self.command(site.work),
                Some(cgo) => {
                    self.fetch_for_cgo(component, module, program, site, progress)?;
                    self.command_in_build_root(cgo, site, build_root)
                }
            };
            build.args(["build", "-v"]).arg(tags(module));
            build.arg(format!("-ldflags={}", linker_flags(module, &version)));
            build
                .arg("-o")
                .arg(site.out.join(&program.name))
                .arg(&program.package);
            progress(&format!("{} {}: compiling", program.name, version.number));
            self.run(build, "compile", name, progress)?;
        }
        self.write_licences(component, module, site)
    }

    /// Leaves the licence texts of everything that was linked beside the programs.
    fn write_licences(
        &self,
        component: &Component,
        module: &GoModule,
        site: &Site<'_>,
    ) -> Result<(), GoBuildError> {
        let mut list = self.command(site.work);
        let format =
            "{{with .Module}}{{if not .Main}}{{.Path}} {{.Version}}\t{{.Dir}}{{end}}{{end}}";
        list.args(["list", "-deps", "-f", format]).arg(tags(module));
        if module.cgo.is_some() {
            list.env("CGO_ENABLED", "1");
        }
        list.args(component.programs.iter().map(|program| &program.package));
        let text = process::output(list)
            .map_err(|source| go_error("list modules", &component.name, source))?;
        let mut modules: BTreeMap<_, _> = text
            .lines()
            .filter_map(|line| line.split_once('\t'))
            .map(|(name, folder)| (name.to_owned(), PathBuf::from(folder)))
            .collect();
        modules.insert(
            format!("the Go library, {}", self.version),
            self.root.clone(),
        );
        licences::write(&modules, &site.out.join(LICENCES)).map_err(|source| {
            GoBuildError::Licences {
                component: component.name.clone(),
                source,
            }
        })
    }

    /// Runs Go; what it downloads and compiles becomes progress.
    fn run(
        &self,
        command: Command,
        action: &'static str,
        component: &str,
        progress: Progress<'_>,
    ) -> Result<(), GoBuildError> {
        // Go names each package when it begins to compile it (and nothing for what its
        // own cache holds), and each module it downloads.
        let packages = Cell::new(0_u32);
        let line = |text: &str| match text.strip_prefix("go: downloading ") {
            Some(module) => progress(&format!("{component}: downloading {module}")),
            None => {
                packages.set(packages.get() + 1);
                progress(&format!(
                    "{component}: compiling package {} {text}",
                    packages.get()
                ));
            }
        };
        process::run(command, &line).map_err(|source| go_error(action, component, source))
    }

    fn command(&self, folder: &Path) -> Command {
        let mut command = Command::new("go");
        command.current_dir(folder).envs(self.environment());
        command
    }

    /// Downloads what a program with C needs: inside the build root is no network.
    fn fetch_for_cgo(
        &self,
        component: &Component,
        module: &GoModule,
        program: &Program,
        site: &Site<'_>,
        progress: Progress<'_>,
    ) -> Result<(), GoBuildError> {
        let mut list = self.command(site.work);
        list.env("CGO_ENABLED", "1")
            .args(["list", "-deps"])
            .arg(tags(module));
        list.arg(&program.package);
        self.run(list, "download modules", &component.name, progress)
    }

    /// The same tool inside the build root, where the C compiler is.
    fn command_in_build_root(&self, cgo: &Cgo, site: &Site<'_>, build_root: &BuildRoot) -> Command {
        let writable = [site.work, site.out, &self.build_cache, &self.module_cache];
        let mut binds: Vec<_> = writable.into_iter().map(Bind::writable).collect();
        binds.push(Bind::read_only(&self.root).at(Path::new(GO_PLACE)));
        let mut command = build_root.command(Path::new(GO_PLACE).join("bin/go"), &binds);
        command.current_dir(site.work).envs(self.environment());
        command
            .env("CGO_ENABLED", "1")
            .env("CC", "gcc")
            .env("GOPROXY", "off");
        // There is no pkg-config in the build root: what it would say about these
        // libraries is their names, and those are in the component list.
        command.env("PKG_CONFIG", "/usr/bin/true");
        command.env("CGO_LDFLAGS", format!("-O2 -g {}", cgo.libraries.join(" ")));
        command
    }

    /// Everything that could make one machine's build differ from another's is set;
    /// which proxy modules come from stays the machine's business.
    fn environment(&self) -> BTreeMap<&'static str, OsString> {
        BTreeMap::from([
            ("CGO_ENABLED", "0".into()),
            ("GOAMD64", "v1".into()),
            ("GOARCH", "amd64".into()),
            ("GOCACHE", self.build_cache.clone().into()),
            ("GOEXPERIMENT", "".into()),
            ("GOFLAGS", "-buildvcs=false -trimpath".into()),
            ("GOMODCACHE", self.module_cache.clone().into()),
            ("GOOS", "linux".into()),
            ("GOTOOLCHAIN", "local".into()),
            ("GOWORK", "off".into()),
        ])
    }
}

/// The folders of one build.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Site<'a> {
    /// The module in the repository.
    pub source: &'a Path,
    /// Where its copy goes.
    pub work: &'a Path,
    /// Where programs go.
    pub out: &'a Path,
}

/// The version that go.mod pins, without the time, which needs the module.
pub(crate) fn module_version(
    component: &Component,
    module: &GoModule,
    folder: &Path,
) -> Result<Version, GoBuildError> {
    let path = folder.join("go.mod");
    let text = fs::read_to_string(&path).map_err(|source| GoBuildError::Read { path, source })?;
    let number = gomod::required_version(&text, &module.upstream).map_err(|source| {
        GoBuildError::Version {
            component: component.name.clone(),
            source,
        }
    })?;
    Ok(Version {
        number,
        time: String::new(),
    })
}

/// Strip symbols, set the version, and for C link everything in.
pub(crate) fn linker_flags(module: &GoModule, version: &Version) -> String {
    let mut flags = "-s -w".to_owned();
    for (variable, value) in &module.variables {
        flags.push_str(&format!(" -X {variable}={}", version.fill(value)));
    }
    if module.cgo.is_some() {
        flags.push_str(" -linkmode external -extldflags -static");
    }
    flags
}

fn tags(module: &GoModule) -> String {
    format!("-tags={}", module.tags.join(","))
}

fn go_error(action: &'static str, component: &str, source: RunError) -> GoBuildError {
    GoBuildError::Go {
        action,
        component: component.to_owned(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn linker_flags_carry_the_version() {
        let module = GoModule {
            folder: "go/x".into(),
            upstream: "x".into(),
            tags: Vec::new(),
            variables: BTreeMap::from([("x.Version".into(), "v{version}".into())]),
            copy_mains: Vec::new(),
            cgo: None,
        };
        let version = Version {
            number: "1.2.3".into(),
            time: String::new(),
        };
        assert_eq!(linker_flags(&module, &version), "-s -w -X x.Version=v1.2.3");
    }
}
