//! The real kernel, by rtnetlink.

use std::future::Future;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use futures_util::TryStreamExt;
use rtnetlink::packet_route::address::{
    AddressAttribute, AddressMessage, AddressProtocol, CacheInfo,
};
use rtnetlink::packet_route::route::{RouteMessage, RouteProtocol, RouteScope};
use rtnetlink::{AddressMessageBuilder, Handle, LinkUnspec, RouteMessageBuilder, new_connection};

use super::parse::{self, LEASE_MARK, MARK};
use super::{Kernel, NetlinkError};
use crate::desired::{DesiredAddress, DesiredRoute};
use crate::model::{LinkAddress, Observed, Owner};
use crate::plan::Operation;

/// The kernel answers in microseconds; only a bug here would make us wait.
const ANSWER_DEADLINE: Duration = Duration::from_secs(10);

/// A netlink socket and the task that reads it.
#[derive(Debug, Clone)]
pub(crate) struct Rtnetlink {
    handle: Handle,
}

impl Rtnetlink {
    /// Must be called inside a tokio runtime.
    pub(crate) fn open() -> Result<Self, NetlinkError> {
        let (connection, handle, _) = new_connection().map_err(NetlinkError::Socket)?;
        tokio::spawn(connection);
        Ok(Self { handle })
    }

    async fn list(&self) -> Result<Observed, NetlinkError> {
        let links = self
            .handle
            .link()
            .get()
            .execute()
            .try_collect::<Vec<_>>()
            .await;
        let links = links.map_err(|source| NetlinkError::List {
            what: "links",
            source,
        })?;
        let addresses = self
            .handle
            .address()
            .get()
            .execute()
            .try_collect::<Vec<_>>()
            .await;
        let addresses = addresses.map_err(|source| NetlinkError::List {
            what: "addresses",
            source,
        })?;
        let mut routes = Vec::new();
        for query in [
            RouteMessageBuilder::<Ipv4Addr>::new().build(),
            RouteMessageBuilder::<Ipv6Addr>::new().build(),
        ] {
            let part = self
                .handle
                .route()
                .get(query)
                .execute()
                .try_collect::<Vec<_>>()
                .await;
            routes.extend(part.map_err(|source| NetlinkError::List {
                what: "routes",
                source,
            })?);
        }
        Ok(Observed {
            links: links
                .iter()
                .filter_map(|message| parse::link(message, accept_ra))
                .collect(),
            addresses: addresses.iter().filter_map(parse::address).collect(),
            routes: routes.iter().filter_map(parse::route).collect(),
        })
    }

    async fn carry_out(&self, operation: &Operation) -> Result<(), NetlinkError> {
        match operation {
            Operation::AddAddress { link, address } => self.add_address(*link, address).await,
            Operation::AddRoute { link, route } => {
                let message = route_message(*link, route)?;
                let source = self.handle.route().add(message).replace().execute().await;
                let (to, via) = (route.to, route.via);
                source.map_err(|source| NetlinkError::AddRoute { to, via, source })
            }
            Operation::RemoveAddress { link, address } => {
                let message = address_message(*link, *address);
                let result = self.handle.address().del(message).execute().await;
                result.map_err(|source| NetlinkError::RemoveAddress {
                    address: *address,
                    source,
                })
            }
            Operation::RemoveRoute {
                link,
                to,
                via,
                metric,
            } => {
                let route = DesiredRoute {
                    to: *to,
                    via: *via,
                    metric: *metric,
                    onlink: false,
                };
                let message = route_message(*link, &route)?;
                let result = self.handle.route().del(message).execute().await;
                result.map_err(|source| NetlinkError::RemoveRoute {
                    to: *to,
                    via: *via,
                    source,
                })
            }
            Operation::SetAcceptRa { name, value } => {
                let path = accept_ra_path(name);
                std::fs::write(&path, value.to_string())
                    .map_err(|source| NetlinkError::Sysctl { path, source })
            }
            Operation::SetMtu { link, mtu } => {
                let message = LinkUnspec::new_with_index(*link).mtu(*mtu).build();
                let result = self.handle.link().set(message).execute().await;
                result.map_err(|source| NetlinkError::SetMtu { mtu: *mtu, source })
            }
            Operation::SwitchOn { link } => {
                let message = LinkUnspec::new_with_index(*link).up().build();
                self.handle
                    .link()
                    .set(message)
                    .execute()
                    .await
                    .map_err(NetlinkError::SwitchOn)
            }
        }
    }

