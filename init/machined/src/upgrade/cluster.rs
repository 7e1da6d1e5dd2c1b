//! The API server, as far as an upgrade needs it.

use keelson_kubeclient::{Client, ConfigureError, RequestError, Server};
use keelson_tls::Identity;
use serde_json::{Value, json};

use super::drain::{Cluster, Pod};
use crate::paths::Paths;

/// This node's own API server.
const SERVER: &str = "https://127.0.0.1:6443";

/// A client with every right: who upgrades a node looks at all nodes and moves pods of everybody.
#[derive(Debug)]
pub(crate) struct ApiServer {
    client: Client,
    node: String,
}

impl ApiServer {
    /// With the pair that is on STATE for people.
    pub(crate) fn new(paths: &Paths, node: &str) -> Result<Self, ConfigureError> {
        let pair = paths.vault().join(OPERATOR_PAIR);
        let identity = Identity {
            certificate: &pair,
            key: &pair,
        };
        let authority = paths.rendered().join("cluster-ca.crt");
        Ok(Self {
            client: Client::new(Server::parse(SERVER)?, &authority, identity)?,
            node: node.to_owned(),
        })
    }

    /// This node as the cluster knows it.
    pub(crate) async fn own_node(&self) -> Result<Value, RequestError> {
        self.client.get(&self.path()).await
    }

    fn path(&self) -> String {
        format!("/api/v1/nodes/{}", self.node)
    }

    async fn list(&self, path: &str) -> Result<Vec<Value>, RequestError> {
        let list = self.client.get(path).await?;
        Ok(list["items"].as_array().cloned().unwrap_or_default())
    }
}

/// Name of that pair in the vault.
const OPERATOR_PAIR: &str = "admin.pem";

impl Cluster for ApiServer {
    async fn nodes(&self) -> Result<Vec<Value>, RequestError> {
        self.list("/api/v1/nodes").await
    }

    async fn pods(&self) -> Result<Vec<Value>, RequestError> {
        let path = format!("/api/v1/pods?fieldSelector=spec.nodeName={}", self.node);
        self.list(&path).await
    }

    async fn set_schedulable(&self, schedulable: bool) -> Result<(), RequestError> {
        let fields = json!({"spec": {"unschedulable": !schedulable}});
        self.client.merge(&self.path(), &fields).await.map(drop)
    }

    async fn evict(&self, pod: &Pod) -> Result<bool, RequestError> {
        let Pod { namespace, name } = pod;
        let path = format!("/api/v1/namespaces/{namespace}/pods/{name}/eviction");
        let eviction = json!({
            "apiVersion": "policy/v1",
            "kind": "Eviction",
            "metadata": {"namespace": namespace, "name": name},
        });
        match self.client.create(&path, &eviction).await {
            Ok(_) => Ok(true),
            // 429: a budget does not allow it now. 404: it has gone already.
            Err(error) => match error.status_code() {
                Some(429) => Ok(false),
                Some(404) => Ok(true),
                _ => Err(error),
            },
        }
    }
}
