//! The file that tells programs and pods which DNS servers to ask.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr};

/// More are ignored by the C libraries, and kubelet warns about them at every pod.
const MOST_SERVERS: usize = 3;

/// The limit of the C libraries before glibc 2.26, and kubelet's.
const MOST_DOMAINS: usize = 32;

/// The content of resolv.conf.
///
/// A file without servers would make programs ask the loopback address and CoreDNS exit at
/// start. So, when there are none, the node's own address stands in: nothing listens there, and
/// every question fails at once instead of hanging.
pub(crate) fn render(servers: &[IpAddr], domains: &[String], stand_in: Option<Ipv4Addr>) -> String {
    let mut text = String::from("# Written by keelson netd; changes are lost.\n");
    if servers.is_empty() {
        text.push_str("# No DNS server is configured or offered by the network.\n");
        if let Some(address) = stand_in {
            line(&mut text, "nameserver", &address.to_string());
        }
    }
    for server in servers.iter().take(MOST_SERVERS) {
        line(&mut text, "nameserver", &server.to_string());
    }
    if !domains.is_empty() {
        let domains: Vec<&str> = domains
            .iter()
            .take(MOST_DOMAINS)
            .map(String::as_str)
            .collect();
        line(&mut text, "search", &domains.join(" "));
    }
    text
}

fn line(text: &mut String, key: &str, value: &str) {
    // Writing to a String cannot fail.
    let _ = writeln!(text, "{key} {value}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn at_most_three_servers_and_the_domains() {
        let servers: Vec<IpAddr> = (1..6).map(|last| IpAddr::from([10, 0, 0, last])).collect();
        let text = render(
            &servers,
            &["a.example".to_owned(), "b.example".to_owned()],
            None,
        );
        assert_eq!(text.matches("nameserver").count(), 3);
        assert!(text.ends_with("search a.example b.example\n"));
    }

    #[test]
    fn never_without_a_server_once_the_node_has_an_address() {
        let text = render(&[], &[], Some(Ipv4Addr::new(198, 18, 0, 1)));
        assert!(text.contains("\nnameserver 198.18.0.1\n"));
    }
}
