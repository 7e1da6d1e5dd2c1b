//! The loop: look at the kernel, compare with what is wanted, act, wait for news.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::time::Duration;

use keelson_control::chain;
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

use crate::clock::TimeSources;
use crate::desired::{LOCAL_ADDRESS, Local, desired};
use crate::leases::Leases;
use crate::model::{Link, LinkAddress, LinkKind, Observed};
use crate::netlink::{Change, Kernel, Monitor, NetlinkError, RouterOptions};
use crate::outbox::Outbox;
use crate::plan::plan;
use crate::progress::{Obstacle, Progress, Report, Situation, Stage};
use crate::resolv;
use crate::router_dns::RouterDns;
use crate::settings::Settings;
use crate::uplink::{has_default_route, uplink};

/// Kernel announcements come in bursts (link, address, route): one look for all of them.
const BURST: Duration = Duration::from_millis(10);

/// A plan is done after one round; another one shows that nothing is left to do.
const ROUNDS: u32 = 2;

/// When something failed that no kernel announcement will follow.
const RETRY: Duration = Duration::from_secs(5);

/// A look without a reason, should an announcement ever get lost.
const SAFETY_LOOK: Duration = Duration::from_secs(300);

/// resolv.conf is read by every process and, through kubelet, by every pod.
const READABLE: u32 = 0o644;

/// netd's state.
pub(crate) struct Daemon<K> {
    settings: Settings,
    kernel: K,
    monitor: Monitor,
    router_options: RouterOptions,
    router_dns: RouterDns,
    outbox: Outbox,
    sources: watch::Sender<TimeSources>,
    resolv_conf: PathBuf,
    progress: Progress,
    started: Instant,
    leases: Leases,
    observed: Observed,
    written: Option<String>,
    failures: BTreeSet<String>,
}

/// What the daemon needs to know and to reach.
pub(crate) struct Parts<K> {
    pub(crate) settings: Settings,
    pub(crate) kernel: K,
    pub(crate) monitor: Monitor,
    pub(crate) router_options: RouterOptions,
    pub(crate) outbox: Outbox,
    pub(crate) sources: watch::Sender<TimeSources>,
    pub(crate) resolv_conf: PathBuf,
    pub(crate) progress: Progress,
}

/// The daemon cannot go on; PID 1 starts it again.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DaemonError {
    #[error("the kernel's announcements ended")]
    MonitorEnded,
    #[error("cannot look at the network")]
    Observe(#[source] NetlinkError),
}

impl<K: Kernel> Daemon<K> {
    pub(crate) fn new(parts: Parts<K>) -> Self {
        Self {
            settings: parts.settings,
            kernel: parts.kernel,
            monitor: parts.monitor,
            router_options: parts.router_options,
            router_dns: RouterDns::default(),
            outbox: parts.outbox,
            sources: parts.sources,
            resolv_conf: parts.resolv_conf,
            progress: parts.progress,
            started: Instant::now(),
            leases: Leases::new(),
            observed: Observed::default(),
            written: None,
            failures: BTreeSet::new(),
        }
    }

    /// Runs until something breaks that a restart may mend.
    pub(crate) async fn run(mut self) -> Result<(), DaemonError> {
        loop {
            self.act().await?;
            self.wait().await?;
        }
    }

    /// Brings kernel, DNS file and PID 1 in line with what is known now.
    async fn act(&mut self) -> Result<(), DaemonError> {
        let mut failures = BTreeSet::new();
        self.converge(&mut failures).await?;
        self.supervise_clients();
        if self.report().await {
            // The node goes alone: its address has to be made now.
            self.converge(&mut failures).await?;
            self.report().await;
        }
        self.write_resolv_conf(&mut failures);
        self.publish_time_sources();
        for failure in failures.difference(&self.failures) {
            tracing::error!("{failure}; trying again");
        }
        self.failures = failures;
        Ok(())
    }

