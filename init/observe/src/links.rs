//! Network links with their addresses and counters.

use std::collections::BTreeMap;

use keelson_api::v1alpha1::Link;
use rtnetlink::packet_route::address::{AddressAttribute, AddressMessage};
use rtnetlink::packet_route::link::{
    LinkAttribute, LinkInfo, LinkLayerType, LinkMessage, State, Stats64,
};

use crate::netlink::{Connection, NetlinkError, list};
use crate::text::printable;

/// All links, by number.
///
/// # Errors
/// The kernel does not answer. Must be called inside a tokio runtime.
pub async fn links() -> Result<Vec<Link>, NetlinkError> {
    let connection = Connection::open()?;
    let messages = link_messages(&connection).await?;
    let addresses = list("addresses", connection.handle().address().get().execute()).await?;
    let mut by_link: BTreeMap<u32, Vec<String>> = BTreeMap::new();
    for message in &addresses {
        if let Some(address) = address(message) {
            by_link
                .entry(message.header.index)
                .or_default()
                .push(address);
        }
    }
    let mut links: Vec<Link> = messages
        .iter()
        .map(|message| Link {
            addresses: by_link.remove(&message.header.index).unwrap_or_default(),
            ..link(message)
        })
        .collect();
    links.sort_unstable_by_key(|link| link.index);
    Ok(links)
}

/// Names of all links by number.
pub(crate) async fn names(connection: &Connection) -> Result<BTreeMap<u32, String>, NetlinkError> {
    let messages = link_messages(connection).await?;
    Ok(messages
        .iter()
        .map(|message| (message.header.index, link(message).name))
        .collect())
}

async fn link_messages(connection: &Connection) -> Result<Vec<LinkMessage>, NetlinkError> {
    list("links", connection.handle().link().get().execute()).await
}

fn link(message: &LinkMessage) -> Link {
    let mut link = Link {
        index: message.header.index,
        kind: layer(message.header.link_layer_type),
        state: "unknown".to_owned(),
        ..Link::default()
    };
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name = printable(name.as_bytes()),
            LinkAttribute::Address(bytes) => link.hardware_address = hardware_address(bytes),
            LinkAttribute::Mtu(mtu) => link.mtu = *mtu,
            LinkAttribute::OperState(state) => link.state = operational(*state),
            LinkAttribute::LinkInfo(infos) => {
                for info in infos {
                    if let LinkInfo::Kind(kind) = info {
                        link.kind = printable(kind.to_string().as_bytes());
                    }
                }
            }
            LinkAttribute::Stats64(counters) => count(&mut link, counters),
            _ => {}
        }
    }
    link
}

/// What a link is when no driver says that it made it.
fn layer(kind: LinkLayerType) -> String {
    kind.to_string().to_ascii_lowercase()
}

/// Words of RFC 2863, as the API has them.
fn operational(state: State) -> String {
    match state {
        State::Unknown => "unknown",
        State::NotPresent => "not-present",
        State::Down => "down",
        State::LowerLayerDown => "lower-layer-down",
        State::Testing => "testing",
        State::Dormant => "dormant",
        State::Up => "up",
        other => return other.to_string(),
    }
    .to_owned()
}

fn count(link: &mut Link, counters: &Stats64) {
    link.received_bytes = counters.rx_bytes;
    link.sent_bytes = counters.tx_bytes;
    link.received_packets = counters.rx_packets;
    link.sent_packets = counters.tx_packets;
    link.receive_errors = counters.rx_errors;
    link.send_errors = counters.tx_errors;
    link.receive_dropped = counters.rx_dropped;
    link.send_dropped = counters.tx_dropped;
}

fn hardware_address(bytes: &[u8]) -> String {
    let pairs: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    pairs.join(":")
}

/// On point-to-point links there are two; ours is the local one.
fn address(message: &AddressMessage) -> Option<String> {
    let mut peer = None;
    let mut local = None;
    for attribute in &message.attributes {
        match attribute {
            AddressAttribute::Address(address) => peer = Some(address),
            AddressAttribute::Local(address) => local = Some(address),
            _ => {}
        }
    }
    let address = local.or(peer)?;
    Some(format!("{address}/{}", message.header.prefix_len))
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use rtnetlink::packet_route::link::InfoKind;

    use super::*;

    #[test]
    fn a_message_becomes_a_link() {
        let mut message = LinkMessage::default();
        message.header.index = 4;
        message.header.link_layer_type = LinkLayerType::Ether;
        let mut counters = Stats64::default();
        counters.rx_bytes = 1;
        counters.tx_bytes = 2;
        counters.rx_packets = 3;
        counters.tx_packets = 4;
        counters.rx_errors = 5;
        counters.tx_errors = 6;
        counters.rx_dropped = 7;
        counters.tx_dropped = 8;
        message.attributes = vec![
            LinkAttribute::IfName("veth\x1b1".to_owned()),
            LinkAttribute::Address(vec![0x52, 0x54, 0, 0x0a, 0xff, 1]),
            LinkAttribute::Mtu(1450),
            LinkAttribute::OperState(State::LowerLayerDown),
            LinkAttribute::Stats64(counters),
        ];
        let expected = Link {
            name: "veth?1".to_owned(),
            index: 4,
            kind: "ether".to_owned(),
            state: "lower-layer-down".to_owned(),
            hardware_address: "52:54:00:0a:ff:01".to_owned(),
            mtu: 1450,
            addresses: Vec::new(),
            received_bytes: 1,
            sent_bytes: 2,
            received_packets: 3,
            sent_packets: 4,
            receive_errors: 5,
            send_errors: 6,
            receive_dropped: 7,
            send_dropped: 8,
        };
        assert_eq!(link(&message), expected);
        message
            .attributes
            .push(LinkAttribute::LinkInfo(vec![LinkInfo::Kind(
                InfoKind::Veth,
            )]));
        assert_eq!(link(&message).kind, "veth");
    }

    #[test]
    fn the_local_address_counts() {
        let mut message = AddressMessage::default();
        message.header.prefix_len = 32;
        assert_eq!(address(&message), None);
        let peer = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 2));
        message.attributes.push(AddressAttribute::Address(peer));
        assert_eq!(address(&message).unwrap(), "10.0.0.2/32");
        let local = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));
        message.attributes.push(AddressAttribute::Local(local));
        assert_eq!(address(&message).unwrap(), "10.0.0.1/32");
    }

    #[tokio::test]
    async fn every_machine_has_a_loopback_link() {
        let links = links().await.unwrap();
        let lo = links.iter().find(|link| link.name == "lo").unwrap();
        assert_eq!(lo.kind, "loopback");
        assert_eq!(lo.index, 1);
        assert!(lo.mtu > 0);
    }
}
