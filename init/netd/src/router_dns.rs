//! DNS servers and domains that routers announced, each for as long as they said.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use tokio::time::Instant;

use crate::lease::domain;
use crate::netlink::{Content, RouterOption};

/// Hosts need not remember more than three of each (RFC 8106 section 5.3.1); a router that sends
/// thousands must not fill our memory.
const MOST: usize = 8;

/// What holds on each link.
#[derive(Debug, Default)]
pub(crate) struct RouterDns {
    servers: BTreeMap<u32, Vec<(IpAddr, Option<Instant>)>>,
    domains: BTreeMap<u32, Vec<(String, Option<Instant>)>>,
}

impl RouterDns {
    /// Takes in one option of an advertisement.
    pub(crate) fn take(&mut self, option: RouterOption, now: Instant) {
        let RouterOption {
            link,
            lifetime,
            content,
        } = option;
        match content {
            Content::Servers(servers) => {
                let servers = servers.into_iter().filter(usable).map(IpAddr::V6);
                update(
                    self.servers.entry(link).or_default(),
                    servers,
                    lifetime,
                    now,
                );
            }
            Content::Domains(names) => {
                let names = names.iter().filter_map(|name| domain(name));
                update(self.domains.entry(link).or_default(), names, lifetime, now);
            }
        }
    }

    /// Forgets links that are gone.
    pub(crate) fn retain(&mut self, present: impl Fn(u32) -> bool) {
        self.servers.retain(|link, _| present(*link));
        self.domains.retain(|link, _| present(*link));
    }

    pub(crate) fn servers(&self, now: Instant) -> impl Iterator<Item = IpAddr> {
        current(&self.servers, now).copied()
    }

    pub(crate) fn domains(&self, now: Instant) -> impl Iterator<Item = String> {
        current(&self.domains, now).cloned()
    }

    /// When the next one ends.
    pub(crate) fn next_end(&self, now: Instant) -> Option<Instant> {
        let servers = self
            .servers
            .values()
            .flatten()
            .filter_map(|(_, ends)| *ends);
        let domains = self
            .domains
            .values()
            .flatten()
            .filter_map(|(_, ends)| *ends);
        servers.chain(domains).filter(|ends| *ends > now).min()
    }
}

/// Link-local servers need the link's name beside them, which means nothing inside a pod, and
/// pods get a copy of the list.
fn usable(server: &Ipv6Addr) -> bool {
    !(server.is_unspecified()
        || server.is_loopback()
        || server.is_multicast()
        || server.is_unicast_link_local())
}

fn update<T: PartialEq>(
    known: &mut Vec<(T, Option<Instant>)>,
    items: impl Iterator<Item = T>,
    lifetime: u32,
    now: Instant,
) {
    known.retain(|(_, ends)| ends.is_none_or(|ends| ends > now));
    let ends = match lifetime {
        u32::MAX => None,
        seconds => now.checked_add(Duration::from_secs(seconds.into())),
    };
    for item in items {
        let place = known.iter().position(|(known, _)| *known == item);
        match place {
            Some(place) if lifetime == 0 => drop(known.remove(place)),
            Some(place) => known[place].1 = ends,
            None if lifetime > 0 && known.len() < MOST => known.push((item, ends)),
            None => {}
        }
    }
}

fn current<T>(
    links: &BTreeMap<u32, Vec<(T, Option<Instant>)>>,
    now: Instant,
) -> impl Iterator<Item = &T> {
    let all = links.values().flatten();
    all.filter(move |(_, ends)| ends.is_none_or(|ends| ends > now))
        .map(|(item, _)| item)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn servers(lifetime: u32, last: impl IntoIterator<Item = u16>) -> RouterOption {
        let servers = last
            .into_iter()
            .map(|last| Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, last));
        RouterOption {
            link: 2,
            lifetime,
            content: Content::Servers(servers.collect()),
        }
    }

    #[test]
    fn servers_hold_for_their_time() {
        let now = Instant::now();
        let later = now + Duration::from_secs(61);
        let mut dns = RouterDns::default();
        dns.take(servers(60, [1]), now);
        dns.take(servers(u32::MAX, [2]), now);
        assert_eq!(dns.servers(now).count(), 2);
        assert_eq!(dns.next_end(now), Some(now + Duration::from_secs(60)));
        assert_eq!(dns.servers(later).count(), 1);
        dns.take(servers(0, [2]), later);
        assert_eq!(dns.servers(later).count(), 0);
    }

    #[test]
    fn a_flood_and_useless_servers_are_bounded() {
        let now = Instant::now();
        let mut dns = RouterDns::default();
        dns.take(servers(60, 0..1000), now);
        assert_eq!(dns.servers(now).count(), MOST);
        let local = RouterOption {
            link: 3,
            lifetime: 60,
            content: Content::Servers(vec!["fe80::1".parse().unwrap(), "::1".parse().unwrap()]),
        };
        dns.take(local, now);
        assert_eq!(dns.servers(now).count(), MOST);
        dns.retain(|link| link == 3);
        assert_eq!(dns.servers(now).count(), 0);
    }

    #[test]
    fn a_domain_with_a_line_break_is_left_out() {
        let now = Instant::now();
        let mut dns = RouterDns::default();
        let names = vec!["lab.example".to_owned(), "x\nnameserver 6.6.6.6".to_owned()];
        dns.take(
            RouterOption {
                link: 2,
                lifetime: 60,
                content: Content::Domains(names),
            },
            now,
        );
        assert_eq!(dns.domains(now).collect::<Vec<_>>(), ["lab.example"]);
    }
}
