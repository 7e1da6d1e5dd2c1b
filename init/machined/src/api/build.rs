//! What the image says of itself: `/usr/share/keelson/build.json`.

use std::collections::BTreeMap;

use keelson_api::v1alpha1::{Component, VersionResponse};
use keelson_control::chain;
use keelson_observe::Root;
use serde::Deserialize;
use tonic::Status;

const FILE: &str = "/usr/share/keelson/build.json";

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Build {
    version: String,
    build_id: String,
    kernel: String,
    components: BTreeMap<String, String>,
    debian: BTreeMap<String, String>,
}

/// Reads it.
pub(super) fn version(root: &Root) -> Result<VersionResponse, Status> {
    let text = root
        .bytes(FILE)
        .map_err(|error| Status::internal(chain(&error)))?;
    let build: Build = serde_json::from_slice(&text)
        .map_err(|error| Status::internal(format!("{FILE} is malformed: {}", chain(&error))))?;
    let components = build.components.into_iter().chain(build.debian);
    Ok(VersionResponse {
        version: build.version,
        build_id: build.build_id,
        architecture: architecture().to_owned(),
        kernel: build.kernel,
        components: components
            .map(|(name, version)| Component { name, version })
            .collect(),
    })
}

/// As Kubernetes names it.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "aarch64" => "arm64",
        "x86_64" => "amd64",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_the_image_build_writes_is_read() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join(&FILE[1..]);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(
            &path,
            r#"{"version":"0.1.0","buildId":"d5ca","kernel":"6.12.1",
                "components":{"etcd":"3.6.1"},"debian":{"nftables":"1.1.3"}}"#,
        )
        .unwrap();
        let version = version(&Root::at(root.path())).unwrap();
        assert_eq!(version.build_id, "d5ca");
        let names: Vec<_> = version.components.iter().map(|c| c.name.as_str()).collect();
        assert_eq!(names, ["etcd", "nftables"]);
    }

    #[test]
    fn a_missing_file_is_named() {
        let root = tempfile::tempdir().unwrap();
        let error = version(&Root::at(root.path())).unwrap_err();
        assert!(error.message().contains("build.json"), "{error}");
    }
}
