//! What the kernel hands on of router advertisements: netlink messages with DNS servers and
//! domains, into resolv.conf.

use std::net::Ipv6Addr;
use std::process::ExitCode;

use keelson_fuzz_engine::Target;
use keelson_netd::fuzzing::resolv_conf_of_routers;

fn main() -> ExitCode {
    keelson_fuzz_engine::main(Target {
        run,
        seeds,
        longest: 2048,
    })
}

fn run(packet: &[u8]) {
    keelson_fuzz::check_resolv_conf(&resolv_conf_of_routers(packet));
    // The kernel's own lengths are right: with them, all bytes reach the options.
    keelson_fuzz::check_resolv_conf(&resolv_conf_of_routers(&message(packet)));
}

/// A server and two domains (RFC 8106), alone and as a message.
fn seeds() -> Vec<Vec<u8>> {
    let mut options = vec![25, 3, 0, 0, 0, 0, 2, 88];
    options.extend(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x53).octets());
    options.extend([31, 4, 0, 0, 255, 255, 255, 255]);
    options.extend(b"\x03lab\x07example\x00\x04home\x04arpa\x00");
    let message = message(&options);
    vec![options, message.repeat(2), message]
}

/// `nlmsghdr` and `nduseroptmsg` of the kernel around options.
fn message(options: &[u8]) -> Vec<u8> {
    const NEW_USER_OPTION: u16 = 68;
    const ROUTER_ADVERTISEMENT: u8 = 134;
    let length = u16::try_from(options.len()).unwrap_or(u16::MAX);
    let mut bytes = Vec::with_capacity(32 + options.len());
    bytes.extend((u32::from(length) + 32).to_ne_bytes());
    bytes.extend(NEW_USER_OPTION.to_ne_bytes());
    bytes.extend([0; 10]);
    bytes.extend([10, 0]);
    bytes.extend(length.to_ne_bytes());
    bytes.extend(7_u32.to_ne_bytes());
    bytes.extend([ROUTER_ADVERTISEMENT, 0, 0, 0, 0, 0, 0, 0]);
    bytes.extend(options);
    bytes
}
