//! Approves certificate requests that the rule allows; leaves all others to people.

use keelson_control::chain;
use keelson_kubeclient::{Change, Client, Follower, RequestError};
use serde_json::{Value, json};

use crate::serving_request::{Node, ServingRequest, Verdict};

const REQUESTS: &str = "/apis/certificates.k8s.io/v1/certificatesigningrequests";
const SERVING: &str = "spec.signerName=kubernetes.io/kubelet-serving";

/// Looks at every serving request, for ever.
pub(crate) async fn approve_requests(client: &Client) {
    let mut requests = Follower::new(client, REQUESTS, Some(SERVING));
    loop {
        match requests.next().await {
            Ok(Change::Present(object)) => {
                if let Err(error) = consider(client, object).await {
                    tracing::warn!("cannot answer a certificate request: {}", chain(&error));
                }
            }
            Ok(Change::Gone(_)) => {}
            Err(error) => tracing::warn!("cannot follow certificate requests: {}", chain(&error)),
        }
    }
}

async fn consider(client: &Client, mut object: Value) -> Result<(), RequestError> {
    let name = object["metadata"]["name"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    let answered = object["status"]["conditions"]
        .as_array()
        .is_some_and(|all| !all.is_empty());
    if answered {
        return Ok(());
    }
    let verdict = match ServingRequest::parse(&object) {
        Ok(request) => match node(client, request.node_name()).await? {
            Some(node) => request.verdict(&node),
            None => Verdict::Leave("there is no such node".to_owned()),
        },
        Err(reason) => Verdict::Leave(reason.to_string()),
    };
    match verdict {
        Verdict::Approve => {
            object["status"]["conditions"] = json!([{
                "type": "Approved",
                "status": "True",
                "reason": "KeelsonServingRule",
                "message": "names and addresses are the node's own",
            }]);
            client
                .replace(&format!("{REQUESTS}/{name}/approval"), &object)
                .await?;
            tracing::info!("approved certificate request {name}");
        }
        Verdict::Leave(reason) => {
            tracing::warn!("certificate request {name} is left for a person: {reason}");
        }
    }
    Ok(())
}

async fn node(client: &Client, name: &str) -> Result<Option<Node>, RequestError> {
    match client.get(&format!("/api/v1/nodes/{name}")).await {
        Ok(object) => Ok(Some(Node::of(&object))),
        Err(error) if error.status_code() == Some(404) => Ok(None),
        Err(error) => Err(error),
    }
}
