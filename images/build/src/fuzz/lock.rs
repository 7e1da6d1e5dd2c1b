//! Holds the lock file of tests/fuzz against that of the project: what is fuzzed must be what the
//! node is built with.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use anyhow::{Context, ensure};

/// Fails when tests/fuzz has another version of a crate than the project, and could have the same.
pub(crate) fn check(repo: &Path) -> anyhow::Result<()> {
    let read = |path: &str| {
        let path = repo.join(path);
        fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
    };
    let differences = differences(&read("Cargo.lock")?, &read("tests/fuzz/Cargo.lock")?);
    ensure!(
        differences.is_empty(),
        "tests/fuzz would fuzz other versions than the node has: {}\n\
         copy Cargo.lock to tests/fuzz/Cargo.lock and try again: cargo adds what only tests/fuzz has",
        differences.join(", ")
    );
    Ok(())
}

fn differences(project: &str, fuzz: &str) -> Vec<String> {
    let (project, fuzz) = (versions(project), versions(fuzz));
    let mut differences = Vec::new();
    for (name, ours) in fuzz {
        let Some(theirs) = project.get(name) else {
            continue;
        };
        for version in ours.difference(theirs) {
            // The fuzzer itself may need a version that goes together with none of the project's.
            if let Some(other) = theirs.iter().find(|other| line(other) == line(version)) {
                differences.push(format!("{name} {version} instead of {other}"));
            }
        }
    }
    differences
}

/// Versions of each package of a Cargo.lock.
fn versions(lock: &str) -> BTreeMap<&str, BTreeSet<&str>> {
    let mut versions: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    let mut name = "";
    for line in lock.lines() {
        if let Some(value) = value(line, "name = ") {
            name = value;
        } else if let Some(value) = value(line, "version = ") {
            versions.entry(name).or_default().insert(value);
        }
    }
    versions
}

/// What cargo takes for compatible: the version up to its first number that is not zero.
fn line(version: &str) -> &str {
    let end = version.find(|c: char| c.is_ascii_digit() && c != '0');
    let end = end.and_then(|first| Some(first + version.get(first..)?.find('.')?));
    end.and_then(|end| version.get(..end)).unwrap_or(version)
}

fn value<'a>(line: &'a str, key: &str) -> Option<&'a str> {
    line.strip_prefix(key)?.strip_prefix('"')?.strip_suffix('"')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_version_is_named() {
        let package = |name, version| {
            format!("[[package]]\nname = \"{name}\"\nversion = \"{version}\"\ndependencies = []\n")
        };
        let project =
            package("serde", "1.0.1") + &package("syn", "2.0.0") + &package("syn", "3.0.0");
        let same =
            package("serde", "1.0.1") + &package("syn", "3.0.0") + &package("libafl", "0.1.0");
        assert_eq!(differences(&project, &same), [] as [String; 0]);
        let other = package("serde", "1.0.2") + &package("syn", "4.0.0");
        assert_eq!(
            differences(&project, &other),
            ["serde 1.0.2 instead of 1.0.1"]
        );
    }

    #[test]
    fn compatible_versions_are_one_line() {
        for (version, expected) in [
            ("1.2.3", "1"),
            ("12.0.1", "12"),
            ("0.16.1", "0.16"),
            ("0.0.4", "0.0.4"),
            ("0.10.0-rc.1", "0.10"),
        ] {
            assert_eq!(line(version), expected);
        }
    }
}
