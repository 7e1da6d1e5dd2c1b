//! The kernel's view of the network behind one small trait, so that all decisions are tested
//! without one.

#[cfg(test)]
pub(crate) mod fake;
mod monitor;
mod parse;
pub(crate) mod router_options;
mod rtnl;

use std::future::Future;
use std::io;
use std::net::IpAddr;

use keelson_config::Cidr;
pub(crate) use monitor::{Change, Monitor};
pub(crate) use router_options::{Content, RouterOption, RouterOptions};
pub(crate) use rtnl::Rtnetlink;

use crate::model::{LinkAddress, Observed};
use crate::plan::Operation;

/// What netd needs from the kernel.
pub(crate) trait Kernel {
    /// One look at all links, addresses and routes.
    fn observe(&self) -> impl Future<Output = Result<Observed, NetlinkError>>;

    /// Carries out one operation of a plan.
    fn apply(&self, operation: &Operation) -> impl Future<Output = Result<(), NetlinkError>>;
}

/// The kernel refused, or could not be asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NetlinkError {
    #[error("cannot open a netlink socket")]
    Socket(#[source] io::Error),
    #[error("cannot list {what}")]
    List {
        what: &'static str,
        source: rtnetlink::Error,
    },
    #[error("the kernel did not answer within {seconds} s")]
    Deadline { seconds: u64 },
    #[error("cannot add the address {address}")]
    AddAddress {
        address: LinkAddress,
        source: rtnetlink::Error,
    },
    #[error("cannot remove the address {address}")]
    RemoveAddress {
        address: LinkAddress,
        source: rtnetlink::Error,
    },
    #[error("cannot add the route to {to}{}", Via(.via))]
    AddRoute {
        to: Cidr,
        via: Option<IpAddr>,
        source: rtnetlink::Error,
    },
    #[error("cannot remove the route to {to}{}", Via(.via))]
    RemoveRoute {
        to: Cidr,
        via: Option<IpAddr>,
        source: rtnetlink::Error,
    },
    #[error("the route to {to} cannot go through {via}: one is IPv4, the other IPv6")]
    MixedRoute { to: Cidr, via: IpAddr },
    #[error("cannot switch on the link")]
    SwitchOn(#[source] rtnetlink::Error),
    #[error("cannot set the MTU to {mtu}")]
    SetMtu { mtu: u32, source: rtnetlink::Error },
    #[error("cannot write {path}")]
    Sysctl { path: String, source: io::Error },
}

struct Via<'a>(&'a Option<IpAddr>);

impl std::fmt::Display for Via<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            Some(via) => write!(f, " through {via}"),
            None => Ok(()),
        }
    }
}
