//! Brings the node in line with its configuration. Every step may be repeated.

use std::collections::BTreeMap;
use std::net::IpAddr;

use keelson_config::{MachineId, NodeConfig};
use keelson_control::{AsyncClient, Level, Status};
use serde_json::json;
use tokio::time::Instant;

use super::{Daemon, DaemonError, Machine, NETWORK_DEADLINE, Stage, Summary, TIME_DEADLINE};
use crate::certificates::api::Access;
use crate::facts::{self, Facts};
use crate::paths::Paths;
use crate::render::{self, RenderError};

/// The address netd gives to a node that found no network: nobody outside can use it.
const ALONE: &str = "198.18.0.1";

impl<M: Machine> Daemon<'_, M> {
    /// Does whatever can be done now.
    pub(super) async fn converge(&mut self, control: &mut AsyncClient) -> Result<(), DaemonError> {
        self.retry = None;
        if self.looks_for_configuration() {
            self.look_for_configuration(control).await?;
        }
        self.end_trial_in_time(control).await;
        let status = control.status().await?;
        self.facts.clone_from(&status.facts);
        self.follow_network(control, &status).await;
        match self.stage {
            Stage::Maintenance { .. } => self.keep_waiting(control, &status).await?,
            Stage::Running(_) => self.keep_running(control, &status).await?,
        }
        self.summarize(&status);
        Ok(())
    }

    async fn keep_running(
        &mut self,
        control: &mut AsyncClient,
        status: &Status,
    ) -> Result<(), DaemonError> {
        let Stage::Running(running) = &self.stage else {
            return Ok(());
        };
        let config = running.in_force();
        let name = running.host_name.to_string();
        let mut facts = facts::from_config(&config, &name, &self.id)?;
        self.publish_identity(&config, status)?;
        let network_changed = self.start_network(control, &config, status).await?;
        control
            .set(facts.clone(), &["network-config", "config"])
            .await?;
        self.forget_old_pod_network(status);
        let mirrors = render::early(&config.registries);
        render::remove_other_mirrors(&self.parts.paths.rendered(), &mirrors)?;
        self.render(&mirrors, &facts)?;
        control.set(BTreeMap::new(), &["rendered-early"]).await?;
        self.limit(control, &config).await?;
        if network_changed {
            // netd reports soon, and that is news. The rest is for then.
            self.keep_access(control).await;
            return self.forget_trial();
        }
        let access = Access {
            maintenance: false,
            client_authorities: &config.api.client_authorities,
        };
        self.keep_api(control, &config, access, status).await?;
        if self.network_is_settled(status) && self.time_is_settled(status) {
            let node_ip = self.cluster_address(status)?;
            facts.insert("node-ip".to_owned(), node_ip.clone());
            self.render(&render::late(), &facts)?;
            let node = facts::for_certificates(&config, &name, addresses(&node_ip)?)?;
            if self
                .keep_cluster_certificates(control, &node, &facts)
                .await?
            {
                self.restart_what_differs(control, &facts, status).await?;
            }
        }
        self.forget_trial()
    }

    /// What everyone on the node reads.
    pub(super) fn publish_identity(
        &self,
        config: &NodeConfig,
        status: &Status,
    ) -> Result<(), DaemonError> {
        let paths = &self.parts.paths;
        let name = node_name(config, &self.id);
        render::publish(&paths.node_config(), &config.to_yaml()?)?;
        render::publish(&paths.etc("machine-id"), &format!("{}\n", self.id.as_str()))?;
        render::publish(&paths.etc("hostname"), &format!("{name}\n"))?;
        let node_ip = status.facts.get("node-ip").map_or("", String::as_str);
        let own_address = match node_ip.split(',').next() {
            Some(address) if has(status, "network") && !address.is_empty() => address,
            // Until the address is known, the name leads to the node itself, as on Debian.
            _ => "127.0.1.1",
        };
        self.publish_hosts(&name, own_address)?;
        link_resolv_conf(paths)?;
        let set = self.parts.machine.set_host_name(&name);
        set.map_err(|source| DaemonError::HostName { name, source })
    }

    fn publish_hosts(&self, node_name: &str, address: &str) -> Result<(), RenderError> {
        let paths = &self.parts.paths;
        let facts = BTreeMap::from([
            ("node-name".to_owned(), node_name.to_owned()),
            ("own-address".to_owned(), address.to_owned()),
        ]);
        let hosts = render::fill(&paths.templates(), "hosts", &facts)?;
        render::publish(&paths.etc("hosts"), &hosts)
    }

    /// Lets netd start, or starts it again when it runs with other settings; says whether it did.
    /// The note of what it runs with comes last, so that nothing is lost in between.
    pub(super) async fn start_network(
        &mut self,
        control: &mut AsyncClient,
        config: &NodeConfig,
        status: &Status,
    ) -> Result<bool, DaemonError> {
        let path = self.parts.paths.network_in_force();
        let settings = json!({
            "hostname": config.hostname,
            "network": config.network,
            // Their route must exist where no other leads out.
            "serviceCIDR": config.cluster.service_cidr,
        })
        .to_string();
        let same = std::fs::read(&path).is_ok_and(|text| text == settings.as_bytes());
        let changed = has(status, "network-config") && !same;
        if changed {
            let mut stale = vec!["network"];
            // The clock is settled once per boot, by the servers of the configuration.
            if !has(status, "config") {
                stale.push("time");
            }
            // In one step: the netd that ends knows the old settings, and what it says of them
            // must not be taken for the new one's word.
            control.restart_and_clear("netd", &stale).await?;
            self.network_since = None;
            self.begun = Instant::now();
        }
        let leaves_maintenance =
            has(status, "maintenance") && matches!(self.stage, Stage::Running(_));
        if leaves_maintenance {
            control.clear(&["maintenance"]).await?;
        }
        render::publish(&path, &settings)?;
        Ok(changed)
    }

    /// The node's address as the cluster knows it. A node that loses its network keeps it.
    fn cluster_address(&self, status: &Status) -> Result<String, RenderError> {
        let path = self.parts.paths.cluster_address();
        let reported = status.facts.get("node-ip").cloned().unwrap_or_default();
        if reported == ALONE
            && let Ok(before) = std::fs::read_to_string(&path)
        {
            return Ok(before);
        }
        render::publish(&path, &reported)?;
        Ok(reported)
    }

    fn render(&self, renderings: &[render::Rendering], facts: &Facts) -> Result<(), RenderError> {
        let paths = &self.parts.paths;
        let (templates, rendered) = (paths.templates(), paths.rendered());
        renderings
            .iter()
            .try_for_each(|rendering| render::render(&templates, &rendered, rendering, facts))
    }

    /// containerd fills its template only while there is no network configuration, so the one of
    /// an earlier boot would stay in force whatever the template or the pod network became. Once
    /// containerd runs it is not touched: kubelet does not send the pod network again.
    fn forget_old_pod_network(&self, status: &Status) {
        if has(status, "rendered-early") {
            return;
        }
        match std::fs::remove_file(self.parts.paths.old_pod_network()) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                // Worth a line, not a node without a cluster.
                tracing::warn!("cannot remove the pod network of the last boot: {error}");
            }
            _ => {}
        }
    }

    /// Without an address there is nothing to make certificates for: past the deadline the
    /// person at the console learns what the node waits for.
    async fn follow_network(&mut self, control: &mut AsyncClient, status: &Status) {
        if has(status, "time") {
            self.told.remove("time");
        }
        if self.network_is_settled(status) {
            self.told.remove("network");
            let since = *self.network_since.get_or_insert_with(Instant::now);
            if !has(status, "time") && since + TIME_DEADLINE <= Instant::now() {
                let text = "time: netd has not reported the time; certificates are made by the \
                            clock as it is";
                self.tell(control, Level::Warn, "time", text).await;
            }
        } else if self.begun + NETWORK_DEADLINE <= Instant::now() {
            let text = "network: netd has not reported an address in 90 s; the cluster starts when \
                        it does, see the log of netd for what keeps it";
            self.tell(control, Level::Error, "network", text).await;
        }
    }

    pub(super) fn network_is_settled(&self, status: &Status) -> bool {
        has(status, "network")
    }

    /// netd has set the clock, or has had its time to.
    pub(super) fn time_is_settled(&self, status: &Status) -> bool {
        has(status, "time")
            || self
                .network_since
                .is_some_and(|since| since + TIME_DEADLINE <= Instant::now())
    }

    /// Addresses the node API can be called by, the node's own one first.
    pub(super) fn callable(&self, status: &Status) -> Vec<IpAddr> {
        let node_ip = status.facts.get("node-ip").map_or("", String::as_str);
        let mut addresses: Vec<IpAddr> = node_ip
            .split(',')
            .filter(|address| has(status, "network") && *address != ALONE)
            .filter_map(|address| address.parse().ok())
            .collect();
        for address in self.parts.machine.addresses() {
            if !addresses.contains(&address) {
                addresses.push(address);
            }
        }
        addresses
    }

    fn summarize(&self, status: &Status) {
        let summary = Summary {
            maintenance: matches!(self.stage, Stage::Maintenance { .. }),
            node_name: match &self.stage {
                Stage::Maintenance { .. } => {
                    keelson_config::Hostname::for_machine(&self.id).to_string()
                }
                Stage::Running(running) => running.host_name.to_string(),
            },
            machine_id: self.id.as_str().to_owned(),
            addresses: self.callable(status),
            trial_until: self.trial_until(),
        };
        self.parts.inbox.summary.send_if_modified(|known| {
            let changed = *known != summary;
            *known = summary;
            changed
        });
    }
}

pub(super) fn has(status: &Status, condition: &str) -> bool {
    status.conditions.iter().any(|name| name == condition)
}

pub(super) fn node_name(config: &NodeConfig, id: &MachineId) -> String {
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
