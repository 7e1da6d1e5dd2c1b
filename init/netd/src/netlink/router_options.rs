//! What routers say about DNS. The kernel handles addresses and routes of a router
//! advertisement itself and hands the options it does not know to whoever listens here.

use std::net::Ipv6Addr;

use rtnetlink::sys::protocols::NETLINK_ROUTE;
use rtnetlink::sys::{AsyncSocket, AsyncSocketExt, SocketAddr, TokioSocket};

use super::NetlinkError;

/// RTNLGRP_ND_USEROPT and RTM_NEWNDUSEROPT of linux/rtnetlink.h; the rtnetlink crate has no
/// parser for the message.
const GROUP: u32 = 20;
const MESSAGE: u16 = 68;

/// `struct nlmsghdr` and `struct nduseroptmsg`.
const NETLINK_HEADER: usize = 16;
const OPTION_HEADER: usize = 16;

/// ICMPv6 type of a router advertisement (RFC 4861).
const ROUTER_ADVERTISEMENT: u8 = 134;

/// Option numbers of RFC 8106.
const SERVERS: u8 = 25;
const DOMAINS: u8 = 31;

/// One option of one advertisement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RouterOption {
    pub(crate) link: u32,
    /// In seconds; 0: no longer, `u32::MAX`: for ever.
    pub(crate) lifetime: u32,
    pub(crate) content: Content,
}

/// What the option says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Content {
    Domains(Vec<String>),
    Servers(Vec<Ipv6Addr>),
}

/// A subscription to the options.
pub(crate) struct RouterOptions {
    socket: TokioSocket,
    waiting: Vec<RouterOption>,
}

impl RouterOptions {
    /// Must be called inside a tokio runtime.
    pub(crate) fn open() -> Result<Self, NetlinkError> {
        let mut socket = TokioSocket::new(NETLINK_ROUTE).map_err(NetlinkError::Socket)?;
        socket
            .socket_mut()
            .bind(&SocketAddr::new(0, 0))
            .map_err(NetlinkError::Socket)?;
        socket
            .socket_mut()
            .add_membership(GROUP)
            .map_err(NetlinkError::Socket)?;
        Ok(Self {
            socket,
            waiting: Vec::new(),
        })
    }

    /// The next option. Safe to use in `select!`.
    pub(crate) async fn next(&mut self) -> RouterOption {
        loop {
            if let Some(option) = self.waiting.pop() {
                return option;
            }
            match self.socket.recv_from_full().await {
                // Port 0 is the kernel: nobody else may tell us name servers.
                Ok((bytes, sender)) if sender.port_number() == 0 => {
                    self.waiting = parse(&bytes);
                    self.waiting.reverse();
                }
                Ok(_) => {}
                // Too many at once: routers repeat themselves.
                Err(error) => tracing::debug!("router options: {error}"),
            }
        }
    }
}

