//! Which path belongs to an object's kind, asked from the server once per API group.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use crate::error::RequestError;
use crate::request::Client;

/// What an object says it is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct GroupVersionKind {
    /// `v1`, `apps/v1` …
    pub api_version: String,
    /// `Deployment` …
    pub kind: String,
}

/// Where objects of a kind live.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResourcePath {
    prefix: String,
    plural: String,
    namespaced: bool,
}

/// Answers which path a kind has; remembers whole groups.
#[derive(Debug, Default)]
pub struct Discovery {
    groups: BTreeMap<String, Vec<Resource>>,
}

#[derive(Debug, Deserialize)]
struct ResourceList {
    resources: Vec<Resource>,
}

#[derive(Debug, Deserialize)]
struct Resource {
    name: String,
    namespaced: bool,
    kind: String,
}

impl Discovery {
    /// Finds the path of a kind; asks again when it is not known, for it may be new.
    pub async fn find(
        &mut self,
        client: &Client,
        wanted: &GroupVersionKind,
    ) -> Result<ResourcePath, RequestError> {
        let prefix = prefix(&wanted.api_version);
        if !self.knows(wanted) {
            let list: ResourceList =
                serde_json::from_value(client.get(&prefix).await?).map_err(|source| {
                    RequestError::Decode {
                        what: format!("GET {prefix}"),
                        source,
                    }
                })?;
            self.groups
                .insert(wanted.api_version.clone(), list.resources);
        }
        self.resource(wanted)
            .map(|resource| ResourcePath {
                prefix,
                plural: resource.name.clone(),
                namespaced: resource.namespaced,
            })
            .ok_or_else(|| RequestError::UnknownKind {
                api_version: wanted.api_version.clone(),
                kind: wanted.kind.clone(),
            })
    }

    fn knows(&self, wanted: &GroupVersionKind) -> bool {
        self.resource(wanted).is_some()
    }

    fn resource(&self, wanted: &GroupVersionKind) -> Option<&Resource> {
        // A name with a slash is a subresource of the same kind (`deployments/status`).
        self.groups
            .get(&wanted.api_version)?
            .iter()
            .find(|resource| resource.kind == wanted.kind && !resource.name.contains('/'))
    }
}

impl ResourcePath {
    /// The path of one object; the namespace is left out for kinds that have none, and
    /// `default` where a namespaced object names none.
    pub fn object(&self, namespace: Option<&str>, name: &str) -> String {
        let Self {
            prefix,
            plural,
            namespaced,
        } = self;
        if *namespaced {
            let namespace = namespace.unwrap_or("default");
            format!("{prefix}/namespaces/{namespace}/{plural}/{name}")
        } else {
            format!("{prefix}/{plural}/{name}")
        }
    }
}

impl GroupVersionKind {
    /// Reads `apiVersion` and `kind` of an object.
    pub fn of(object: &Value) -> Option<Self> {
        Some(Self {
            api_version: object["apiVersion"].as_str()?.to_owned(),
            kind: object["kind"].as_str()?.to_owned(),
        })
    }
}

fn prefix(api_version: &str) -> String {
    // The core group is older than groups and has a path of its own.
    if api_version.contains('/') {
        format!("/apis/{api_version}")
    } else {
        format!("/api/{api_version}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(prefix: &str, namespaced: bool) -> ResourcePath {
        ResourcePath {
            prefix: prefix.to_owned(),
            plural: "things".to_owned(),
            namespaced,
        }
    }

    #[test]
    fn core_and_other_groups_have_their_prefixes() {
        assert_eq!(prefix("v1"), "/api/v1");
        assert_eq!(prefix("apps/v1"), "/apis/apps/v1");
    }

    #[test]
    fn namespaces_are_where_they_belong() {
        let namespaced = path("/api/v1", true);
        assert_eq!(
            namespaced.object(Some("a"), "b"),
            "/api/v1/namespaces/a/things/b"
        );
        assert_eq!(
            namespaced.object(None, "b"),
            "/api/v1/namespaces/default/things/b"
        );
        assert_eq!(
            path("/apis/g/v1", false).object(Some("a"), "b"),
            "/apis/g/v1/things/b"
        );
    }

    #[test]
    fn subresources_are_not_taken_for_the_kind() {
        let mut discovery = Discovery::default();
        let resource = |name: &str| Resource {
            name: name.to_owned(),
            namespaced: true,
            kind: "Deployment".to_owned(),
        };
        discovery.groups.insert(
            "apps/v1".to_owned(),
            vec![resource("deployments/status"), resource("deployments")],
        );
        let wanted = GroupVersionKind {
            api_version: "apps/v1".to_owned(),
            kind: "Deployment".to_owned(),
        };
        assert_eq!(discovery.resource(&wanted).unwrap().name, "deployments");
    }
}
