//! Certificates and what goes with them: for apid, for the cluster.

use std::collections::BTreeMap;

use keelson_config::NodeConfig;
use keelson_control::{AsyncClient, Level, Status, chain};
use keelson_pki::{ApiFacts, NodeFacts};
use tokio::time::Instant;

use super::converge::{has, node_name};
use super::{Daemon, DaemonError, Machine, RETRY};
use crate::certificates::api::Access;
use crate::certificates::{self, inventory};
use crate::facts::Facts;
use crate::host_port;

impl<M: Machine> Daemon<'_, M> {
    /// Brings what apid reads up to date and lets it start; says whether it may.
    pub(super) async fn keep_api(
        &mut self,
        control: &mut AsyncClient,
        config: &NodeConfig,
        access: Access<'_>,
        status: &Status,
    ) -> Result<bool, DaemonError> {
        let paths = &self.parts.paths;
        // An authority that is made by a wrong clock may be of no use by the right one.
        let clock = self.time_is_settled(status) || certificates::api::has_authority(paths);
        if !self.network_is_settled(status) || !clock {
            return Ok(has(status, "api"));
        }
        let facts = ApiFacts {
            node_name: node_name(config, &self.id),
            addresses: self.callable(status).into_iter().collect(),
            host: host_port::is_offered(paths).then(host_port::person),
        };
        let now = self.parts.machine.now();
        match certificates::api::bring_up(paths, &facts, access, now) {
            Ok(api) => {
                self.told.remove("api");
                self.api_inventory = inventory::of_api(&api, access.client_authorities);
                let context = host_port::context(&api);
                self.parts.context.send_if_modified(|known| {
                    let changed = *known != context;
                    *known = context;
                    changed
                });
                self.api = Some(api);
                control.set(BTreeMap::new(), &["api"]).await?;
                Ok(true)
            }
            Err(error) => {
                self.retry = Some(Instant::now() + RETRY);
                let text = format!("node API: {}", chain(&error));
                self.tell(control, Level::Error, "api", &text).await;
                Ok(false)
            }
        }
    }

    /// apid must know at once that a node has left maintenance.
    pub(super) async fn keep_access(&mut self, control: &mut AsyncClient) {
        if self.api.is_none() {
            return;
        }
        if let Err(error) = certificates::api::publish_access(&self.parts.paths, false) {
            let text = format!("node API: {}", chain(&error));
            self.tell(control, Level::Error, "api", &text).await;
        }
    }

    /// Says whether the cluster may start.
    pub(super) async fn keep_cluster_certificates(
        &mut self,
        control: &mut AsyncClient,
        node: &NodeFacts,
        facts: &Facts,
    ) -> Result<bool, DaemonError> {
        let now = self.parts.machine.now();
        match certificates::bring_up(&self.parts.paths, node, facts, now) {
            Ok(done) => {
                self.told.remove("pki");
                self.cluster_inventory = done.inventory;
                self.restarts.extend(done.restarts);
                self.parts.kubeconfig.send_if_modified(|known| {
                    let kubeconfig = Some(done.kubeconfig);
                    let changed = *known != kubeconfig;
                    *known = kubeconfig;
                    changed
                });
                control.set(BTreeMap::new(), &["pki"]).await?;
                Ok(true)
            }
            Err(error) => {
                self.retry = Some(Instant::now() + RETRY);
                let text = format!("certificates: {}", chain(&error));
                self.tell(control, Level::Error, "pki", &text).await;
                Ok(false)
            }
        }
    }
}
