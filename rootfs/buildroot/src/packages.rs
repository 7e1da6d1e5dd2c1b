//! packages.yaml: which packages the build root is made of.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

use serde::Deserialize;
use thiserror::Error;

use crate::lock::Package;

/// The package lists, as written.
#[derive(Debug, Clone, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct Packages {
    /// Debian's name of the release.
    pub series: String,
    /// Programs run inside the root.
    pub tools: Vec<String>,
    /// What makes boot loaders, and what only that needs: no other stage depends on it.
    pub loaders: Vec<String>,
    /// Packages of which files go into the image.
    pub image: Vec<String>,
    /// Links that maintainer scripts would have made.
    pub links: Vec<Link>,
}

/// A symbolic link in the root.
#[derive(Debug, Clone, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct Link {
    /// Where, relative to the root.
    pub path: PathBuf,
    /// What it points to.
    pub target: PathBuf,
}

/// Why the lists cannot be used.
#[derive(Debug, Error)]
pub enum PackagesError {
    /// The file cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It is not what we expect.
    #[error("{path} is not a package list: {why}")]
    Parse {
        /// The file.
        path: PathBuf,
        /// Where and what.
        why: String,
    },
    /// A package or series has a name that Debian does not allow.
    #[error("{name:?} is not a Debian package or series name")]
    Name {
        /// As written.
        name: String,
    },
    /// A link leaves the root.
    #[error("link {path} must be a path inside the root, without a leading / and without ..")]
    Link {
        /// As written.
        path: PathBuf,
    },
}

impl Packages {
    /// Reads and checks the file.
    pub fn read(path: &Path) -> Result<Self, PackagesError> {
        let text = fs::read_to_string(path).map_err(|source| PackagesError::Read {
            path: path.to_owned(),
            source,
        })?;
        let packages: Self =
            serde_saphyr::from_str(&text).map_err(|error| PackagesError::Parse {
                path: path.to_owned(),
                why: error.to_string(),
            })?;
        packages.check()?;
        Ok(packages)
    }

    /// Every wanted package, once.
    pub fn wanted(&self) -> BTreeSet<&str> {
        let all = self.tools.iter().chain(&self.loaders).chain(&self.image);
        all.map(String::as_str).collect()
    }

    /// The packages for loaders, and all others.
    pub(crate) fn split_loaders(&self, packages: Vec<Package>) -> (Vec<Package>, Vec<Package>) {
        packages
            .into_iter()
            .partition(|package| self.loaders.contains(&package.name))
    }

    /// Names go onto command lines: nothing but what Debian's policy allows gets there.
    fn check(&self) -> Result<(), PackagesError> {
        let mut names = vec![self.series.as_str()];
        names.extend(self.wanted());
        if let Some(name) = names.into_iter().find(|name| !is_package_name(name)) {
            return Err(PackagesError::Name {
                name: name.to_owned(),
            });
        }
        let inside = |path: &Path| {
            let mut parts = path.components();
            parts.all(|part| matches!(part, Component::Normal(_)))
        };
        match self.links.iter().find(|link| !inside(&link.path)) {
            Some(link) => Err(PackagesError::Link {
                path: link.path.clone(),
            }),
            None => Ok(()),
        }
    }
}

/// Debian policy 5.6.7: lower-case letters, digits, `+`, `-`, `.`, at least two, the first no sign.
pub(crate) fn is_package_name(name: &str) -> bool {
    let letter = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let mut bytes = name.bytes();
    bytes.next().is_some_and(letter)
        && name.len() >= 2
        && bytes.all(|byte| letter(byte) || b"+-.".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Packages, PackagesError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("packages.yaml");
        fs::write(&path, text).unwrap();
        Packages::read(&path)
    }

    #[test]
    fn our_own_list_is_right() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("packages.yaml");
        let packages = Packages::read(&path).unwrap();
        assert!(packages.wanted().contains("nftables"));
        assert!(packages.wanted().contains("grub-pc-bin"));
    }

    #[test]
    fn another_version_of_a_loader_changes_nothing_for_other_stages() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("packages.yaml");
        let packages = Packages::read(&path).unwrap();
        let package = |name: &str| Package {
            name: name.to_owned(),
            version: "1".to_owned(),
            sha256: String::new(),
        };
        let used = vec![package("gcc-14"), package("grub-common"), package("make")];
        let (loaders, others) = packages.split_loaders(used);
        assert_eq!(loaders, [package("grub-common")]);
        assert_eq!(others, [package("gcc-14"), package("make")]);
    }

    #[test]
    fn unknown_keys_bad_names_and_escaping_links_are_refused() {
        let with = |tools: &str, link: &str| {
            format!(
                "series: trixie\ntools: [{tools}]\nloaders: []\nimage: []\n\
                 links: [{{path: {link}, target: x}}]\n"
            )
        };
        read(&with("make", "usr/bin/cc")).unwrap();
        for name in ["-y", "a", "Make", "a b", "a=1"] {
            let result = read(&with(&format!("'{name}'"), "usr/bin/cc"));
            assert!(matches!(result, Err(PackagesError::Name { .. })), "{name}");
        }
        for link in ["/etc/x", "../x", "a/../../x"] {
            let result = read(&with("make", link));
            assert!(matches!(result, Err(PackagesError::Link { .. })), "{link}");
        }
        let unknown = with("make", "x") + "extra: 1\n";
        assert!(matches!(read(&unknown), Err(PackagesError::Parse { .. })));
    }
}
