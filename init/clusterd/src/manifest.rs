//! Manifests: folders of YAML with `${fact}` in them, read into objects in a fixed order.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use keelson_kubeclient::GroupVersionKind;
use keelson_service::{ExpandError, expand};
use serde_json::Value;
use thiserror::Error;

/// One object to apply, and where it was written.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Object {
    pub(crate) kind: GroupVersionKind,
    pub(crate) namespace: Option<String>,
    pub(crate) name: String,
    pub(crate) value: Value,
}

/// Why manifests cannot be read.
#[derive(Debug, Error)]
pub(crate) enum LoadError {
    #[error("cannot read {path}")]
    Read { path: PathBuf, source: io::Error },
    #[error("cannot fill in {path}")]
    Expand { path: PathBuf, source: ExpandError },
    #[error("{path} is not YAML")]
    Yaml {
        path: PathBuf,
        source: Box<serde_saphyr::Error>,
    },
    #[error("document {number} of {path} has no {field}")]
    Field {
        path: PathBuf,
        number: usize,
        field: &'static str,
    },
}

/// Reads `<folder>/<set>/*.yaml`, sets and files by name, documents in their order.
pub(crate) fn load(
    folder: &Path,
    facts: &BTreeMap<String, String>,
) -> Result<Vec<Object>, LoadError> {
    let mut objects = Vec::new();
    for set in entries(folder)? {
        for path in entries(&set)? {
            if path
                .extension()
                .is_some_and(|extension| extension == "yaml")
            {
                objects.extend(read(&path, facts)?);
            }
        }
    }
    Ok(objects)
}

/// Namespace and name of every Deployment among the objects.
pub(crate) fn deployments(objects: &[Object]) -> Vec<(String, String)> {
    objects
        .iter()
        .filter(|object| object.kind.kind == "Deployment")
        .map(|object| {
            (
                object.namespace.clone().unwrap_or_default(),
                object.name.clone(),
            )
        })
        .collect()
}

fn read(path: &Path, facts: &BTreeMap<String, String>) -> Result<Vec<Object>, LoadError> {
    let text = fs::read_to_string(path).map_err(|source| LoadError::Read {
        path: path.to_owned(),
        source,
    })?;
    let text = expand(&text, facts).map_err(|source| LoadError::Expand {
        path: path.to_owned(),
        source,
    })?;
    let documents: Vec<Value> =
        serde_saphyr::from_multiple(&text).map_err(|source| LoadError::Yaml {
            path: path.to_owned(),
            source: Box::new(source),
        })?;
    documents
        .into_iter()
        .enumerate()
        .filter(|(_, document)| !document.is_null())
        .map(|(index, document)| {
            object(document).map_err(|field| LoadError::Field {
                path: path.to_owned(),
                number: index + 1,
                field,
            })
        })
        .collect()
}

fn object(value: Value) -> Result<Object, &'static str> {
    let kind = GroupVersionKind::of(&value).ok_or("apiVersion and kind")?;
    let name = value["metadata"]["name"]
        .as_str()
        .ok_or("metadata.name")?
        .to_owned();
    let namespace = value["metadata"]["namespace"].as_str().map(str::to_owned);
    Ok(Object {
        kind,
        namespace,
        name,
        value,
    })
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>, LoadError> {
    let failed = |source| LoadError::Read {
        path: folder.to_owned(),
        source,
    };
    let mut paths = fs::read_dir(folder)
        .map_err(failed)?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<Vec<_>, _>>()
        .map_err(failed)?;
    paths.sort();
    Ok(paths)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts() -> BTreeMap<String, String> {
        [
            ("cluster-dns", "10.96.0.10"),
            ("cluster-domain", "cluster.local"),
            ("service-cidr", "10.96.0.0/12"),
            ("pod-cidr", "10.244.0.0/16"),
            ("node-name", "node"),
            ("node-ip", "10.0.2.15"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into()
    }

    #[test]
    fn the_manifests_of_the_image_are_read_whole() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../../rootfs/tree/usr/share/keelson/manifests");
        let objects = load(&folder, &facts()).unwrap();
        let names = deployments(&objects);
        assert!(
            names.contains(&("kube-system".to_owned(), "coredns".to_owned())),
            "{names:?}"
        );
        assert!(names.contains(&("kube-system".to_owned(), "metrics-server".to_owned())));
    }

    #[test]
    fn mistakes_are_named_with_their_file() {
        let folder = tempfile::tempdir().unwrap();
        let set = folder.path().join("set");
        fs::create_dir(&set).unwrap();
        for (text, wanted) in [
            ("kind: A\n", "apiVersion and kind"),
            ("apiVersion: v1\nkind: A\n", "metadata.name"),
            ("a: ${nothing}\n", "cannot fill in"),
            ("a: [\n", "is not YAML"),
        ] {
            fs::write(set.join("x.yaml"), text).unwrap();
            let error = load(folder.path(), &facts()).unwrap_err().to_string();
            assert!(
                error.contains(wanted) && error.contains("x.yaml"),
                "{error}"
            );
        }
    }

    #[test]
    fn a_missing_folder_is_an_error() {
        let error = load(Path::new("/nonexistent"), &facts()).unwrap_err();
        assert_eq!(error.to_string(), "cannot read /nonexistent");
    }
}
