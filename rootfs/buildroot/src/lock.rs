//! debian.lock: every package of the root by name, version and hash, for each architecture.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::packages::is_package_name;

const HEADER: &str = "\
# Debian packages of the build root, written by `make update-lock`; do not edit.
# architecture name version SHA-256
";

/// Length of a SHA-256 in hexadecimal.
const HASH_LENGTH: usize = 64;

/// Debian's name of an architecture.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Architecture {
    /// 64-bit PC.
    Amd64,
    /// 64-bit ARM.
    Arm64,
    /// 32-bit ARM with floating point.
    Armhf,
}

impl Architecture {
    const ALL: [Self; 3] = [Self::Amd64, Self::Arm64, Self::Armhf];

    /// The name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Amd64 => "amd64",
            Self::Arm64 => "arm64",
            Self::Armhf => "armhf",
        }
    }

    /// The architecture of the machine that builds.
    pub fn host() -> Option<Self> {
        match std::env::consts::ARCH {
            "x86_64" => Some(Self::Amd64),
            "aarch64" => Some(Self::Arm64),
            "arm" => Some(Self::Armhf),
            _ => None,
        }
    }

    fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.name() == name)
    }
}

/// One version of one package.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Package {
    /// Debian's name.
    pub name: String,
    /// Debian's version.
    pub version: String,
    /// Hash of the .deb file, in hexadecimal.
    pub sha256: String,
}

/// The packages of every architecture's root.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LockFile {
    roots: BTreeMap<Architecture, Vec<Package>>,
}

/// Why the lock cannot be used.
#[derive(Debug, Error)]
pub enum LockFileError {
    /// The file cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A line is not what we expect.
    #[error("{path} line {line}: {what}; `make update-lock` writes it anew")]
    Line {
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        /// What is wrong.
        what: LineError,
    },
}

/// What is wrong with a line of the lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum LineError {
    /// Too few or too many words.
    #[error("expected architecture, name, version and SHA-256")]
    Words,
    /// The first word.
    #[error("unknown architecture")]
    Architecture,
    /// The second word.
    #[error("not a Debian package name")]
    Name,
    /// The third word.
    #[error("not a Debian version")]
    Version,
    /// The fourth word.
    #[error("not a SHA-256 in lower-case hexadecimal")]
    Hash,
    /// A package that was there already.
    #[error("the package is listed twice")]
    Twice,
}

impl LockFile {
    /// Reads the file.
    pub fn read(path: &Path) -> Result<Self, LockFileError> {
        let text = fs::read_to_string(path).map_err(|source| LockFileError::Read {
            path: path.to_owned(),
            source,
        })?;
        Self::parse(&text).map_err(|(line, what)| LockFileError::Line {
            path: path.to_owned(),
            line,
            what,
        })
    }

    /// Reads the text; an error comes with its line, counted from 1.
    pub fn parse(text: &str) -> Result<Self, (usize, LineError)> {
        let mut lock = Self::default();
        for (index, line) in text.lines().enumerate() {
            if !line.is_empty() && !line.starts_with('#') {
                lock.add_line(line).map_err(|what| (index + 1, what))?;
            }
        }
        Ok(lock)
    }

    fn add_line(&mut self, line: &str) -> Result<(), LineError> {
        let words: Vec<_> = line.split(' ').collect();
        let [architecture, name, version, sha256] = words[..] else {
            return Err(LineError::Words);
        };
        let architecture = Architecture::parse(architecture).ok_or(LineError::Architecture)?;
        if !is_package_name(name) {
            return Err(LineError::Name);
        }
        if !is_version(version) {
            return Err(LineError::Version);
        }
        if !is_hash(sha256) {
            return Err(LineError::Hash);
        }
        let root = self.roots.entry(architecture).or_default();
        if root.iter().any(|package| package.name == name) {
            return Err(LineError::Twice);
        }
        root.push(Package {
            name: name.to_owned(),
            version: version.to_owned(),
            sha256: sha256.to_owned(),
        });
        Ok(())
    }

    /// The packages of one architecture's root; empty when the lock knows none.
    pub fn root(&self, architecture: Architecture) -> &[Package] {
        self.roots.get(&architecture).map_or(&[], Vec::as_slice)
    }

    /// Replaces the packages of one architecture's root.
    pub fn set_root(&mut self, architecture: Architecture, mut packages: Vec<Package>) {
        packages.sort();
        self.roots.insert(architecture, packages);
    }

    /// The file's text.
    pub fn text(&self) -> String {
        let mut text = String::from(HEADER);
        for (architecture, packages) in &self.roots {
            for Package {
                name,
                version,
                sha256,
            } in packages
            {
                // Writing to a String cannot fail.
                let _ = writeln!(text, "{} {name} {version} {sha256}", architecture.name());
            }
        }
        text
    }
}

/// Debian policy 5.6.12, as far as a command line must be safe from it.
pub(crate) fn is_version(version: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b".+-~:".contains(&byte);
    version
        .bytes()
        .next()
        .is_some_and(|byte| byte.is_ascii_digit())
        && version.bytes().all(allowed)
}

pub(crate) fn is_hash(text: &str) -> bool {
    text.len() == HASH_LENGTH
        && text
            .bytes()
            .all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASH: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    #[test]
    fn what_is_written_is_read_back() {
        let package = |name: &str| Package {
            name: name.to_owned(),
            version: String::from("2:1.0+b1~deb13"),
            sha256: HASH.to_owned(),
        };
        let mut lock = LockFile::default();
        lock.set_root(Architecture::Arm64, vec![package("zz")]);
        lock.set_root(Architecture::Amd64, vec![package("make"), package("bc")]);
        let again = LockFile::parse(&lock.text()).unwrap();
        assert_eq!(lock, again);
        assert_eq!(again.root(Architecture::Amd64)[0].name, "bc");
        assert!(again.root(Architecture::Armhf).is_empty());
    }

    #[test]
    fn wrong_lines_are_refused_with_their_number() {
        let cases = [
            ("amd64 make 1".to_owned(), LineError::Words),
            (format!("mips make 1 {HASH}"), LineError::Architecture),
            (format!("amd64 -y 1 {HASH}"), LineError::Name),
            (format!("amd64 make 1;x {HASH}"), LineError::Version),
            (format!("amd64 make 1 {}", &HASH[1..]), LineError::Hash),
            (format!("amd64 bc 1 {HASH}"), LineError::Twice),
        ];
        for (line, error) in cases {
            let text = format!("{HEADER}amd64 bc 2 {HASH}\n{line}\n");
            assert_eq!(LockFile::parse(&text), Err((4, error)), "{line}");
        }
    }

    #[test]
    fn our_own_lock_has_every_wanted_package() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
        let lock = LockFile::read(&folder.join("debian.lock")).unwrap();
        let packages = crate::Packages::read(&folder.join("packages.yaml")).unwrap();
        let root = lock.root(Architecture::Amd64);
        for name in packages.wanted() {
            assert!(root.iter().any(|package| package.name == name), "{name}");
        }
    }
}
