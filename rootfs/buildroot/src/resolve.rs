//! Decides, from the lock and what the archive has now, which versions to ask apt for.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use thiserror::Error;

use crate::index::Archive;
use crate::lock::{Package, is_version};
use crate::packages::is_package_name;

/// What apt is asked to install: `name=version` for what is locked and still there, else `name`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Request {
    /// Arguments for apt.
    pub(crate) packages: Vec<String>,
    /// Whether every locked version is still there, so that nothing may differ from the lock.
    pub(crate) exact: bool,
}

/// How what is used differs from the lock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Difference {
    /// The archive no longer has the locked version.
    Changed {
        /// The package.
        name: String,
        /// As locked.
        locked: String,
        /// As used.
        used: String,
    },
    /// A newer version of something else needs it.
    Added {
        /// The package.
        name: String,
        /// As used.
        used: String,
    },
    /// Nothing needs it any longer.
    Dropped {
        /// The package.
        name: String,
    },
}

impl fmt::Display for Difference {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Changed { name, locked, used } => {
                write!(formatter, "{name} {used} instead of {locked}")
            }
            Self::Added { name, used } => write!(formatter, "{name} {used} added"),
            Self::Dropped { name } => write!(formatter, "{name} no longer needed"),
        }
    }
}

/// Why there is nothing to ask for.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum ResolveError {
    /// The archive offers other bytes under a locked version: never to be accepted.
    #[error(
        "{name} {version}: the archive's SHA-256 is {found}, the lock says {locked}: \
         one of the two has been tampered with or the lock was edited by hand"
    )]
    OtherBytes {
        /// The package.
        name: String,
        /// Its version.
        version: String,
        /// The archive's.
        found: String,
        /// Ours.
        locked: String,
    },
    /// The archive does not know a wanted package at all.
    #[error("the archive has no package {name}: check packages.yaml and its series")]
    Unknown {
        /// The package.
        name: String,
    },
    /// apt chose a version that no index lists.
    #[error("apt chose {name} {version}, which no package index lists")]
    NotListed {
        /// The package.
        name: String,
        /// Its version.
        version: String,
    },
}

/// What to ask for, so that the result is the lock wherever the archive still has it.
pub(crate) fn request(
    wanted: &BTreeSet<&str>,
    locked: &[Package],
    archive: &Archive,
) -> Result<Request, ResolveError> {
    if let Some(name) = wanted.iter().find(|name| !archive.has(name)) {
        return Err(ResolveError::Unknown {
            name: (*name).to_owned(),
        });
    }
    let mut packages = Vec::new();
    let mut exact = true;
    for package in locked {
        match archive.sha256(&package.name, &package.version) {
            Some(found) if found == package.sha256 => {
                packages.push(format!("{}={}", package.name, package.version));
            }
            Some(found) => {
                return Err(ResolveError::OtherBytes {
                    name: package.name.clone(),
                    version: package.version.clone(),
                    found: found.to_owned(),
                    locked: package.sha256.clone(),
                });
            }
            None => {
                exact = false;
                // Dependencies follow by themselves; one that is gone from the archive must not be asked for.
                if wanted.contains(package.name.as_str()) {
                    packages.push(package.name.clone());
                }
            }
        }
    }
    let is_locked = |name: &str| locked.iter().any(|package| package.name == name);
    for name in wanted.iter().filter(|name| !is_locked(name)) {
        exact = false;
        packages.push((*name).to_owned());
    }
    Ok(Request { packages, exact })
}

/// What to ask for when locked and newer versions do not go together: the newest of everything.
pub(crate) fn newest(wanted: &BTreeSet<&str>) -> Request {
    Request {
        packages: wanted.iter().map(|name| (*name).to_owned()).collect(),
        exact: false,
    }
}

/// Reads apt's simulation: lines such as `Inst make (4.4.1-2 Debian:13.2/stable [amd64])`.
pub(crate) fn chosen(simulation: &str, archive: &Archive) -> Result<Vec<Package>, ResolveError> {
    let mut packages = Vec::new();
    for line in simulation.lines() {
        let Some((name, version)) = simulated(line) else {
            continue;
        };
        let Some(sha256) = archive.sha256(name, version) else {
            return Err(ResolveError::NotListed {
                name: name.to_owned(),
                version: version.to_owned(),
            });
        };
        packages.push(Package {
            name: name.to_owned(),
            version: version.to_owned(),
            sha256: sha256.to_owned(),
        });
    }
    packages.sort();
    packages.dedup();
    Ok(packages)
}

