//! The course of events: from STATE being mounted to a cluster that may start.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::IpAddr;
use std::time::Duration;

use keelson_config::{EmitError, MachineId, NodeConfig};
use keelson_control::{AsyncClient, ClientError, Event, Level, chain};
use time::OffsetDateTime;
use tokio::sync::watch;
use tokio::time::timeout;

use crate::certificates::{self, CertificatesError};
use crate::configuration::{self, ConfigurationError, Firmware};
use crate::console::say;
use crate::facts::{self, Facts, ServiceNetworkTooSmall};
use crate::machine_id::{self, MachineIdError};
use crate::paths::Paths;
use crate::render::{self, RenderError};
use crate::source::{Choice, choose};

/// How often a node without a usable configuration looks for a corrected one. The partition is
/// small and the file a few kilobytes.
const MAINTENANCE_INTERVAL: Duration = Duration::from_secs(30);

/// netd reports after 30 s at the latest; a busy machine may take it longer.
const NETWORK_DEADLINE: Duration = Duration::from_secs(90);

/// netd reports 10 s after the network at the latest.
const TIME_DEADLINE: Duration = Duration::from_secs(40);

/// Certificates last a year; but a clock that was wrong at boot may jump past their end, and
/// looking costs milliseconds.
const RENEWAL_INTERVAL: Duration = Duration::from_secs(3600);

