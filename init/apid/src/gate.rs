//! Who may begin a handshake: what failed before is held against the address it came from.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::time::Instant;

use crate::limits;

/// What counts as one address: an IPv4 address, or the 64 bits of IPv6 that one site has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Prefix(IpAddr);

impl From<IpAddr> for Prefix {
    fn from(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V6(address) => {
                let [a, b, c, d, ..] = address.segments();
                Self(IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0)))
            }
            address => Self(address),
        }
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            IpAddr::V4(address) => write!(f, "{address}"),
            IpAddr::V6(address) => write!(f, "{address}/64"),
        }
    }
}

/// Failures by address.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    records: HashMap<Prefix, Record>,
}

#[derive(Clone, Copy, Debug)]
struct Record {
    /// When everything will be forgiven.
    clean: Instant,
    shut_until: Option<Instant>,
}

impl Gate {
    /// Whether connections of `prefix` are closed without a word.
    pub(crate) fn is_shut(&self, prefix: Prefix, now: Instant) -> bool {
        self.records
            .get(&prefix)
            .and_then(|record| record.shut_until)
            .is_some_and(|until| now < until)
    }

    /// Takes a failed handshake down; true when the address is shut out because of it.
    pub(crate) fn failed(&mut self, prefix: Prefix, now: Instant) -> bool {
        if !self.records.contains_key(&prefix) && self.records.len() >= limits::ADDRESSES {
            self.forget(now);
        }
        let record = self.records.entry(prefix).or_insert(Record {
            clean: now,
            shut_until: None,
        });
        let shut = record.shut_until.is_some_and(|until| now < until);
        let most = limits::FAILURE_FORGIVEN * limits::FAILURES;
        record.clean = (record.clean.max(now) + limits::FAILURE_FORGIVEN).min(now + most);
        if shut || record.clean < now + most {
            return false;
        }
        record.shut_until = Some(now + limits::SHUT_OUT);
        true
    }

    /// Makes room for one: whoever is forgiven, or else will be soonest.
    fn forget(&mut self, now: Instant) {
        self.records.retain(|_, record| now < record.clean);
        if self.records.len() >= limits::ADDRESSES {
            let soonest = self
                .records
                .iter()
                .min_by_key(|(_, record)| record.clean)
                .map(|(prefix, _)| *prefix);
            if let Some(prefix) = soonest {
                self.records.remove(&prefix);
            }
        }
    }
}

/// Handshakes under way, oldest first. What is stored with each is dropped when it must make
/// room.
#[derive(Debug)]
pub(crate) struct Handshakes<T> {
    next: u64,
    waiting: VecDeque<Waiting<T>>,
}

#[derive(Debug)]
struct Waiting<T> {
    ticket: u64,
    prefix: Prefix,
    standing: Standing,
    place: T,
}

/// What is known of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// Nothing.
    Unknown,
    /// Somebody with a certificate is connected from there.
    Known,
    /// The same, and it would be shut out if it were not so.
    KnownButShut,
}

impl<T> Handshakes<T> {
    pub(crate) const fn new() -> Self {
        Self {
            next: 0,
            waiting: VecDeque::new(),
        }
    }

    /// Begins one and returns its ticket. When there are too many, the oldest makes room: of an
    /// unknown address if there is one, and of the one with the most.
    pub(crate) fn enter(&mut self, prefix: Prefix, standing: Standing, place: T) -> u64 {
        let shut = standing == Standing::KnownButShut;
        if shut && self.of(prefix) >= limits::HANDSHAKES_OF_KNOWN {
            self.displace(prefix);
        } else if self.waiting.len() >= limits::HANDSHAKES {
            // Backwards, because of several with as many the last one is taken.
            let first_to_go = self
                .waiting
                .iter()
                .rev()
                .max_by_key(|waiting| {
                    let unknown = waiting.standing == Standing::Unknown;
                    (unknown, self.of(waiting.prefix))
                })
                .map(|waiting| waiting.prefix);
            if let Some(prefix) = first_to_go {
                self.displace(prefix);
            }
        }
        let ticket = self.next;
        self.next += 1;
        self.waiting.push_back(Waiting {
            ticket,
            prefix,
            standing,
            place,
        });
        ticket
    }

    /// Ends one, if it was not displaced.
    pub(crate) fn leave(&mut self, ticket: u64) -> Option<T> {
        let index = self
            .waiting
            .iter()
            .position(|waiting| waiting.ticket == ticket)?;
        self.waiting.remove(index).map(|waiting| waiting.place)
    }

    fn of(&self, prefix: Prefix) -> usize {
        self.waiting
            .iter()
            .filter(|waiting| waiting.prefix == prefix)
            .count()
    }

