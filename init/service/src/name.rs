//! Names of services, conditions and facts.

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use thiserror::Error;

/// A name made of lower-case letters, digits and single dashes, 1 to 63 characters.
///
/// It becomes a cgroup, a file and a word on the console, so nothing else is let in.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(String);

impl Name {
    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Borrow<str> for Name {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl FromStr for Name {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let plain = text
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        let dashes_ok = !text.starts_with('-') && !text.ends_with('-') && !text.contains("--");
        if plain && dashes_ok && (1..=63).contains(&text.len()) {
            Ok(Self(text.to_owned()))
        } else {
            Err(NameError {
                text: text.chars().take(80).collect(),
            })
        }
    }
}

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(D::Error::custom)
    }
}

/// Text that is no name.
#[derive(Debug, PartialEq, Eq, Error)]
#[error("{text:?} is not a name: use 1 to 63 of a-z, 0-9 and single dashes between them")]
pub struct NameError {
    text: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts_names_and_nothing_else() {
        for good in ["etcd", "kube-apiserver", "a", "7z"] {
            assert_eq!(good.parse::<Name>().unwrap().as_str(), good);
        }
        for bad in [
            "",
            "-a",
            "a-",
            "a--b",
            "A",
            "a/b",
            "..",
            "a b",
            "a\n",
            &"a".repeat(64),
        ] {
            assert!(bad.parse::<Name>().is_err(), "{bad:?}");
        }
    }
}