    async fn converge(&mut self, failures: &mut BTreeSet<String>) -> Result<(), DaemonError> {
        for _ in 0..ROUNDS {
            self.observed = self.kernel.observe().await.map_err(DaemonError::Observe)?;
            let leases = self.leases.states(Instant::now());
            let wish = desired(&self.settings, &self.observed, &leases, &self.local());
            let operations = plan(&wish, &self.observed);
            if operations.is_empty() {
                return Ok(());
            }
            failures.clear();
            for operation in &operations {
                tracing::debug!("{operation:?}");
                if let Err(error) = self.kernel.apply(operation).await {
                    failures.insert(chain(&error));
                }
            }
        }
        Ok(())
    }

    /// One client for each link that wants one.
    fn supervise_clients(&mut self) {
        let links = || self.observed.links.iter();
        let wanting = links().filter(|link| wants_dhcp(&self.settings, link));
        self.leases.supervise(wanting, &self.settings.host_name);
        self.router_dns
            .retain(|index| links().any(|link| link.index == index));
    }

    /// Tells PID 1 what is new; `true` if the network has to be looked at once more.
    async fn report(&mut self) -> bool {
        let uplink = uplink(&self.observed, |index| self.is_managed(index));
        let before = self.progress.stage();
        let reports = self.progress.step(
            uplink.map(|uplink| uplink.address),
            self.local_address_is_there(),
            self.started.elapsed(),
            &self.situations(),
        );
        for report in reports {
            match report {
                Report::Message { level, text } => self.outbox.message(level, text),
                Report::Network { node_ip } => {
                    tracing::info!("network: the node's address is {node_ip}");
                    let facts = BTreeMap::from([("node-ip".to_owned(), node_ip.to_string())]);
                    self.outbox.raise("network", facts).await;
                }
            }
        }
        before != self.progress.stage() && self.progress.needs_local_address()
    }

    fn write_resolv_conf(&mut self, failures: &mut BTreeSet<String>) {
        let now = Instant::now();
        let held = || self.leases.held(now);
        let mut servers = self.settings.nameservers.clone();
        if servers.is_empty() {
            let offered = held().flat_map(|lease| lease.nameservers.iter().copied());
            servers = unique(offered.chain(self.router_dns.servers(now)));
        }
        let mut domains = self.settings.search_domains.clone();
        if domains.is_empty() {
            let offered = held().filter_map(|lease| lease.search.clone());
            domains = unique(offered.chain(self.router_dns.domains(now)));
        }
        let content = resolv::render(&servers, &domains, self.node_ip());
        if self.written.as_ref() == Some(&content) {
            return;
        }
        match keelson_durable::replace(&self.resolv_conf, content.as_bytes(), READABLE) {
            Ok(()) => self.written = Some(content),
            Err(error) => {
                failures.insert(chain(&error));
            }
        }
    }

    fn publish_time_sources(&self) {
        let sources = match self.progress.stage() {
            Stage::Waiting | Stage::GoingAlone => TimeSources::Undecided,
            Stage::Settled { .. }
                if uplink(&self.observed, |index| self.is_managed(index)).is_none() =>
            {
                TimeSources::None("no network, so no time server")
            }
            Stage::Settled { .. } => {
                let offered = self
                    .leases
                    .held(Instant::now())
                    .flat_map(|lease| &lease.time_servers);
                let configured = self.settings.time_servers.iter().cloned();
                let servers = unique(configured.chain(offered.map(IpAddr::to_string)));
                if servers.is_empty() {
                    TimeSources::None("no time server is configured or offered by DHCP")
                } else {
                    TimeSources::Servers(servers)
                }
            }
        };
        self.sources.send_if_modified(|known| {
            let changed = *known != sources;
            *known = sources;
            changed
        });
    }

