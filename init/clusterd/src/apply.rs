//! Keeps the image's manifests applied.

use std::time::Duration;

use keelson_control::chain;
use keelson_kubeclient::{Client, Discovery, RequestError};
use tokio::time::sleep;

use crate::manifest::Object;
use crate::{Told, tell};

/// After a failed object: its kind may be defined by another one, or a webhook may be starting.
const RETRY: Duration = Duration::from_secs(2);
const LONGEST_RETRY: Duration = Duration::from_secs(60);
/// Puts back what somebody changed by hand.
const RESYNC: Duration = Duration::from_secs(600);

/// Applies all objects, those that failed again, and all of them from time to time.
pub(crate) async fn keep_applied(client: &Client, objects: &[Object]) {
    let mut discovery = Discovery::default();
    loop {
        let mut failed: Vec<&Object> = objects.iter().collect();
        let mut delay = RETRY;
        loop {
            failed = apply_all(client, &mut discovery, failed).await;
            if failed.is_empty() {
                break;
            }
            sleep(delay).await;
            delay = (delay * 2).min(LONGEST_RETRY);
        }
        tell(Told::Raise("manifests-applied")).await;
        sleep(RESYNC).await;
    }
}

/// Applies in order; gives those that failed.
async fn apply_all<'a>(
    client: &Client,
    discovery: &mut Discovery,
    objects: Vec<&'a Object>,
) -> Vec<&'a Object> {
    let mut failed = Vec::new();
    for object in objects {
        match apply(client, discovery, object).await {
            Ok(()) => tracing::info!("applied {} {}", object.kind.kind, object.name),
            Err(error) => {
                let Object { kind, name, .. } = object;
                tracing::warn!(
                    "cannot apply {} {name}, trying again: {}",
                    kind.kind,
                    chain(&error)
                );
                failed.push(object);
            }
        }
    }
    failed
}

async fn apply(
    client: &Client,
    discovery: &mut Discovery,
    object: &Object,
) -> Result<(), RequestError> {
    let path = discovery.find(client, &object.kind).await?;
    client
        .apply(
            &path.object(object.namespace.as_deref(), &object.name),
            &object.value,
        )
        .await?;
    Ok(())
}
