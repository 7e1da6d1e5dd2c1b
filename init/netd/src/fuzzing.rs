//! A door for tests/fuzz to what reads bytes from the network. Compiled for it alone.

use mozim::DhcpV4Lease;
use tokio::time::Instant;

use crate::lease::{BadLease, Lease};
use crate::netlink::router_options;
use crate::resolv;
use crate::router_dns::RouterDns;

/// resolv.conf with what a netlink packet says that routers said.
#[must_use]
pub fn resolv_conf_of_routers(packet: &[u8]) -> String {
    let now = Instant::now();
    let mut dns = RouterDns::default();
    for option in router_options::parse(packet) {
        dns.take(option, now);
    }
    let servers: Vec<_> = dns.servers(now).collect();
    let domains: Vec<_> = dns.domains(now).collect();
    resolv::render(&servers, &domains, None)
}

/// What netd takes from a lease.
#[derive(Debug)]
pub struct Taken {
    /// resolv.conf with it.
    pub resolv_conf: String,
    /// Bits of the network's mask.
    pub prefix: u8,
    /// For the link.
    pub mtu: Option<u32>,
    /// Whether two of its routes lead to the same network, which the kernel would refuse.
    pub routes_collide: bool,
}

/// Takes what a DHCP server granted; the error is a line for people.
///
/// # Errors
/// When it cannot be used.
pub fn take_lease(offer: &DhcpV4Lease) -> Result<Taken, String> {
    let lease = Lease::try_from(offer).map_err(|error: BadLease| error.to_string())?;
    let domains: Vec<_> = lease.search.iter().cloned().collect();
    let collides = |(index, route): (usize, &crate::lease::LeaseRoute)| {
        let before = lease.routes.iter().take(index);
        before.into_iter().any(|other| other.to == route.to)
    };
    Ok(Taken {
        resolv_conf: resolv::render(&lease.nameservers, &domains, None),
        prefix: lease.address.network().prefix_len(),
        mtu: lease.mtu,
        routes_collide: lease.routes.iter().enumerate().any(collides),
    })
}
