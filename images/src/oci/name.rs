//! Full image references.

use std::fmt;
use std::str::FromStr;

/// A reference with registry host and tag, as containerd stores it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageName {
    repository: String,
    tag: String,
}

/// A text that is not a full reference.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "{text:?} is not a full image reference: write HOST/NAME:TAG, for example keelson.dev/pause:1"
)]
pub struct ParseImageNameError {
    text: String,
}

impl ImageName {
    /// The part after the last colon.
    pub fn tag(&self) -> &str {
        &self.tag
    }
}

impl FromStr for ImageName {
    type Err = ParseImageNameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || ParseImageNameError { text: text.into() };
        let (repository, tag) = text.rsplit_once(':').ok_or_else(wrong)?;
        let (host, path) = repository.split_once('/').ok_or_else(wrong)?;
        // Without a dot or a port the first part is not a host, and containerd would put
        // docker.io in front when it looks the name up.
        let host_ok = host == "localhost" || host.contains(['.', ':']);
        let host_chars = |c: char| c.is_ascii_alphanumeric() || ".-:".contains(c);
        let path_chars =
            |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "._-/".contains(c);
        let path_ok = path.split('/').all(|part| !part.is_empty()) && path.chars().all(path_chars);
        let tag_ok = tag
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "._-".contains(c))
            && tag.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
            && tag.len() <= 128;
        if host_ok && host.chars().all(host_chars) && path_ok && tag_ok {
            Ok(Self {
                repository: repository.into(),
                tag: tag.into(),
            })
        } else {
            Err(wrong())
        }
    }
}

impl fmt::Display for ImageName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.repository, self.tag)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn full_references_only() {
        for good in [
            "keelson.dev/pause:1",
            "localhost/a/b:v1.2-3",
            "10.0.2.2:5000/x:_y",
        ] {
            assert_eq!(good.parse::<ImageName>().unwrap().to_string(), good);
        }
        for bad in [
            "pause",
            "pause:1",
            "keelson.dev/pause",
            "library/pause:1",
            "a.b/C:1",
            "a.b/c:",
            "a.b//c:1",
            "a.b/c:-1",
            "",
        ] {
            assert!(bad.parse::<ImageName>().is_err(), "{bad}");
        }
    }
}