    async fn add_address(&self, link: u32, address: &DesiredAddress) -> Result<(), NetlinkError> {
        let DesiredAddress {
            address,
            owner,
            valid_for,
        } = *address;
        let prefix = address.network().prefix_len();
        let mut request = self
            .handle
            .address()
            .add(link, address.address(), prefix)
            .replace();
        let attributes = &mut request.message_mut().attributes;
        let mark = match owner {
            Owner::NetdLease => LEASE_MARK,
            Owner::Netd | Owner::Other => MARK,
        };
        attributes.push(AddressAttribute::Protocol(AddressProtocol::Other(mark)));
        if let Some(valid_for) = valid_for {
            // The kernel takes the address away by itself if netd does not live to do it.
            let mut lifetime = CacheInfo::default();
            // Saturates below the value that means "for ever"; 0 would be refused.
            lifetime.ifa_valid = u32::try_from(valid_for.as_secs())
                .unwrap_or(u32::MAX - 1)
                .clamp(1, u32::MAX - 1);
            lifetime.ifa_preferred = lifetime.ifa_valid;
            attributes.push(AddressAttribute::CacheInfo(lifetime));
        }
        request
            .execute()
            .await
            .map_err(|source| NetlinkError::AddAddress { address, source })
    }
}

impl Kernel for Rtnetlink {
    async fn observe(&self) -> Result<Observed, NetlinkError> {
        within_deadline(self.list()).await
    }

    async fn apply(&self, operation: &Operation) -> Result<(), NetlinkError> {
        within_deadline(self.carry_out(operation)).await
    }
}

async fn within_deadline<T>(
    work: impl Future<Output = Result<T, NetlinkError>>,
) -> Result<T, NetlinkError> {
    let seconds = ANSWER_DEADLINE.as_secs();
    tokio::time::timeout(ANSWER_DEADLINE, work)
        .await
        .unwrap_or(Err(NetlinkError::Deadline { seconds }))
}

fn address_message(link: u32, address: LinkAddress) -> AddressMessage {
    let prefix = address.network().prefix_len();
    match address.address() {
        IpAddr::V4(address) => AddressMessageBuilder::<Ipv4Addr>::new()
            .index(link)
            .address(address, prefix)
            .build(),
        IpAddr::V6(address) => AddressMessageBuilder::<Ipv6Addr>::new()
            .index(link)
            .address(address, prefix)
            .build(),
    }
}

fn route_message(link: u32, route: &DesiredRoute) -> Result<RouteMessage, NetlinkError> {
    let prefix = route.to.prefix_len();
    // A network on the link itself has link scope; through a gateway it is the whole world.
    let scope = if route.via.is_some() {
        RouteScope::Universe
    } else {
        RouteScope::Link
    };
    let protocol = RouteProtocol::Other(MARK);
    Ok(match (route.to.network(), route.via) {
        (IpAddr::V4(to), None | Some(IpAddr::V4(_))) => {
            let mut builder = RouteMessageBuilder::<Ipv4Addr>::new()
                .destination_prefix(to, prefix)
                .output_interface(link)
                .priority(route.metric)
                .protocol(protocol)
                .scope(scope);
            if let Some(IpAddr::V4(via)) = route.via {
                builder = builder.gateway(via);
            }
            if route.onlink {
                builder.onlink()
            } else {
                builder
            }
            .build()
        }
        (IpAddr::V6(to), None | Some(IpAddr::V6(_))) => {
            let mut builder = RouteMessageBuilder::<Ipv6Addr>::new()
                .destination_prefix(to, prefix)
                .output_interface(link)
                .priority(route.metric)
                .protocol(protocol);
            if let Some(IpAddr::V6(via)) = route.via {
                builder = builder.gateway(via);
            }
            if route.onlink {
                builder.onlink()
            } else {
                builder
            }
            .build()
        }
        (_, Some(via)) => return Err(NetlinkError::MixedRoute { to: route.to, via }),
    })
}

fn accept_ra_path(name: &str) -> String {
    format!("/proc/sys/net/ipv6/conf/{name}/accept_ra")
}

/// Absent where the kernel has no IPv6, or none for this link.
fn accept_ra(name: &str) -> Option<u8> {
    std::fs::read_to_string(accept_ra_path(name))
        .ok()?
        .trim()
        .parse()
        .ok()
}
