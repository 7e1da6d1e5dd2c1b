//! mozim's own sources, compiled here once more (build.rs finds them) with a door to its parser:
//! the crate has none, and of all parsers of a node this one hears the most strangers.

#![allow(warnings, clippy::all)]

include!(concat!(env!("OUT_DIR"), "/mozim.rs"));

/// What a client does with a frame from the network: reads it, takes the lease if there is one,
/// and makes the next request from it.
pub fn receive(frame: &[u8]) -> Option<DhcpV4Lease> {
    let message = dhcpv4::DhcpV4Message::parse_eth_packet(frame).ok()?;
    let kind = message.message_type()?;
    let lease = message.lease()?;
    let config = DhcpV4Config::new("eth0");
    let request = dhcpv4::DhcpV4Message::new_request(message.xid, &config, &lease);
    let _ = request.to_eth_packet_broadcast();
    let renewal = dhcpv4::DhcpV4Message::new_renew(message.xid, &config, &lease);
    let _ = renewal.to_dhcp_packet();
    let _ = format!("{kind} {message:?}");
    let mut client = DhcpV4Client::default();
    client.done(lease.clone()).ok()?;
    Some(lease)
}