    /// Returns when there is a reason to act.
    async fn wait(&mut self) -> Result<(), DaemonError> {
        let wake = self.next_wake();
        loop {
            tokio::select! {
                () = tokio::time::sleep_until(wake) => return Ok(()),
                () = self.leases.news() => return Ok(()),
                option = self.router_options.next() => {
                    if self.is_managed(option.link) {
                        self.router_dns.take(option, Instant::now());
                        return Ok(());
                    }
                }
                change = self.monitor.next() => {
                    let change = change.ok_or(DaemonError::MonitorEnded)?;
                    if !self.concerns_us(change) {
                        continue;
                    }
                    let end = Instant::now() + BURST;
                    while let Ok(more) = timeout(end - Instant::now(), self.monitor.next()).await {
                        more.ok_or(DaemonError::MonitorEnded)?;
                    }
                    return Ok(());
                }
            }
        }
    }

    /// Pods come and go all day: their links are looked at once, when they appear.
    fn concerns_us(&self, change: Change) -> bool {
        match change {
            Change::Link { index } => {
                self.is_managed(index)
                    || self.is_loopback(index)
                    || self.observed.links.iter().all(|link| link.index != index)
            }
            Change::OnLink { index } => self.is_managed(index) || self.is_loopback(index),
        }
    }

    fn next_wake(&self) -> Instant {
        let now = Instant::now();
        let mut wake = now + SAFETY_LOOK;
        if self.progress.stage() == Stage::Waiting {
            wake = wake.min(self.started + self.progress.deadline());
        }
        if !self.failures.is_empty() {
            wake = wake.min(now + RETRY);
        }
        let ends = [self.router_dns.next_end(now), self.leases.next_end(now)];
        ends.into_iter().flatten().fold(wake, Instant::min)
    }

    fn local(&self) -> Local {
        let address = self
            .progress
            .needs_local_address()
            .then(|| LinkAddress::new(LOCAL_ADDRESS.into(), 32))
            .flatten();
        let settled = self.progress.stage() != Stage::Waiting;
        let routes = if settled && !has_default_route(&self.observed) {
            self.settings.service_networks.clone()
        } else {
            Vec::new()
        };
        Local { address, routes }
    }

    fn local_address_is_there(&self) -> bool {
        self.observed
            .addresses
            .iter()
            .any(|address| address.address.address() == IpAddr::V4(LOCAL_ADDRESS))
    }

    fn node_ip(&self) -> Option<Ipv4Addr> {
        match self.progress.stage() {
            Stage::Settled { node_ip } => Some(node_ip),
            Stage::Waiting | Stage::GoingAlone => None,
        }
    }

    fn is_managed(&self, index: u32) -> bool {
        self.managed_links().any(|link| link.index == index)
    }

    fn is_loopback(&self, index: u32) -> bool {
        let link = self.observed.links.iter().find(|link| link.index == index);
        link.is_some_and(|link| link.kind == LinkKind::Loopback)
    }

    fn managed_links(&self) -> impl Iterator<Item = &Link> {
        self.observed.links.iter().filter(|link| {
            link.kind != LinkKind::Loopback && self.settings.interface(link).is_some()
        })
    }

    fn situations(&self) -> Vec<Situation> {
        let situation = |link: &Link| {
            let what = match self.leases.trouble(link.index) {
                _ if !link.carrier => Obstacle::NoCarrier,
                Some(reason) => Obstacle::Trouble(reason.to_owned()),
                None if wants_dhcp(&self.settings, link) => Obstacle::NoAnswer,
                None => Obstacle::NothingConfigured,
            };
            Situation {
                link: link.name.clone(),
                what,
            }
        };
        self.managed_links().map(situation).collect()
    }
}

fn wants_dhcp(settings: &Settings, link: &Link) -> bool {
    settings
        .interface(link)
        .is_some_and(|interface| interface.dhcp4)
}

/// The same items, each once, in the order of their first appearance.
fn unique<T: PartialEq>(items: impl Iterator<Item = T>) -> Vec<T> {
    let mut unique = Vec::new();
    for item in items {
        if !unique.contains(&item) {
            unique.push(item);
        }
    }
    unique
}
