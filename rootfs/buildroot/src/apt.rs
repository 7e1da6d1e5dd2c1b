//! apt with folders of its own: the host's package database is neither read nor changed.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use keelson_cache::file_sha256;
use thiserror::Error;

use crate::lock::{Architecture, Package};
use crate::run::{RunError, run};
use crate::sources::{Mirrors, NoMirror};

/// Indexes are 10 MB: a minute on a slow line, and a mirror that hangs must not hold the build for ever.
const UPDATE_DEADLINE: Duration = Duration::from_secs(10 * 60);
/// Resolving is computation only.
const RESOLVE_DEADLINE: Duration = Duration::from_secs(2 * 60);
/// 300 MB at 200 kB/s.
const DOWNLOAD_DEADLINE: Duration = Duration::from_secs(30 * 60);

/// Debian's own key ring, where the package debian-archive-keyring puts it.
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// Settings of the host that say how to reach the mirror: proxies, retries, a clock that is off.
const HOST_SETTINGS: [&str; 5] = [
    "Acquire::http",
    "Acquire::https",
    "Acquire::Retries",
    "Acquire::Check-Valid-Until",
    "Acquire::Check-Date",
];

/// A private apt.
#[derive(Debug)]
pub(crate) struct Apt {
    folder: PathBuf,
}