fn simulated(line: &str) -> Option<(&str, &str)> {
    let (name, rest) = line.strip_prefix("Inst ")?.split_once(' ')?;
    let version = rest.strip_prefix('(')?.split([' ', ')']).next()?;
    // A package of another architecture is shown with it: `libc6:arm64`.
    let name = name.split(':').next()?;
    (is_package_name(name) && is_version(version)).then_some((name, version))
}

/// How `used` differs from `locked`.
pub(crate) fn differences(locked: &[Package], used: &[Package]) -> Vec<Difference> {
    let versions = |packages: &[Package]| -> BTreeMap<String, String> {
        let pairs = packages.iter();
        pairs
            .map(|package| (package.name.clone(), package.version.clone()))
            .collect()
    };
    let (locked, used) = (versions(locked), versions(used));
    let mut differences = Vec::new();
    for (name, version) in &used {
        match locked.get(name) {
            Some(locked) if locked == version => {}
            Some(locked) => differences.push(Difference::Changed {
                name: name.clone(),
                locked: locked.clone(),
                used: version.clone(),
            }),
            None => differences.push(Difference::Added {
                name: name.clone(),
                used: version.clone(),
            }),
        }
    }
    let gone = locked.keys().filter(|name| !used.contains_key(*name));
    differences.extend(gone.map(|name| Difference::Dropped { name: name.clone() }));
    differences
}

#[cfg(test)]
mod tests {
    use super::*;

    fn archive() -> Archive {
        let mut archive = Archive::default();
        for (name, version, hash) in [("make", "4", "aa"), ("make", "5", "bb"), ("bc", "2", "cc")] {
            archive.add(&format!(
                "Package: {name}\nVersion: {version}\nSHA256: {hash}\n"
            ));
        }
        archive
    }

    fn package(name: &str, version: &str, sha256: &str) -> Package {
        Package {
            name: name.to_owned(),
            version: version.to_owned(),
            sha256: sha256.to_owned(),
        }
    }

    #[test]
    fn locked_versions_that_are_there_are_asked_for_exactly() {
        let locked = [package("bc", "2", "cc"), package("make", "4", "aa")];
        let request = request(&BTreeSet::from(["make"]), &locked, &archive()).unwrap();
        assert_eq!(request.packages, ["bc=2", "make=4"]);
        assert!(request.exact);
    }

    #[test]
    fn a_version_that_is_gone_is_replaced_by_what_the_series_has() {
        let locked = [package("bc", "1", "00"), package("make", "4", "aa")];
        let asked = request(&BTreeSet::from(["bc", "make"]), &locked, &archive()).unwrap();
        assert_eq!(asked.packages, ["bc", "make=4"]);
        assert!(!asked.exact);
        let dependency = request(&BTreeSet::from(["make"]), &locked, &archive()).unwrap();
        assert_eq!(dependency.packages, ["make=4"]);
    }

    #[test]
    fn other_bytes_under_a_locked_version_are_an_error() {
        let locked = [package("make", "4", "ff")];
        let result = request(&BTreeSet::from(["make"]), &locked, &archive());
        assert!(matches!(result, Err(ResolveError::OtherBytes { .. })));
    }

    #[test]
    fn an_unknown_package_is_named() {
        let error = request(&BTreeSet::from(["nope"]), &[], &archive()).unwrap_err();
        assert!(error.to_string().contains("no package nope"));
    }

    #[test]
    fn the_simulation_is_read_and_compared() {
        let text =
            "NOTE: x\nInst make (5 Debian:13/stable [amd64])\nConf make (5 x)\nInst bc (2 y) [z]\n";
        let used = chosen(text, &archive()).unwrap();
        assert_eq!(used, [package("bc", "2", "cc"), package("make", "5", "bb")]);
        let locked = [package("make", "4", "aa"), package("old", "1", "dd")];
        let lines: Vec<_> = differences(&locked, &used)
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(
            lines,
            ["bc 2 added", "make 5 instead of 4", "old no longer needed"]
        );
        let unlisted = chosen("Inst make (6 x)", &archive());
        assert!(matches!(unlisted, Err(ResolveError::NotListed { .. })));
    }
}