/// All options of all messages in a packet; what is damaged is left out.
pub(crate) fn parse(mut packet: &[u8]) -> Vec<RouterOption> {
    let mut found = Vec::new();
    while let Some(length) = word(packet, 0).and_then(|length| usize::try_from(length).ok()) {
        let Some(message) = packet
            .get(..length)
            .filter(|message| message.len() >= NETLINK_HEADER)
        else {
            break;
        };
        if half(message, 4) == Some(MESSAGE) {
            found.extend(options(&message[NETLINK_HEADER..]));
        }
        packet = packet.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    found
}

fn options(message: &[u8]) -> Vec<RouterOption> {
    let header = (half(message, 2), word(message, 4), message.get(8));
    let (Some(length), Some(link), Some(&ROUTER_ADVERTISEMENT)) = header else {
        return Vec::new();
    };
    let rest = message.get(OPTION_HEADER..).unwrap_or_default();
    let mut rest = rest.get(..usize::from(length)).unwrap_or_default();
    let mut found = Vec::new();
    while let [kind, units, ..] = *rest {
        let length = usize::from(units) * 8;
        let Some(option) = rest.get(..length).filter(|option| !option.is_empty()) else {
            break;
        };
        found.extend(read(kind, option, link));
        rest = &rest[length..];
    }
    found
}

fn read(kind: u8, option: &[u8], link: u32) -> Option<RouterOption> {
    let lifetime = u32::from_be_bytes(option.get(4..8)?.try_into().ok()?);
    let body = option.get(8..)?;
    let content = match kind {
        SERVERS => Content::Servers(
            body.chunks_exact(16)
                .filter_map(|bytes| <[u8; 16]>::try_from(bytes).ok().map(Ipv6Addr::from))
                .collect(),
        ),
        DOMAINS => Content::Domains(domains(body)),
        _ => return None,
    };
    Some(RouterOption {
        link,
        lifetime,
        content,
    })
}

/// Names as in DNS: labels with their length before them, each name ended by a zero.
fn domains(mut body: &[u8]) -> Vec<String> {
    let mut names = Vec::new();
    let mut name = String::new();
    while let [length, rest @ ..] = body {
        let Some(label) = rest.get(..usize::from(*length)) else {
            break;
        };
        if label.is_empty() {
            // Also the padding at the end.
            if !name.is_empty() {
                names.push(std::mem::take(&mut name));
            }
        } else {
            if !name.is_empty() {
                name.push('.');
            }
            name.extend(label.iter().map(|byte| char::from(*byte)));
        }
        body = &rest[label.len()..];
    }
    names
}

/// Netlink's numbers are in the machine's own order.
fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn half(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn message(options: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        let length = u32::try_from(NETLINK_HEADER + OPTION_HEADER + options.len()).unwrap();
        bytes.extend(length.to_ne_bytes());
        bytes.extend(MESSAGE.to_ne_bytes());
        bytes.extend([0; 10]);
        bytes.extend([10, 0]);
        bytes.extend(u16::try_from(options.len()).unwrap().to_ne_bytes());
        bytes.extend(7u32.to_ne_bytes());
        bytes.extend([ROUTER_ADVERTISEMENT, 0, 0, 0, 0, 0, 0, 0]);
        bytes.extend(options);
        bytes
    }

    #[test]
    fn servers_and_domains_are_read() {
        let mut options = vec![SERVERS, 3, 0, 0, 0, 0, 2, 88];
        options.extend("2001:db8::53".parse::<Ipv6Addr>().unwrap().octets());
        options.extend([DOMAINS, 3, 0, 0, 255, 255, 255, 255]);
        options.extend(b"\x03lab\x07example\x00\x00\x00\x00");
        let found = parse(&message(&options));
        assert_eq!(
            found,
            [
                RouterOption {
                    link: 7,
                    lifetime: 600,
                    content: Content::Servers(vec!["2001:db8::53".parse().unwrap()]),
                },
                RouterOption {
                    link: 7,
                    lifetime: u32::MAX,
                    content: Content::Domains(vec!["lab.example".to_owned()]),
                },
            ]
        );
    }

    #[test]
    fn two_messages_in_one_packet_are_both_read() {
        let one = message(&[SERVERS, 1, 0, 0, 0, 0, 0, 0]);
        let packet = [one.clone(), one].concat();
        assert_eq!(parse(&packet).len(), 2);
    }

    proptest! {
        #[test]
        fn any_packet_is_handled(bytes: Vec<u8>) {
            let _ = parse(&bytes);
            let _ = parse(&message(&bytes));
        }

        #[test]
        fn a_cut_off_packet_is_handled(cut in 0usize..80) {
            let mut options = vec![SERVERS, 3, 0, 0, 0, 0, 2, 88];
            options.extend([1; 16]);
            let whole = message(&options);
            let _ = parse(&whole[..cut.min(whole.len())]);
        }
    }
}
