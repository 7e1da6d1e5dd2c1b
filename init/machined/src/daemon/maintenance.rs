//! A node without a usable configuration: its network by defaults, its API for one call.

use std::collections::BTreeMap;
use std::net::IpAddr;

use keelson_config::NodeConfig;
use keelson_control::{AsyncClient, Level, Status};
use tokio::time::Instant;

use super::words::{HOW_TO_FEED, invitation};
use super::{Daemon, DaemonError, Machine, Stage};
use crate::certificates::api::Access;
use crate::console::show;

impl<M: Machine> Daemon<'_, M> {
    /// Keeps the node reachable, and looks for a configuration when it is time.
    pub(super) async fn keep_waiting(
        &mut self,
        control: &mut AsyncClient,
        status: &Status,
    ) -> Result<(), DaemonError> {
        let config = NodeConfig::default_for(&self.id);
        self.publish_identity(&config, status)?;
        let network_changed = self.start_network(control, &config, status).await?;
        control
            .set(BTreeMap::new(), &["network-config", "maintenance"])
            .await?;
        self.explain_problem(control).await;
        if network_changed {
            // netd reports soon, and that is news.
            return Ok(());
        }
        let access = Access {
            maintenance: true,
            client_authorities: &[],
        };
        if !self.keep_api(control, &config, access, status).await? {
            return Ok(());
        }
        if self.code.borrow_and_update().is_none() {
            let gate = &self.parts.inbox.gate;
            gate.open().map_err(DaemonError::Random)?;
        }
        self.invite(control, status).await;
        Ok(())
    }

    /// Whether the firmware partition is to be read again now.
    pub(super) fn looks_for_configuration(&self) -> bool {
        match &self.stage {
            Stage::Maintenance { look_again, .. } => *look_again <= Instant::now(),
            Stage::Running(_) => false,
        }
    }

    async fn explain_problem(&mut self, control: &mut AsyncClient) {
        let Stage::Maintenance { problem, .. } = &self.stage else {
            return;
        };
        let text = match problem {
            Some(report) => format!("configuration: {report}\n{HOW_TO_FEED}"),
            None => format!("configuration: none was given\n{HOW_TO_FEED}"),
        };
        let level = if problem.is_some() {
            Level::Error
        } else {
            Level::Warn
        };
        self.tell(control, level, "configuration", &text).await;
    }

    /// Shows the code to the person at the console, and to nobody else: no log has it.
    async fn invite(&mut self, control: &mut AsyncClient, status: &Status) {
        let (Some(api), Some(code)) = (&self.api, self.code.borrow_and_update().clone()) else {
            return;
        };
        let fingerprint = keelson_pki::summary(api.authority.certificate_pem().as_bytes())
            .map(|summary| summary.fingerprint)
            .unwrap_or_default();
        let addresses: Vec<IpAddr> = self.callable(status);
        let lines = invitation(&addresses, &fingerprint, &code.text());
        let text = lines.join("\n");
        if self.told.get("invitation") != Some(&text) {
            for line in &lines {
                show(control, line).await;
            }
            self.told.insert("invitation", text);
        }
    }
}
