//! The leases of all links and the DHCP clients that look after them.

use std::collections::BTreeMap;
use std::time::Duration;

use keelson_control::chain;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::desired::LeaseState;
use crate::dhcp::{DhcpClient, News, Notice};
use crate::lease::Lease;
use crate::model::Link;

/// DHCP clients speak every few minutes; room for one word of each link.
const NOTICES: usize = 16;

/// What is known about each link that asks for a lease.
#[derive(Debug)]
pub(crate) struct Leases {
    links: BTreeMap<u32, LinkLease>,
    sender: mpsc::Sender<Notice>,
    notices: mpsc::Receiver<Notice>,
}

#[derive(Debug, Default)]
struct LinkLease {
    name: String,
    client: Option<DhcpClient>,
    lease: Option<HeldLease>,
    /// There was one, and its time is over.
    expired: bool,
    trouble: Option<String>,
}

#[derive(Debug)]
struct HeldLease {
    lease: Lease,
    expires: Option<Instant>,
}

impl HeldLease {
    fn is_over(&self, now: Instant) -> bool {
        self.expires.is_some_and(|expires| expires <= now)
    }

    fn valid_for(&self, now: Instant) -> Option<Duration> {
        self.expires
            .map(|expires| expires.saturating_duration_since(now))
    }
}

impl Leases {
    pub(crate) fn new() -> Self {
        let (sender, notices) = mpsc::channel(NOTICES);
        Self {
            links: BTreeMap::new(),
            sender,
            notices,
        }
    }

    /// One client for each of these links that has a carrier, none for any other.
    pub(crate) fn supervise<'a>(&mut self, links: impl Iterator<Item = &'a Link>, host_name: &str) {
        let links: BTreeMap<u32, &Link> = links.map(|link| (link.index, link)).collect();
        self.links.retain(|index, _| links.contains_key(index));
        for (index, link) in links {
            let state = self.links.entry(index).or_default();
            state.name.clone_from(&link.name);
            if !(link.up && link.carrier) {
                // The address stays until its time is over; a new carrier means asking again.
                state.client = None;
            } else if state.client.is_none() {
                state.client = DhcpClient::start(link, host_name, self.sender.clone());
                if state.client.is_none() {
                    state.trouble = Some("it has no Ethernet address, which DHCP needs".to_owned());
                }
            }
        }
    }

    /// Waits for a client's word and takes it in. Safe to use in `select!`.
    pub(crate) async fn news(&mut self) {
        // Never the end: a sender is kept here.
        if let Some(notice) = self.notices.recv().await {
            self.take(notice, Instant::now());
        }
    }

    /// For the plan, by link.
    pub(crate) fn states(&self, now: Instant) -> BTreeMap<u32, LeaseState> {
        let state = |link: &LinkLease| match &link.lease {
            Some(held) if held.is_over(now) => LeaseState::Lost,
            Some(held) => LeaseState::Held {
                lease: held.lease.clone(),
                valid_for: held.valid_for(now),
            },
            None if link.expired => LeaseState::Lost,
            None => LeaseState::Unknown,
        };
        self.links
            .iter()
            .map(|(index, link)| (*index, state(link)))
            .collect()
    }

    /// Those that hold, in the order of the links.
    pub(crate) fn held(&self, now: Instant) -> impl Iterator<Item = &Lease> {
        let held = self.links.values().filter_map(|link| link.lease.as_ref());
        held.filter(move |held| !held.is_over(now))
            .map(|held| &held.lease)
    }

    /// Why the link has no lease, if its client knows.
    pub(crate) fn trouble(&self, link: u32) -> Option<&str> {
        self.links.get(&link)?.trouble.as_deref()
    }

    /// When the next lease is over.
    pub(crate) fn next_end(&self, now: Instant) -> Option<Instant> {
        let held = self.links.values().filter_map(|link| link.lease.as_ref());
        held.filter_map(|held| held.expires)
            .filter(|expires| *expires > now)
            .min()
    }

    fn take(&mut self, notice: Notice, now: Instant) {
        let Some(state) = self.links.get_mut(&notice.link) else {
            return;
        };
        let name = &state.name;
        match notice.news {
            News::Bound(lease) => {
                if state.lease.as_ref().is_none_or(|held| held.lease != *lease) {
                    tracing::info!(
                        "{name}: {} from the DHCP server {}",
                        lease.address,
                        lease.server
                    );
                }
                let expires = lease
                    .duration
                    .and_then(|duration| now.checked_add(duration));
                state.lease = Some(HeldLease {
                    lease: *lease,
                    expires,
                });
                state.expired = false;
                state.trouble = None;
            }
            News::Expired => {
                tracing::warn!("{name}: the DHCP lease expired and nobody renewed it");
                state.lease = None;
                state.expired = true;
            }
            News::Trouble(trouble) => {
                let text = chain(&trouble);
                tracing::warn!("{name}: {text}");
                state.trouble = Some(text);
            }
        }
    }
}