    fn displace(&mut self, prefix: Prefix) {
        if let Some(index) = self
            .waiting
            .iter()
            .position(|waiting| waiting.prefix == prefix)
        {
            self.waiting.remove(index);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn prefix(text: &str) -> Prefix {
        Prefix::from(text.parse::<IpAddr>().unwrap())
    }

    fn many(number: usize) -> Prefix {
        Prefix::from(IpAddr::from(
            (0x0a00_0000 + u32::try_from(number).unwrap()).to_be_bytes(),
        ))
    }

    #[test]
    fn one_site_is_one_address() {
        assert_eq!(prefix("2001:db8:0:1::1"), prefix("2001:db8:0:1:ffff::2"));
        assert_ne!(prefix("2001:db8:0:1::1"), prefix("2001:db8:0:2::1"));
        assert_eq!(prefix("::ffff:192.0.2.1"), prefix("192.0.2.1"));
        assert_ne!(prefix("192.0.2.1"), prefix("192.0.2.2"));
        assert_eq!(prefix("2001:db8::1").to_string(), "2001:db8::/64");
    }

    #[test]
    fn a_flood_is_shut_out_for_a_while_and_a_slow_client_never() {
        let (mut gate, start) = (Gate::default(), Instant::now());
        let (flood, slow) = (prefix("192.0.2.1"), prefix("192.0.2.2"));
        let shut = (0..limits::FAILURES * 3)
            .filter(|_| gate.failed(flood, start))
            .count();
        assert_eq!(shut, 1, "said once");
        assert!(gate.is_shut(flood, start));
        assert!(!gate.is_shut(slow, start));
        assert!(!gate.is_shut(flood, start + limits::SHUT_OUT));
        for second in 0..200 {
            assert!(!gate.failed(slow, start + Duration::from_secs(second)));
        }
    }

    #[test]
    fn who_floods_on_is_shut_out_again() {
        let (mut gate, start) = (Gate::default(), Instant::now());
        let flood = prefix("192.0.2.1");
        for _ in 0..limits::FAILURES {
            gate.failed(flood, start);
        }
        let later = start + limits::SHUT_OUT;
        let again = (0..limits::FAILURES)
            .filter(|_| gate.failed(flood, later))
            .count();
        assert_eq!(again, 1);
    }

    #[test]
    fn the_table_is_bounded_and_keeps_the_guilty() {
        let (mut gate, now) = (Gate::default(), Instant::now());
        let flood = prefix("192.0.2.1");
        for _ in 0..limits::FAILURES {
            gate.failed(flood, now);
        }
        for number in 0..limits::ADDRESSES * 2 {
            gate.failed(many(number), now);
        }
        assert_eq!(gate.records.len(), limits::ADDRESSES);
        assert!(gate.is_shut(flood, now));
    }

    #[test]
    fn who_holds_most_handshakes_makes_room() {
        let mut handshakes = Handshakes::new();
        let (flood, person) = (prefix("192.0.2.1"), prefix("192.0.2.2"));
        let first = handshakes.enter(person, Standing::Unknown, ());
        let flooded: Vec<u64> = (0..limits::HANDSHAKES * 3)
            .map(|_| handshakes.enter(flood, Standing::Unknown, ()))
            .collect();
        assert_eq!(handshakes.waiting.len(), limits::HANDSHAKES);
        assert!(handshakes.leave(first).is_some(), "the person's is there");
        assert!(handshakes.leave(flooded[0]).is_none(), "the oldest went");
        assert!(handshakes.leave(*flooded.last().unwrap()).is_some());
    }

    #[test]
    fn when_everybody_has_one_the_oldest_makes_room() {
        let mut handshakes = Handshakes::new();
        let tickets: Vec<u64> = (0..=limits::HANDSHAKES)
            .map(|number| handshakes.enter(many(number), Standing::Unknown, ()))
            .collect();
        assert!(handshakes.leave(tickets[0]).is_none());
        assert!(handshakes.leave(tickets[1]).is_some());
    }

    #[test]
    fn whoever_is_known_does_not_make_room_for_strangers() {
        let mut handshakes = Handshakes::new();
        let known = prefix("192.0.2.1");
        let tickets = [(); 2].map(|()| handshakes.enter(known, Standing::Known, ()));
        for number in 0..limits::HANDSHAKES * 3 {
            handshakes.enter(many(number), Standing::Unknown, ());
        }
        assert!(
            tickets
                .iter()
                .all(|ticket| handshakes.leave(*ticket).is_some())
        );
    }

    #[test]
    fn a_known_address_that_is_shut_out_has_a_few() {
        let mut handshakes = Handshakes::new();
        let known = prefix("192.0.2.1");
        for _ in 0..limits::HANDSHAKES {
            handshakes.enter(known, Standing::KnownButShut, ());
        }
        assert_eq!(handshakes.waiting.len(), limits::HANDSHAKES_OF_KNOWN);
    }
}