/// machined cannot go on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DaemonError {
    /// The PKI could not be brought up to date.
    #[error(transparent)]
    Certificates(#[from] CertificatesError),
    /// The stored configuration is out of reach.
    #[error(transparent)]
    Configuration(#[from] ConfigurationError),
    /// PID 1 does not answer.
    #[error("PID 1 does not do what it is asked")]
    Control(#[from] ClientError),
    /// PID 1 ended the stream of events.
    #[error("PID 1 closed the stream of events")]
    EventsEnded,
    /// The configuration cannot be handed to others.
    #[error(transparent)]
    Emit(#[from] EmitError),
    /// The kernel refused the host name.
    #[error("cannot set the host name {name:?}")]
    HostName {
        name: String,
        #[source]
        source: rustix::io::Errno,
    },
    /// The machine id could not be had.
    #[error(transparent)]
    MachineId(#[from] MachineIdError),
    /// netd reported something that is no address.
    #[error("netd reported {0:?} as the node's address")]
    NodeAddress(String),
    /// A file could not be made.
    #[error(transparent)]
    Render(#[from] RenderError),
    /// The configuration's service network is too small.
    #[error(transparent)]
    ServiceNetwork(#[from] ServiceNetworkTooSmall),
}

/// Whether the kernel is told the host name; tests leave the machine they run on alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HostName {
    Set,
    #[cfg(test)]
    Leave,
}

/// What the daemon works with.
pub(crate) struct Daemon<'a> {
    pub(crate) paths: Paths,
    pub(crate) firmware: &'a dyn Firmware,
    pub(crate) host_name: HostName,
    pub(crate) kubeconfig: watch::Sender<Option<String>>,
    pub(crate) maintenance_interval: Duration,
}

impl<'a> Daemon<'a> {
    pub(crate) fn new(
        paths: Paths,
        firmware: &'a dyn Firmware,
        kubeconfig: watch::Sender<Option<String>>,
    ) -> Self {
        Self {
            paths,
            firmware,
            host_name: HostName::Set,
            kubeconfig,
            maintenance_interval: MAINTENANCE_INTERVAL,
        }
    }

    /// Runs until something fails. Every step may be repeated: after a crash PID 1 starts the
    /// daemon again, and whatever is in place already stays as it is.
    pub(crate) async fn run(&self, control: &mut AsyncClient) -> Result<Infallible, DaemonError> {
        let id = machine_id::load_or_make(&self.paths.machine_id())?;
        let config = self
            .settle_configuration(control, &id)
            .await?
            .effective(&id);
        let node_name = node_name(&config, &id);
        let mut facts = facts::from_config(&config, &node_name, &id)?;
        self.publish_identity(&config, &node_name, &id)?;
        control
            .set(facts.clone(), &["network-config", "config"])
            .await?;

        self.forget_old_pod_network(control).await?;
        self.render(&render::early(&config.registries), &facts)?;
        control.set(BTreeMap::new(), &["rendered-early"]).await?;

        let node_ip = self.wait_for_address(control).await?;
        self.wait_for_time(control).await?;
        facts.insert("node-ip".to_owned(), node_ip.clone());
        self.publish_hosts(&node_name, primary(&node_ip))?;
        self.render(&render::late(), &facts)?;
        let node = facts::for_certificates(&config, &node_name, addresses(&node_ip)?)?;
        loop {
            let kubeconfig =
                certificates::bring_up(&self.paths, &node, &facts, OffsetDateTime::now_utc())?;
            self.kubeconfig.send_if_modified(|known| {
                let kubeconfig = Some(kubeconfig);
                let changed = *known != kubeconfig;
                *known = kubeconfig;
                changed
            });
            control.set(BTreeMap::new(), &["pki"]).await?;
            tokio::time::sleep(RENEWAL_INTERVAL).await;
        }
    }

    /// Finds the configuration that holds; without a usable one the node stays here, with its
    /// network up, until a person feeds it a good one.
    async fn settle_configuration(
        &self,
        control: &mut AsyncClient,
        id: &MachineId,
    ) -> Result<NodeConfig, DaemonError> {
        let conditions = control.status().await?.conditions;
        let raised = |name: &str| conditions.iter().any(|condition| condition == name);
        // This boot has settled already; a file put on the firmware partition since is for the
        // next one.
        let candidates = if raised("config") {
            configuration::stored(&self.paths)?
        } else {
            configuration::gather(&self.paths, self.firmware)?
        };
        let mut choice = choose(candidates);
        let mut waiting = raised("maintenance");
        let mut told = String::new();
        loop {
            let error = match choice {
                Choice::Maintenance(error) => error,
                Choice::Defaults => {
                    let text = "configuration: none given, the defaults hold";
                    say(control, Level::Info, text).await;
                    break self
                        .leave_maintenance(control, waiting, NodeConfig::default_for(id))
                        .await;
                }
                Choice::Stored { config, refused } => {
                    if let Some(error) = refused {
                        let text = format!(
                            "configuration: the one in use stays, this one is refused: {}",
                            error.report()
                        );
                        say(control, Level::Error, &text).await;
                    }
                    break self.leave_maintenance(control, waiting, config).await;
                }
                Choice::Import { config, found } => {
                    configuration::import(&self.paths, &found)?;
                    let text = "configuration: keelson.yaml from the firmware partition is in use";
                    say(control, Level::Info, text).await;
                    break self.leave_maintenance(control, waiting, config).await;
                }
            };
            let report = error.report();
            if told != report {
                say(control, Level::Error, &format!("configuration: {report}")).await;
                say(control, Level::Error, HOW_TO_FEED).await;
                told = report;
            }
            if !waiting {
                self.enter_maintenance(control, id).await?;
                waiting = true;
            }
            tokio::time::sleep(self.maintenance_interval).await;
            choice = choose(configuration::gather(&self.paths, self.firmware)?);
        }
    }

    /// The network comes up with defaults, so that the node can be seen.
    async fn enter_maintenance(
        &self,
        control: &mut AsyncClient,
        id: &MachineId,
    ) -> Result<(), DaemonError> {
        let config = NodeConfig::default_for(id);
        self.publish_identity(&config, &node_name(&config, id), id)?;
        control
            .set(BTreeMap::new(), &["network-config", "maintenance"])
            .await?;
        Ok(())
    }

    /// netd starts again with the network of the new configuration, and so does the wait for it.
    async fn leave_maintenance(
        &self,
        control: &mut AsyncClient,
        waiting: bool,
        config: NodeConfig,
    ) -> Result<NodeConfig, DaemonError> {
        if waiting {
            let config_text = config.to_yaml()?;
            render::publish(&self.paths.node_config(), &config_text)?;
            control.clear(&["maintenance", "network", "time"]).await?;
            let no_address = BTreeMap::from([("node-ip".to_owned(), String::new())]);
            control.set(no_address, &[]).await?;
            control.restart("netd").await?;
        }
        Ok(config)
    }

    fn publish_identity(
        &self,
        config: &NodeConfig,
        node_name: &str,
        id: &MachineId,
    ) -> Result<(), DaemonError> {
        render::publish(&self.paths.node_config(), &config.to_yaml()?)?;
        render::publish(&self.paths.etc("machine-id"), &format!("{}\n", id.as_str()))?;
        render::publish(&self.paths.etc("hostname"), &format!("{node_name}\n"))?;
        // Until the address is known, the name leads to the node itself, as on Debian.
        self.publish_hosts(node_name, "127.0.1.1")?;
        link_resolv_conf(&self.paths)?;
        match self.host_name {
            HostName::Set => rustix::system::sethostname(node_name.as_bytes()).map_err(|source| {
                DaemonError::HostName {
                    name: node_name.to_owned(),
                    source,
                }
            }),
            #[cfg(test)]
            HostName::Leave => Ok(()),
        }
    }

    fn publish_hosts(&self, node_name: &str, address: &str) -> Result<(), RenderError> {
        let facts = BTreeMap::from([
            ("node-name".to_owned(), node_name.to_owned()),
            ("own-address".to_owned(), address.to_owned()),
        ]);
        let hosts = render::fill(&self.paths.templates(), "hosts", &facts)?;
        render::publish(&self.paths.etc("hosts"), &hosts)
    }

    fn render(&self, renderings: &[render::Rendering], facts: &Facts) -> Result<(), RenderError> {
        let (templates, rendered) = (self.paths.templates(), self.paths.rendered());
        renderings
            .iter()
            .try_for_each(|rendering| render::render(&templates, &rendered, rendering, facts))
    }

    /// containerd fills its template only while there is no network configuration, so the one of
    /// an earlier boot would stay in force whatever the template or the pod network became. Once
    /// containerd runs it is not touched: kubelet does not send the pod network again.
    async fn forget_old_pod_network(&self, control: &mut AsyncClient) -> Result<(), DaemonError> {
        let conditions = control.status().await?.conditions;
        if conditions.iter().any(|name| name == "rendered-early") {
            return Ok(());
        }
        match std::fs::remove_file(self.paths.old_pod_network()) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                // Worth a line, not a node without a cluster.
                tracing::warn!("cannot remove the pod network of the last boot: {error}");
            }
            _ => {}
        }
        Ok(())
    }

    /// Without an address there is nothing to make certificates for: past the deadline the
    /// person at the console learns what the node waits for.
    async fn wait_for_address(&self, control: &mut AsyncClient) -> Result<String, DaemonError> {
        if let Ok(raised) = timeout(NETWORK_DEADLINE, self.wait_for("network")).await {
            raised?;
        } else {
            let text = "network: netd has not reported an address in 90 s; the cluster starts when \
                        it does, see the log of netd for what keeps it";
            say(control, Level::Error, text).await;
            self.wait_for("network").await?;
        }
        let mut facts = control.status().await?.facts;
        Ok(facts.remove("node-ip").unwrap_or_default())
    }

    async fn wait_for_time(&self, control: &mut AsyncClient) -> Result<(), DaemonError> {
        if let Ok(raised) = timeout(TIME_DEADLINE, self.wait_for("time")).await {
            return raised;
        }
        let text =
            "time: netd has not reported the time; certificates are made by the clock as it is";
        say(control, Level::Warn, text).await;
        Ok(())
    }

    /// A subscription starts with what already holds.
    async fn wait_for(&self, condition: &str) -> Result<(), DaemonError> {
        let mut events = AsyncClient::connect_to(&self.paths.control_socket())
            .await?
            .subscribe()
            .await?;
        loop {
            match events.next().await.ok_or(DaemonError::EventsEnded)?? {
                Event::Condition { name, raised: true } if name == condition => return Ok(()),
                _ => {}
            }
        }
    }
}

/// What a person can do about a broken configuration.
const HOW_TO_FEED: &str = "configuration: the node waits in maintenance mode, without Kubernetes. Put a \
     corrected keelson.yaml on the first partition (FAT) of its disk; it is read again every 30 s \
     and at every start";

/// The last words of a daemon that gives up.
pub(crate) async fn report(control: &mut AsyncClient, error: &DaemonError) {
    say(
        control,
        Level::Error,
        &format!("machined: {}", chain(error)),
    )
    .await;
}

fn node_name(config: &NodeConfig, id: &MachineId) -> String {
    config.hostname.as_ref().map_or_else(
        || keelson_config::Hostname::for_machine(id).to_string(),
        ToString::to_string,
    )
}

/// netd writes it; `/etc/resolv.conf` leads to the link made here.
fn link_resolv_conf(paths: &Paths) -> Result<(), RenderError> {
    let link = paths.etc("resolv.conf");
    match std::os::unix::fs::symlink("/run/keelson/netd/resolv.conf", &link) {
        Err(source) if source.kind() != std::io::ErrorKind::AlreadyExists => {
            Err(RenderError::Folder { path: link, source })
        }
        _ => Ok(()),
    }
}

/// Both families, separated by a comma, the primary one first.
fn addresses(node_ip: &str) -> Result<Vec<IpAddr>, DaemonError> {
    node_ip
        .split(',')
        .map(|address| {
            address
                .parse()
                .map_err(|_| DaemonError::NodeAddress(node_ip.to_owned()))
        })
        .collect()
}

fn primary(node_ip: &str) -> &str {
    node_ip.split(',').next().unwrap_or(node_ip)
}

#[cfg(test)]
mod tests;
