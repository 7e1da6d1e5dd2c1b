//! One DHCPv4 client per link, as a task that lives while the link has a carrier.

use std::future::Future;
use std::time::Duration;

use mozim::{DhcpError, DhcpV4Client, DhcpV4Config, DhcpV4State};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::lease::{BadLease, Lease};
use crate::model::Link;

/// A server confirms what it offered at once. The client library would ask the same server for
/// ever, so a refusal (which it does not see) or a silent server must end in a new search.
const CONFIRM_DEADLINE: Duration = Duration::from_secs(10);

/// After an error: long enough not to flood the network, short enough for a person watching.
const RETRY_DELAY: Duration = Duration::from_secs(10);

/// What a client tells the daemon.
#[derive(Debug)]
pub(crate) struct Notice {
    pub(crate) link: u32,
    pub(crate) news: News,
}

/// What happened to a lease.
#[derive(Debug)]
pub(crate) enum News {
    /// Granted or renewed.
    Bound(Box<Lease>),
    /// Its time is over and nobody renewed it.
    Expired,
    /// Nothing usable came; the client goes on.
    Trouble(DhcpTrouble),
}

/// Why a link has no lease.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DhcpTrouble {
    #[error("the DHCP client failed")]
    Client(#[source] DhcpError),
    #[error("the DHCP server's answer cannot be used")]
    BadLease(#[source] BadLease),
    #[error("the DHCP server made an offer and then did not confirm it")]
    NotConfirmed,
}

/// A running client; it ends when this is dropped.
#[derive(Debug)]
pub(crate) struct DhcpClient {
    task: JoinHandle<()>,
}

impl DhcpClient {
    /// `None` for links that have no Ethernet address: DHCP needs one.
    pub(crate) fn start(
        link: &Link,
        host_name: &str,
        notices: mpsc::Sender<Notice>,
    ) -> Option<Self> {
        let mut config = DhcpV4Config::new(&link.name);
        config.set_iface_index(link.index);
        config.set_iface_mac_raw(&link.mac?).ok()?;
        config.use_mac_as_client_id();
        if !host_name.is_empty() {
            config.set_host_name(host_name);
        }
        let task = tokio::spawn(run(config, link.index, notices));
        Some(Self { task })
    }
}

impl Drop for DhcpClient {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn run(config: DhcpV4Config, link: u32, notices: mpsc::Sender<Notice>) {
    loop {
        let trouble = follow_leases(&config, link, &notices).await;
        let news = News::Trouble(trouble);
        if notices.send(Notice { link, news }).await.is_err() {
            return;
        }
        tokio::time::sleep(RETRY_DELAY).await;
    }
}

/// Gets a lease and keeps it; returns when it has to start anew.
async fn follow_leases(
    config: &DhcpV4Config,
    link: u32,
    notices: &mpsc::Sender<Notice>,
) -> DhcpTrouble {
    let mut client = match DhcpV4Client::init(config.clone(), None).await {
        Ok(client) => client,
        Err(error) => return DhcpTrouble::Client(error),
    };
    let mut bound = false;
    let mut offered = false;
    loop {
        let state = match step(client.run(), offered).await {
            Ok(state) => state,
            Err(trouble) => return trouble,
        };
        offered = state == DhcpV4State::Selecting;
        let news = match state {
            DhcpV4State::Done(offer) => match Lease::try_from(&*offer) {
                Ok(lease) => {
                    bound = true;
                    News::Bound(Box::new(lease))
                }
                Err(error) => return DhcpTrouble::BadLease(error),
            },
            DhcpV4State::InitReboot if bound => {
                bound = false;
                News::Expired
            }
            DhcpV4State::InitReboot
            | DhcpV4State::Rebinding
            | DhcpV4State::Renewing
            | DhcpV4State::Selecting => continue,
        };
        // The daemon is gone only when the whole process ends.
        let _ = notices.send(Notice { link, news }).await;
    }
}

async fn step(
    run: impl Future<Output = Result<DhcpV4State, DhcpError>>,
    offered: bool,
) -> Result<DhcpV4State, DhcpTrouble> {
    if !offered {
        return run.await.map_err(DhcpTrouble::Client);
    }
    match tokio::time::timeout(CONFIRM_DEADLINE, run).await {
        Ok(result) => result.map_err(DhcpTrouble::Client),
        Err(_) => Err(DhcpTrouble::NotConfirmed),
    }
}