/// Why apt could not do its work.
#[derive(Debug, Error)]
pub enum AptError {
    /// A folder or file of the private apt cannot be made.
    #[error("cannot make {path}")]
    Create {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The host's sources name no mirror.
    #[error("cannot tell which Debian mirror to use")]
    Mirror(#[source] NoMirror),
    /// Debian's keys are not on this machine.
    #[error("{path} is missing: install the package debian-archive-keyring")]
    Keyring {
        /// Where we looked.
        path: PathBuf,
    },
    /// A program failed.
    #[error("cannot {action}")]
    Run {
        /// What was tried.
        action: &'static str,
        /// Why.
        source: RunError,
    },
    /// apt says it has downloaded a package, but it is not there.
    #[error("apt did not leave {name} {version} in {folder}")]
    NotDownloaded {
        /// The package.
        name: String,
        /// Its version.
        version: String,
        /// Where we looked.
        folder: PathBuf,
    },
}

impl Apt {
    /// Prepares the folders below `folder` for packages of one series and architecture.
    pub(crate) fn prepare(
        folder: &Path,
        series: &str,
        architecture: Architecture,
    ) -> Result<Self, AptError> {
        let mirrors = Mirrors::of_host(Path::new("/etc/apt")).map_err(AptError::Mirror)?;
        let keyring = mirrors.keyring.clone().unwrap_or_else(|| KEYRING.into());
        if !keyring.exists() {
            return Err(AptError::Keyring { path: keyring });
        }
        let apt = Self {
            folder: folder.to_owned(),
        };
        for name in ["lists/partial", "archives/partial", "parts"] {
            let path = folder.join(name);
            fs::create_dir_all(&path).map_err(create_error(&path))?;
        }
        let host = host_settings().map_err(run_error("read the host's apt settings"))?;
        apt.write("status", "")?;
        apt.write("sources.list", &sources_list(&mirrors, &keyring, series))?;
        apt.write("apt.conf", &apt.configuration(architecture, &host))?;
        Ok(apt)
    }

    /// Fetches the package indexes and checks their signatures.
    pub(crate) fn update(&self) -> Result<(), AptError> {
        let mut command = self.apt_get();
        // Without it a mirror that cannot be reached is only a warning, and old indexes are used.
        command.args(["--error-on=any", "update"]);
        run(command, UPDATE_DEADLINE)
            .map(drop)
            .map_err(run_error("fetch Debian's package indexes"))
    }

    /// Folder of the fetched indexes.
    pub(crate) fn lists(&self) -> PathBuf {
        self.folder.join("lists")
    }

    /// What apt would install for a request, as it prints it.
    pub(crate) fn simulate(&self, packages: &[String]) -> Result<String, AptError> {
        let mut command = self.apt_get();
        command.args(["install", "--simulate", "--yes"]);
        command.args(packages);
        run(command, RESOLVE_DEADLINE).map_err(run_error("resolve the packages' dependencies"))
    }

    /// Downloads exactly these packages.
    pub(crate) fn download(&self, packages: &[Package]) -> Result<(), AptError> {
        let mut command = self.apt_get();
        command.args(["install", "--download-only", "--yes"]);
        command.args(
            packages
                .iter()
                .map(|package| format!("{}={}", package.name, package.version)),
        );
        run(command, DOWNLOAD_DEADLINE)
            .map(drop)
            .map_err(run_error("download the packages"))
    }

    /// Whether every one of these packages was downloaded before, and is still right.
    pub(crate) fn has_all(&self, packages: &[Package], architecture: Architecture) -> bool {
        packages.iter().all(|package| {
            let file = self.file(package, architecture);
            file.is_ok_and(|path| file_sha256(&path).is_ok_and(|hash| hash == package.sha256))
        })
    }

    /// The downloaded file of a package.
    pub(crate) fn file(
        &self,
        package: &Package,
        architecture: Architecture,
    ) -> Result<PathBuf, AptError> {
        let folder = self.folder.join("archives");
        // apt writes the colon of an epoch as in a URL.
        let version = package.version.replace(':', "%3a");
        let file = [architecture.name(), "all"]
            .into_iter()
            .map(|kind| folder.join(format!("{}_{version}_{kind}.deb", package.name)))
            .find(|path| path.exists());
        file.ok_or_else(|| AptError::NotDownloaded {
            name: package.name.clone(),
            version: package.version.clone(),
            folder,
        })
    }

    fn apt_get(&self) -> Command {
        let mut command = Command::new("apt-get");
        command
            .env("APT_CONFIG", self.folder.join("apt.conf"))
            .env("LC_ALL", "C")
            .env("DEBIAN_FRONTEND", "noninteractive");
        command
    }

    fn configuration(&self, architecture: Architecture, host: &str) -> String {
        let folder = self.folder.display();
        let architecture = architecture.name();
        format!(
            "Dir::State \"{folder}\";\n\
             Dir::State::lists \"{folder}/lists\";\n\
             Dir::State::status \"{folder}/status\";\n\
             Dir::State::extended_states \"{folder}/extended_states\";\n\
             Dir::Cache \"{folder}\";\n\
             Dir::Cache::archives \"{folder}/archives\";\n\
             Dir::Log \"{folder}/log\";\n\
             Dir::Etc::parts \"{folder}/parts\";\n\
             Dir::Etc::sourcelist \"{folder}/sources.list\";\n\
             Dir::Etc::sourceparts \"{folder}/parts\";\n\
             Dir::Etc::preferences \"{folder}/preferences\";\n\
             Dir::Etc::preferencesparts \"{folder}/parts\";\n\
             APT::Architecture \"{architecture}\";\n\
             APT::Architectures {{ \"{architecture}\"; }};\n\
             APT::Install-Recommends \"false\";\n\
             APT::Sandbox::User \"\";\n\
             Acquire::Languages \"none\";\n\
             Acquire::IndexTargets::deb::DEP-11::DefaultEnabled \"false\";\n\
             Acquire::Retries \"3\";\n\
             Acquire::http::Timeout \"30\";\n\
             {host}"
        )
    }

    fn write(&self, name: &str, text: &str) -> Result<(), AptError> {
        let path = self.folder.join(name);
        fs::write(&path, text).map_err(create_error(&path))
    }
}

fn sources_list(mirrors: &Mirrors, keyring: &Path, series: &str) -> String {
    let line = |uri: &str, suite: &str| {
        format!("deb [signed-by={}] {uri} {suite} main\n", keyring.display())
    };
    let mut text = line(&mirrors.archive, series);
    text += &line(&mirrors.archive, &format!("{series}-updates"));
    if let Some(security) = &mirrors.security {
        text += &line(security, &format!("{series}-security"));
    }
    text
}

/// The host's settings that concern us, in apt's own form.
fn host_settings() -> Result<String, RunError> {
    let mut command = Command::new("apt-config");
    command.arg("dump").env("LC_ALL", "C");
    let text = run(command, RESOLVE_DEADLINE)?;
    let wanted = |line: &&str| HOST_SETTINGS.iter().any(|name| line.starts_with(name));
    let lines: Vec<_> = text.lines().filter(wanted).collect();
    Ok(lines.join("\n") + "\n")
}

fn create_error(path: &Path) -> impl FnOnce(io::Error) -> AptError {
    let path = path.to_owned();
    move |source| AptError::Create { path, source }
}

fn run_error(action: &'static str) -> impl FnOnce(RunError) -> AptError {
    move |source| AptError::Run { action, source }
}
