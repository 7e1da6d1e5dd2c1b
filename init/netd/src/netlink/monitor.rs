//! Tells when the kernel's links, addresses or routes change.

use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use rtnetlink::packet_core::NetlinkPayload;
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::{MulticastGroup, new_multicast_connection};

use super::{NetlinkError, parse};

/// Something changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// A link came, went or changed.
    Link { index: u32 },
    /// An address or a route of this link.
    OnLink { index: u32 },
}

/// A subscription to the kernel's announcements.
pub(crate) struct Monitor {
    changes: BoxStream<'static, Change>,
}

impl Monitor {
    /// Must be called inside a tokio runtime, before the first look: then no change is missed.
    pub(crate) fn open() -> Result<Self, NetlinkError> {
        let (connection, _, messages) = new_multicast_connection(&[
            MulticastGroup::Link,
            MulticastGroup::Ipv4Ifaddr,
            MulticastGroup::Ipv4Route,
            MulticastGroup::Ipv6Ifaddr,
            MulticastGroup::Ipv6Route,
        ])
        .map_err(NetlinkError::Socket)?;
        tokio::spawn(connection);
        let changes = messages.filter_map(|(message, _)| async move {
            match message.payload {
                NetlinkPayload::InnerMessage(inner) => change(&inner),
                _ => None,
            }
        });
        Ok(Self {
            changes: changes.boxed(),
        })
    }

    /// The next change; `None` if the socket broke. Safe to use in `select!`.
    pub(crate) async fn next(&mut self) -> Option<Change> {
        self.changes.next().await
    }
}

fn change(message: &RouteNetlinkMessage) -> Option<Change> {
    match message {
        RouteNetlinkMessage::NewLink(link) | RouteNetlinkMessage::DelLink(link) => {
            Some(Change::Link {
                index: link.header.index,
            })
        }
        RouteNetlinkMessage::NewAddress(address) | RouteNetlinkMessage::DelAddress(address) => {
            Some(Change::OnLink {
                index: address.header.index,
            })
        }
        RouteNetlinkMessage::NewRoute(route) | RouteNetlinkMessage::DelRoute(route) => {
            parse::route(route).map(|route| Change::OnLink { index: route.link })
        }
        _ => None,
    }
}
