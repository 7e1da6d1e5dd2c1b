//! A frame on the network on its way through the DHCP client's parser into a lease and, checked
//! by netd, into resolv.conf.

use std::net::Ipv4Addr;
use std::process::ExitCode;

use etherparse::PacketBuilder;
use keelson_fuzz_engine::Target;
use keelson_fuzz_mozim as parser;

fn main() -> ExitCode {
    keelson_fuzz_engine::main(Target {
        run,
        seeds,
        longest: 1514,
    })
}

fn run(frame: &[u8]) {
    let Some(parsed) = parser::receive(frame) else {
        return;
    };
    let Ok(taken) = keelson_netd::fuzzing::take_lease(&same(parsed)) else {
        return;
    };
    assert!(taken.prefix <= 32, "{taken:?}");
    assert!(taken.mtu.is_none_or(|mtu| mtu >= 576), "{taken:?}");
    assert!(!taken.routes_collide, "{taken:?}");
    keelson_fuzz::check_resolv_conf(&taken.resolv_conf);
}

/// The parser is compiled apart, so its lease is another type with the same fields.
fn same(parsed: parser::DhcpV4Lease) -> mozim::DhcpV4Lease {
    let mut lease = mozim::DhcpV4Lease::default();
    lease.siaddr = parsed.siaddr;
    lease.yiaddr = parsed.yiaddr;
    lease.t1_sec = parsed.t1_sec;
    lease.t2_sec = parsed.t2_sec;
    lease.lease_time_sec = parsed.lease_time_sec;
    lease.srv_id = parsed.srv_id;
    lease.subnet_mask = parsed.subnet_mask;
    lease.broadcast_addr = parsed.broadcast_addr;
    lease.dns_srvs = parsed.dns_srvs;
    lease.gateways = parsed.gateways;
    lease.ntp_srvs = parsed.ntp_srvs;
    lease.mtu = parsed.mtu;
    lease.host_name = parsed.host_name;
    lease.domain_name = parsed.domain_name;
    lease.classless_routes = parsed.classless_routes.map(|routes| {
        let same = |route: parser::DhcpV4ClasslessRoute| mozim::DhcpV4ClasslessRoute {
            destination: route.destination,
            prefix_length: route.prefix_length,
            router: route.router,
        };
        routes.into_iter().map(same).collect()
    });
    lease
}

/// An offer with every option that netd looks at, and an acknowledgement with few.
fn seeds() -> Vec<Vec<u8>> {
    let server = Ipv4Addr::new(10, 0, 2, 2).octets();
    let times = |seconds: u32| seconds.to_be_bytes();
    let mut offer = vec![53, 1, 2, 54, 4];
    offer.extend(server);
    for (code, seconds) in [(51, 86400), (58, 43200), (59, 75600)] {
        offer.extend([code, 4]);
        offer.extend(times(seconds));
    }
    offer.extend([1, 4, 255, 255, 255, 0, 28, 4, 10, 0, 2, 255]);
    for code in [3, 6, 42] {
        offer.extend([code, 8, 10, 0, 2, 2, 10, 0, 2, 3]);
    }
    offer.extend([26, 2, 5, 120, 12, 2, b'k', b'1', 15, 11]);
    offer.extend(b"lab.example");
    for code in [121, 249] {
        offer.extend([code, 13, 0, 10, 0, 2, 2, 24, 192, 0, 2, 10, 0, 2, 9]);
    }
    offer.extend([56, 2, b'o', b'k', 61, 3, 1, 2, 3, 0, 255]);
    let mut acknowledgement = vec![53, 1, 5, 51, 4];
    acknowledgement.extend(times(600));
    acknowledgement.push(255);
    vec![frame(&offer), frame(&acknowledgement)]
}

fn frame(options: &[u8]) -> Vec<u8> {
    // op, htype, hlen, hops, xid, secs, flags; ciaddr, yiaddr, siaddr, giaddr.
    let mut message = vec![2, 1, 6, 0, 1, 2, 3, 4, 0, 0, 0, 0];
    message.extend([0, 0, 0, 0, 10, 0, 2, 15, 10, 0, 2, 2, 0, 0, 0, 0]);
    // chaddr, sname, file, the magic number.
    message.extend([0x52, 0x54, 0, 1, 2, 3]);
    message.resize(236, 0);
    message.extend([99, 130, 83, 99]);
    message.extend(options);
    let builder = PacketBuilder::ethernet2([0x52, 0x54, 0, 9, 9, 9], [0xff; 6])
        .ipv4([10, 0, 2, 2], [255; 4], 64)
        .udp(67, 68);
    let mut frame = Vec::new();
    match builder.write(&mut frame, &message) {
        Ok(()) => frame,
        Err(error) => panic!(
            "a message of {} bytes fits no frame: {error}",
            message.len()
        ),
    }
}
