//! Gives every node its part of the pod network.
//!
//! The controller manager can do this too, but only after it has made service accounts for all
//! of its controllers, which keeps the first node from becoming Ready for half a minute on a slow machine.

use std::net::IpAddr;
use std::time::Duration;

use keelson_config::Cidr;
use keelson_control::chain;
use keelson_kubeclient::{Change, Client, Follower, RequestError};
use serde_json::{Value, json};
use tokio::time::sleep;

const NODES: &str = "/api/v1/nodes";
/// The sizes the controller manager uses: 254 pods, and one IPv6 subnet.
const NODE_PREFIX_V4: u8 = 24;
const NODE_PREFIX_V6: u8 = 64;

/// Between two attempts.
const RETRY: Duration = Duration::from_secs(2);

/// Gives each node without a part the first free one, for ever.
pub(crate) async fn allocate(client: &Client, cluster: &Cidr) {
    let mut nodes = Follower::new(client, NODES, None);
    loop {
        match nodes.next().await {
            Ok(Change::Present(node)) if part(&node).is_none() => {
                let name = node["metadata"]["name"].as_str().unwrap_or_default();
                // Until it has one the node is not Ready, and nobody else would try again.
                while let Err(error) = give(client, cluster, name).await {
                    tracing::warn!("cannot give node {name} a pod network: {}", chain(&error));
                    sleep(RETRY).await;
                }
            }
            Ok(_) => {}
            Err(error) => tracing::warn!("cannot follow nodes: {}", chain(&error)),
        }
    }
}

async fn give(client: &Client, cluster: &Cidr, name: &str) -> Result<(), RequestError> {
    // The whole list, now: what was followed so far may lack nodes. The API server refuses to
    // change a part that is set, so a second allocator could not take it away.
    let list = client.get(NODES).await?;
    let nodes = list["items"].as_array().map_or(&[][..], Vec::as_slice);
    let waits = |node: &Value| node["metadata"]["name"] == name && part(node).is_none();
    if !nodes.iter().any(waits) {
        // Deleted meanwhile, or served already.
        return Ok(());
    }
    let used: Vec<Cidr> = nodes.iter().filter_map(part).collect();
    let Some(free) = next_free(cluster, &used) else {
        tracing::error!("the pod network {cluster} is used up: node {name} gets no part of it");
        return Ok(());
    };
    let free = free.to_string();
    let patch = json!({"spec": {"podCIDR": free, "podCIDRs": [free]}});
    client.merge(&format!("{NODES}/{name}"), &patch).await?;
    tracing::info!("node {name} has the pod network {free}");
    Ok(())
}

fn part(node: &Value) -> Option<Cidr> {
    node["spec"]["podCIDR"].as_str()?.parse().ok()
}

/// The first part of the cluster's pod network that no node has.
fn next_free(cluster: &Cidr, used: &[Cidr]) -> Option<Cidr> {
    let (prefix, bits) = match cluster.network() {
        IpAddr::V4(_) => (cluster.prefix_len().max(NODE_PREFIX_V4), 32),
        IpAddr::V6(_) => (cluster.prefix_len().max(NODE_PREFIX_V6), 128),
    };
    let parts = 1_u32
        .checked_shl(u32::from(prefix - cluster.prefix_len()))
        .unwrap_or(u32::MAX);
    (0..parts)
        .filter_map(|index| {
            let start = advance(cluster.network(), index, bits - u32::from(prefix))?;
            Cidr::containing(start, prefix)
        })
        .find(|part| !used.iter().any(|other| other.overlaps(part)))
}

/// The address `index` parts of `1 << part_bits` addresses behind `network`.
fn advance(network: IpAddr, index: u32, part_bits: u32) -> Option<IpAddr> {
    let offset = u128::from(index).checked_shl(part_bits)?;
    match network {
        IpAddr::V4(address) => {
            let sum = u32::from(address).checked_add(u32::try_from(offset).ok()?)?;
            Some(IpAddr::V4(sum.into()))
        }
        IpAddr::V6(address) => Some(IpAddr::V6(u128::from(address).checked_add(offset)?.into())),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn cidr(text: &str) -> Cidr {
        text.parse().unwrap()
    }

    #[test]
    fn parts_are_given_in_order_and_again_when_free() {
        let cluster = cidr("10.244.0.0/16");
        assert_eq!(next_free(&cluster, &[]), Some(cidr("10.244.0.0/24")));
        let used = [cidr("10.244.0.0/24"), cidr("10.244.2.0/24")];
        assert_eq!(next_free(&cluster, &used), Some(cidr("10.244.1.0/24")));
    }

    #[test]
    fn a_small_network_is_one_part_and_then_used_up() {
        let cluster = cidr("10.1.2.0/26");
        assert_eq!(next_free(&cluster, &[]), Some(cluster));
        assert_eq!(next_free(&cluster, &[cluster]), None);
    }

    /// Somebody gave a node a larger part by hand.
    #[test]
    fn a_larger_part_is_skipped_whole() {
        let used = [cidr("10.244.0.0/20")];
        assert_eq!(
            next_free(&cidr("10.244.0.0/16"), &used),
            Some(cidr("10.244.16.0/24"))
        );
    }

    #[test]
    fn ipv6_parts_are_subnets() {
        let used = [cidr("fd00:1::/64")];
        assert_eq!(
            next_free(&cidr("fd00:1::/48"), &used),
            Some(cidr("fd00:1:0:1::/64"))
        );
    }

    proptest! {
        #[test]
        fn no_two_nodes_ever_share_a_part(count in 1_usize..70, prefix in 18_u8..27) {
            let cluster = Cidr::containing("10.0.0.0".parse().unwrap(), prefix).unwrap();
            let mut used: Vec<Cidr> = Vec::new();
            for _ in 0..count {
                let Some(part) = next_free(&cluster, &used) else { break };
                prop_assert!(cluster.overlaps(&part) && !used.iter().any(|other| other.overlaps(&part)));
                used.push(part);
            }
            let room = if prefix < 24 { 1_usize << (24 - prefix) } else { 1 };
            prop_assert_eq!(used.len(), count.min(room));
        }
    }
}
