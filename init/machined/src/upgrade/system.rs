//! What runs here, as the image says it.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use keelson_bundle::Architecture;
use semver::Version;
use serde::Deserialize;

use super::state_version;

/// The running system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct System {
    pub(crate) version: Version,
    pub(crate) architecture: Architecture,
    /// Kind of machine its image was made for.
    pub(crate) platform: String,
    /// Versions of what has a format of its own on disk, and of that of STATE.
    pub(crate) components: BTreeMap<String, String>,
}

/// The image does not say what it is.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SystemError {
    #[error("cannot read {}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{} is malformed", path.display())]
    Parse {
        path: PathBuf,
        source: serde_json::Error,
    },
    #[error("the image was made for processors of a kind that has no name here")]
    Architecture,
}

#[derive(Deserialize)]
struct Build {
    version: Version,
    components: BTreeMap<String, String>,
    #[serde(default)]
    platform: Option<String>,
}

impl System {
    /// Reads build.json.
    pub(crate) fn read(path: &Path) -> Result<Self, SystemError> {
        let text = std::fs::read(path).map_err(|source| SystemError::Read {
            path: path.to_owned(),
            source,
        })?;
        let build: Build = serde_json::from_slice(&text).map_err(|source| SystemError::Parse {
            path: path.to_owned(),
            source,
        })?;
        let architecture = match std::env::consts::ARCH {
            "aarch64" => Architecture::Arm64,
            "arm" => Architecture::Armv7,
            "x86_64" => Architecture::Amd64,
            _ => return Err(SystemError::Architecture),
        };
        let mut components = build.components;
        components.insert(
            state_version::COMPONENT.to_owned(),
            state_version::KNOWN.to_string(),
        );
        Ok(Self {
            version: build.version,
            architecture,
            // One image serves all machines of an architecture unless it says otherwise.
            platform: build.platform.unwrap_or_else(|| architecture.to_string()),
            components,
        })
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(crate) fn system(version: &str) -> System {
        System {
            version: version.parse().unwrap(),
            architecture: Architecture::Amd64,
            platform: "amd64".to_owned(),
            components: [
                ("containerd", "2.4.2"),
                ("etcd", "3.7.3"),
                ("kine", "0.16.4"),
                ("kubernetes", "1.37.1"),
                ("state", "1"),
            ]
            .into_iter()
            .map(|(name, version)| (name.to_owned(), version.to_owned()))
            .collect(),
        }
    }

    #[test]
    fn the_file_the_image_build_writes_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("build.json");
        std::fs::write(
            &path,
            r#"{"version":"0.1.0","buildId":"d5ca","kernel":"6.12.1",
                "components":{"etcd":"3.7.3"},"debian":{"nftables":"1.1.3"}}"#,
        )
        .unwrap();
        let system = System::read(&path).unwrap();
        assert_eq!(system.version, Version::new(0, 1, 0));
        assert_eq!(system.platform, system.architecture.to_string());
        assert_eq!(system.components["etcd"], "3.7.3");
        assert_eq!(system.components["state"], state_version::KNOWN.to_string());
        assert!(System::read(&folder.path().join("none")).is_err());
    }
}
