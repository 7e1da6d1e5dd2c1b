//! Which nodes a command is for, and what proves who we are.

use std::path::PathBuf;
use std::time::Duration;

use keelson_client::{Context, Contexts, Credentials, Endpoint, Node, connect, contexts_path};
use time::OffsetDateTime;

use crate::arguments::Common;
use crate::failure::{Failure, NodeFailure};

/// A command's nodes and credentials.
#[derive(Debug)]
pub(crate) struct Session {
    nodes: Vec<Endpoint>,
    /// They were named for this command, and did not come from the context.
    named: bool,
    /// Longest wait for one answer.
    pub(crate) timeout: Duration,
    credentials: Credentials,
    /// Name and content of the context; none with a fingerprint.
    pub(crate) context: Option<(String, Context)>,
}

impl Session {
    /// Finds the context, or uses the fingerprint that was given.
    pub(crate) fn open(common: &Common) -> Result<Self, Failure> {
        if let Some(fingerprint) = common.fingerprint {
            let credentials = Credentials::pinned(fingerprint).map_err(Failure::Fingerprint)?;
            return Self::pinned(common, credentials);
        }
        let path = contexts_file()?;
        let contexts = Contexts::load(&path)?;
        let (name, context) = contexts.choose(common.context.as_deref(), &path)?;
        let credentials =
            Credentials::of_context(context, OffsetDateTime::now_utc()).map_err(|source| {
                Failure::Credentials {
                    context: name.to_owned(),
                    source,
                }
            })?;
        let nodes = choose_nodes(&common.nodes, &context.endpoints);
        if nodes.is_empty() {
            return Err(Failure::usage(format!(
                "context {name:?} has no endpoints; name a node with --node"
            )));
        }
        Ok(Self {
            nodes,
            named: !common.nodes.is_empty(),
            timeout: common.timeout,
            credentials,
            context: Some((name.to_owned(), context.clone())),
        })
    }

    /// For a node that is known by a fingerprint only.
    pub(crate) fn pinned(common: &Common, credentials: Credentials) -> Result<Self, Failure> {
        if common.nodes.is_empty() {
            return Err(Failure::usage(
                "a fingerprint belongs to one node: name it with --node",
            ));
        }
        Ok(Self {
            nodes: common.nodes.clone(),
            named: true,
            timeout: common.timeout,
            credentials,
            context: None,
        })
    }

    /// All nodes: for what only looks.
    pub(crate) fn all(&self) -> &[Endpoint] {
        &self.nodes
    }

    /// The nodes of a command that changes something: several only when they were named.
    pub(crate) fn for_change(&self, what: &str) -> Result<&[Endpoint], Failure> {
        if self.nodes.len() > 1 && !self.named {
            return Err(Failure::usage(format!(
                "{what} changes something: say on which of the {} nodes with --node ({})",
                self.nodes.len(),
                self.list()
            )));
        }
        Ok(&self.nodes)
    }

    /// The only node.
    pub(crate) fn one(&self, what: &str) -> Result<&Endpoint, Failure> {
        match &self.nodes[..] {
            [node] => Ok(node),
            _ => Err(Failure::usage(format!(
                "{what} is for one node: choose it with --node ({})",
                self.list()
            ))),
        }
    }

    /// Connects to a node.
    pub(crate) async fn connect(&self, node: &Endpoint) -> Result<Node, NodeFailure> {
        Ok(connect(node, &self.credentials).await?)
    }

    /// Connects to the first node that can be reached: for what any of them can do.
    pub(crate) async fn connect_any(&self) -> Result<(&Endpoint, Node), Failure> {
        let mut first = None;
        for node in &self.nodes {
            match self.connect(node).await {
                Ok(connection) => return Ok((node, connection)),
                Err(error) => first = first.or(Some(Failure::node(node, error))),
            }
        }
        Err(first.unwrap_or_else(|| Failure::usage("no node to ask")))
    }

    fn list(&self) -> String {
        let names: Vec<String> = self.nodes.iter().map(ToString::to_string).collect();
        names.join(", ")
    }
}

/// Where the contexts of this person are.
pub(crate) fn contexts_file() -> Result<PathBuf, Failure> {
    contexts_path(|name| std::env::var_os(name)).ok_or_else(|| {
        Failure::usage("neither KEELSONCONFIG nor HOME is set, so there is no contexts file")
    })
}

/// All endpoints, or those that were named. `--node HOST` means the endpoint on that host, with
/// its port.
fn choose_nodes(named: &[Endpoint], endpoints: &[Endpoint]) -> Vec<Endpoint> {
    if named.is_empty() {
        return endpoints.to_vec();
    }
    let mut chosen: Vec<Endpoint> = Vec::new();
    for node in named {
        let mut of_host = endpoints.iter().filter(|known| known.host() == node.host());
        let node = match (of_host.next(), of_host.next()) {
            (Some(only), None) if node.port() == keelson_api::PORT => only,
            _ => node,
        };
        if !chosen.contains(node) {
            chosen.push(node.clone());
        }
    }
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(texts: &[&str]) -> Vec<Endpoint> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn named_nodes_keep_their_port_of_the_context() {
        let endpoints = list(&["127.0.0.1:40001", "node-2", "twin:1", "twin:2"]);
        let chosen = |names: &[&str]| choose_nodes(&list(names), &endpoints);
        assert_eq!(chosen(&[]), endpoints);
        assert_eq!(chosen(&["127.0.0.1"]), list(&["127.0.0.1:40001"]));
        assert_eq!(
            chosen(&["node-2", "192.0.2.9", "node-2"]),
            list(&["node-2", "192.0.2.9"])
        );
        assert_eq!(chosen(&["127.0.0.1:5"]), list(&["127.0.0.1:5"]));
        assert_eq!(chosen(&["twin"]), list(&["twin"]));
    }
}
