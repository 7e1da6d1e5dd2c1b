//! The difference between what the kernel has and what it should have, as a list of operations.
//!
//! Planning again after the operations were carried out gives an empty list; what fails is
//! planned again at the next look. Only what netd marked as its own is ever removed.

use std::net::IpAddr;
use std::time::Duration;

use keelson_config::Cidr;

use crate::desired::{Desired, DesiredAddress, DesiredLink, DesiredRoute};
use crate::model::{Link, LinkAddress, Observed, Owner};

/// The kernel counts in whole seconds and both sides count down: less is no difference.
const LIFETIME_TOLERANCE: Duration = Duration::from_secs(5);

/// One change to the kernel's state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    AddAddress {
        link: u32,
        address: DesiredAddress,
    },
    AddRoute {
        link: u32,
        route: DesiredRoute,
    },
    RemoveAddress {
        link: u32,
        address: LinkAddress,
    },
    RemoveRoute {
        link: u32,
        to: Cidr,
        via: Option<IpAddr>,
        metric: u32,
    },
    SetAcceptRa {
        name: String,
        value: u8,
    },
    SetMtu {
        link: u32,
        mtu: u32,
    },
    SwitchOn {
        link: u32,
    },
}

/// Router advertisements count although the node forwards packets (the kernel's documentation,
/// networking/ip-sysctl: 1 stops at forwarding hosts).
const ACCEPT_RA_WHILE_FORWARDING: u8 = 2;

/// What has to be done, in an order that works: links before addresses, addresses before the
/// routes that lean on them, new ones before old ones go.
pub(crate) fn plan(desired: &Desired, observed: &Observed) -> Vec<Operation> {
    let mut plan = Vec::new();
    for (index, wish) in &desired.links {
        if let Some(link) = observed.links.iter().find(|link| link.index == *index) {
            plan_link(link, wish, observed, &mut plan);
        }
    }
    plan
}

fn plan_link(link: &Link, wish: &DesiredLink, observed: &Observed, plan: &mut Vec<Operation>) {
    if let Some(mtu) = wish.mtu.filter(|mtu| *mtu != link.mtu) {
        plan.push(Operation::SetMtu {
            link: link.index,
            mtu,
        });
    }
    if wish.accept_ra
        && link
            .accept_ra
            .is_some_and(|value| value != ACCEPT_RA_WHILE_FORWARDING)
    {
        // Before the link goes up: the kernel asks for a router only then.
        let value = ACCEPT_RA_WHILE_FORWARDING;
        plan.push(Operation::SetAcceptRa {
            name: link.name.clone(),
            value,
        });
    }
    if !link.up {
        plan.push(Operation::SwitchOn { link: link.index });
    }
    plan_addresses(link.index, wish, observed, plan);
    plan_routes(link.index, wish, observed, plan);
}

fn plan_addresses(link: u32, wish: &DesiredLink, observed: &Observed, plan: &mut Vec<Operation>) {
    let present = || {
        observed
            .addresses
            .iter()
            .filter(|address| address.link == link)
    };
    for address in &wish.addresses {
        let known = present().find(|known| known.address == address.address);
        let good = known.is_some_and(|known| {
            known.owner == Owner::Other
                || (known.owner == address.owner
                    && same_lifetime(known.valid_for, address.valid_for))
        });
        if !good {
            plan.push(Operation::AddAddress {
                link,
                address: *address,
            });
        }
    }
    // While the lease is not known, what an earlier run of netd was lent stays.
    let ours = present().filter(|known| match known.owner {
        Owner::Netd => true,
        Owner::NetdLease => !wish.keep_others,
        Owner::Other => false,
    });
    for known in ours {
        if wish
            .addresses
            .iter()
            .all(|address| address.address != known.address)
        {
            plan.push(Operation::RemoveAddress {
                link,
                address: known.address,
            });
        }
    }
}

fn plan_routes(link: u32, wish: &DesiredLink, observed: &Observed, plan: &mut Vec<Operation>) {
    let present = || observed.routes.iter().filter(|route| route.link == link);
    if !wish.keep_others {
        for known in present().filter(|known| known.owner == Owner::Netd) {
            let wanted = wish.routes.iter().any(|route| {
                route.to == known.to && route.via == known.via && route.metric == known.metric
            });
            if !wanted {
                let (to, via, metric) = (known.to, known.via, known.metric);
                plan.push(Operation::RemoveRoute {
                    link,
                    to,
                    via,
                    metric,
                });
            }
        }
    }
    for route in &wish.routes {
        let there = present().any(|known| {
            known.to == route.to && known.via == route.via && known.metric == route.metric
        });
        if !there {
            plan.push(Operation::AddRoute {
                link,
                route: *route,
            });
        }
    }
}

fn same_lifetime(present: Option<Duration>, wanted: Option<Duration>) -> bool {
    match (present, wanted) {
        (None, None) => true,
        (Some(present), Some(wanted)) => present.abs_diff(wanted) <= LIFETIME_TOLERANCE,
        _ => false,
    }
}

#[cfg(test)]
mod tests;
