//! An IPv6 router that announces itself.

use std::net::{Ipv6Addr, SocketAddrV6};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use rustix::net::{
    AddressFamily, SendFlags, SocketType, ipproto, netdevice, sendto, socket, sockopt,
};

use super::lab::Peer;

/// Sends advertisements until the returned end is dropped.
pub(super) fn advertise(peer: Peer) -> mpsc::Sender<()> {
    let (stop, stopped) = mpsc::channel();
    peer.spawn(move || {
        let socket = socket(AddressFamily::INET6, SocketType::RAW, Some(ipproto::ICMPV6)).unwrap();
        // Receivers drop what has passed a router (RFC 4861 section 6.1.2).
        sockopt::set_ipv6_multicast_hops(&socket, 255).unwrap();
        let index = netdevice::name_to_index(&socket, "uplink-peer").unwrap();
        let everyone = SocketAddrV6::new(Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1), 0, 0, index);
        // Fails until the router's own link-local address is settled.
        while matches!(stopped.try_recv(), Err(mpsc::TryRecvError::Empty)) {
            let _ = sendto(&socket, &advertisement(), SendFlags::empty(), &everyone);
            thread::sleep(Duration::from_millis(200));
        }
    });
    stop
}

fn advertisement() -> Vec<u8> {
    let network = Ipv6Addr::new(0x2001, 0xdb8, 7, 0, 0, 0, 0, 0);
    let server = Ipv6Addr::new(0x2001, 0xdb8, 7, 0, 0, 0, 0, 0x53);
    // Type, code, checksum (the kernel's), hop limit, flags, lifetime 1800 s, two timers.
    let mut bytes = vec![134, 0, 0, 0, 64, 0, 7, 8, 0, 0, 0, 0, 0, 0, 0, 0];
    // Prefix information: on the link, for addresses, an hour.
    bytes.extend([3, 4, 64, 0xc0, 0, 0, 14, 16, 0, 0, 14, 16, 0, 0, 0, 0]);
    bytes.extend(network.octets());
    bytes.extend([25, 3, 0, 0, 0, 0, 2, 88]);
    bytes.extend(server.octets());
    bytes.extend([31, 3, 0, 0, 0, 0, 2, 88]);
    bytes.extend(b"\x06router\x07example\x00");
    bytes
}
