//! What the image takes from the Debian packages of the build root (`debian.yaml`).

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use keelson_buildroot::{Architecture, BuildRoot, LockFile, LockFileError};
use serde::Deserialize;
use thiserror::Error;

use crate::elf::{self, ElfError};
use crate::tree::{AddError, Content, Tree};

/// The list of what is taken.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Picks {
    programs: Vec<String>,
    libraries: Vec<String>,
    links: BTreeMap<String, String>,
    files: Vec<String>,
    certificates: String,
    packages: Vec<String>,
}

/// Why something could not be taken.
#[derive(Debug, Error)]
pub enum PickError {
    /// The list cannot be read.
    #[error("cannot read the list of Debian files {path}")]
    Read {
        /// The list.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The list is not what it should be.
    #[error("{path} is not a list of Debian files: {reason}")]
    Parse {
        /// The list.
        path: PathBuf,
        /// Where and what, from the YAML parser.
        reason: String,
    },
    /// A file is not in the build root.
    #[error("the build root has no {path}; is its package in the build root's list?")]
    Missing {
        /// Path in the build root.
        path: String,
        /// What the system said.
        source: io::Error,
    },
    /// A program or library cannot be understood.
    #[error("cannot find out what {path} of the build root needs")]
    Elf {
        /// Path in the build root.
        path: String,
        /// Why.
        source: ElfError,
    },
    /// A library is nowhere.
    #[error("{user} needs the library {library}, which is in none of the library folders")]
    Library {
        /// Who needs it.
        user: String,
        /// Its file name.
        library: String,
    },
    /// Nothing to trust.
    #[error("no certificates below {path} of the build root")]
    NoCertificates {
        /// Path in the build root.
        path: String,
    },
    /// What the build root was made of is unknown.
    #[error("cannot tell the versions of Debian packages")]
    Lock(#[source] LockFileError),
    /// A package is not there.
    #[error("the build root has no package {package}; is it in its list?")]
    Package {
        /// The package.
        package: String,
    },
    /// The tree has it already.
    #[error("cannot place a file from Debian")]
    Add(#[source] AddError),
}

impl Picks {
    /// Reads `debian.yaml`.
    pub(crate) fn load(path: &Path) -> Result<Self, PickError> {
        let text = fs::read_to_string(path).map_err(|source| PickError::Read {
            path: path.to_owned(),
            source,
        })?;
        serde_saphyr::from_str(&text).map_err(|error| PickError::Parse {
            path: path.to_owned(),
            reason: error.to_string(),
        })
    }

    /// Versions of the packages the files come from, as the build root has them.
    pub(crate) fn versions(
        &self,
        build_root: &BuildRoot,
    ) -> Result<BTreeMap<String, String>, PickError> {
        let lock = LockFile::read(build_root.used_lock()).map_err(PickError::Lock)?;
        let packages = Architecture::host().map_or(&[][..], |host| lock.root(host));
        let version = |name: &String| match packages.iter().find(|package| package.name == *name) {
            Some(package) => Ok((name.clone(), package.version.clone())),
            None => Err(PickError::Package {
                package: name.clone(),
            }),
        };
        self.packages.iter().map(version).collect()
    }

    /// Adds everything to `tree`. `root` is the build root's folder.
    pub(crate) fn add_to(&self, tree: &mut Tree, root: &Path) -> Result<(), PickError> {
        let picked = self.closure(root)?;
        for (place, source) in &picked.executable {
            add(tree, place, 0o755, source)?;
        }
        for (place, source) in &picked.plain {
            add(tree, place, 0o644, source)?;
        }
        for (name, program) in &self.links {
            tree.link(&format!("/usr/bin/{name}"), program)
                .map_err(PickError::Add)?;
        }
        let bundle = Content::Bytes(self.certificate_bundle(root)?);
        tree.file("/etc/ssl/certs/ca-certificates.crt", 0o644, bundle)
            .map_err(PickError::Add)?;
        for package in &self.packages {
            let path = format!("/usr/share/doc/{package}/copyright");
            add(tree, &path, 0o644, &resolve(root, &path)?)?;
        }
        Ok(())
    }

    /// Programs, their interpreters and libraries, and plain files, by place in the image.
    fn closure(&self, root: &Path) -> Result<Picked, PickError> {
        let mut picked = Picked::default();
        let mut interpreters = BTreeSet::new();
        let mut open = Vec::new();
        for program in &self.programs {
            let name = program.rsplit('/').next().unwrap_or(program);
            let source = resolve(root, program)?;
            picked
                .executable
                .insert(format!("/usr/bin/{name}"), source.clone());
            open.push((program.clone(), source));
        }
        while let Some((user, source)) = open.pop() {
            let data = fs::read(&source).map_err(|source| PickError::Missing {
                path: user.clone(),
                source,
            })?;
            let needs = elf::needs(&data).map_err(|source| PickError::Elf {
                path: user.clone(),
                source,
            })?;
            if let Some(path) = needs.interpreter {
                let source = resolve(root, &path)?;
                interpreters.insert(path.rsplit('/').next().unwrap_or(&path).to_owned());
                picked.executable.insert(merged(&path), source);
            }
            for library in needs.libraries {
                // Libraries name the interpreter too: it is in memory already.
                if interpreters.contains(&library) {
                    continue;
                }
                let (place, source) = self.find_library(root, &user, &library)?;
                if picked.plain.insert(place.clone(), source.clone()).is_none() {
                    open.push((place, source));
                }
            }
        }
        for file in &self.files {
            picked.plain.insert(file.clone(), resolve(root, file)?);
        }
        Ok(picked)
    }

    fn find_library(
        &self,
        root: &Path,
        user: &str,
        library: &str,
    ) -> Result<(String, PathBuf), PickError> {
        for folder in &self.libraries {
            let place = format!("{folder}/{library}");
            if let Ok(source) = resolve(root, &place) {
                return Ok((place, source));
            }
        }
        Err(PickError::Library {
            user: user.to_owned(),
            library: library.to_owned(),
        })
    }

    fn certificate_bundle(&self, root: &Path) -> Result<Vec<u8>, PickError> {
        let missing = |source| PickError::Missing {
            path: self.certificates.clone(),
            source,
        };
        let folder = root.join(self.certificates.trim_start_matches('/'));
        let mut paths = Vec::new();
        for entry in fs::read_dir(&folder).map_err(missing)? {
            let path = entry.map_err(missing)?.path();
            if path.extension().is_some_and(|extension| extension == "crt") {
                paths.push(path);
            }
        }
        paths.sort();
        let mut bundle = Vec::new();
        for path in &paths {
            bundle.extend(fs::read(path).map_err(missing)?);
            if bundle.last() != Some(&b'\n') {
                bundle.push(b'\n');
            }
        }
        if bundle.is_empty() {
            return Err(PickError::NoCertificates {
                path: self.certificates.clone(),
            });
        }
        Ok(bundle)
    }
}

#[derive(Debug, Default)]
struct Picked {
    executable: BTreeMap<String, PathBuf>,
    plain: BTreeMap<String, PathBuf>,
}

fn add(tree: &mut Tree, place: &str, mode: u32, source: &Path) -> Result<(), PickError> {
    tree.file(place, mode, Content::Host(source.to_owned()))
        .map_err(PickError::Add)
}

/// The same path with the folders of the root that are links into /usr resolved.
fn merged(path: &str) -> String {
    for folder in ["/bin/", "/lib/", "/lib64/", "/sbin/"] {
        if path.starts_with(folder) {
            return format!("/usr{path}");
        }
    }
    path.to_owned()
}

/// The file behind `path` of the build root. Its links are followed as if the build
/// root were `/`: an absolute one must not lead to a file of the host.
fn resolve(root: &Path, path: &str) -> Result<PathBuf, PickError> {
    /// As many as the kernel follows before it says ELOOP.
    const MOST_LINKS: u32 = 40;

    let missing = |source| PickError::Missing {
        path: path.to_owned(),
        source,
    };
    let mut left: Vec<String> = path.split('/').rev().map(str::to_owned).collect();
    let mut found: Vec<String> = Vec::new();
    let mut links = 0;
    while let Some(part) = left.pop() {
        match part.as_str() {
            "" | "." => continue,
            ".." => {
                found.pop();
                continue;
            }
            _ => found.push(part),
        }
        let here = root.join(found.join("/"));
        if !fs::symlink_metadata(&here).map_err(missing)?.is_symlink() {
            continue;
        }
        links += 1;
        if links > MOST_LINKS {
            return Err(missing(io::Error::other("too many symbolic links")));
        }
        let target = fs::read_link(&here).map_err(missing)?;
        if target.is_absolute() {
            found.clear();
        } else {
            found.pop();
        }
        let target = target.to_string_lossy().into_owned();
        left.extend(target.split('/').rev().map(str::to_owned));
    }
    Ok(root.join(found.join("/")))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn the_list_of_the_project_is_valid() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("debian.yaml");
        assert!(!Picks::load(&path).unwrap().packages.is_empty());
    }

    #[test]
    fn links_stay_inside_the_build_root() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        fs::create_dir_all(root.join("usr/lib/real")).unwrap();
        fs::write(root.join("usr/lib/real/x"), "x").unwrap();
        symlink("usr/lib", root.join("lib")).unwrap();
        symlink("/usr/lib/real/x", root.join("usr/lib/absolute")).unwrap();
        symlink("../../../../lib/real/x", root.join("usr/lib/upwards")).unwrap();
        symlink("loop", root.join("loop")).unwrap();
        let real = root.join("usr/lib/real/x");
        assert_eq!(resolve(root, "/lib/absolute").unwrap(), real);
        assert_eq!(resolve(root, "/lib/upwards").unwrap(), real);
        assert!(resolve(root, "/loop").is_err());
        assert!(resolve(root, "/lib/nothing").is_err());
    }

    #[test]
    fn a_missing_program_says_where_to_look() {
        let folder = tempfile::tempdir().unwrap();
        let picks = Picks {
            programs: vec!["/usr/sbin/nft".into()],
            libraries: Vec::new(),
            links: BTreeMap::new(),
            files: Vec::new(),
            certificates: "/certs".into(),
            packages: Vec::new(),
        };
        let error = picks
            .add_to(&mut Tree::default(), folder.path())
            .unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("the build root has no /usr/sbin/nft")
        );
    }

    #[test]
    fn the_bundle_is_all_certificates_in_order() {
        let folder = tempfile::tempdir().unwrap();
        let certs = folder.path().join("certs");
        fs::create_dir(&certs).unwrap();
        fs::write(certs.join("b.crt"), "B\n").unwrap();
        fs::write(certs.join("a.crt"), "A").unwrap();
        fs::write(certs.join("README"), "no").unwrap();
        let picks = Picks {
            programs: Vec::new(),
            libraries: Vec::new(),
            links: BTreeMap::new(),
            files: Vec::new(),
            certificates: "/certs".into(),
            packages: Vec::new(),
        };
        assert_eq!(picks.certificate_bundle(folder.path()).unwrap(), b"A\nB\n");
    }
}
