//! Running services: their limits, and which of them have to start again.

use std::collections::BTreeMap;

use keelson_config::NodeConfig;
use keelson_control::{AsyncClient, ClientError, Level, ServiceState, Status};

use super::{Daemon, DaemonError, Machine};
use crate::configuration::programs;
use crate::facts::Facts;

impl<M: Machine> Daemon<'_, M> {
    pub(super) async fn limit(
        &mut self,
        control: &mut AsyncClient,
        config: &NodeConfig,
    ) -> Result<(), DaemonError> {
        let limits = programs::limits(config);
        if self.limits.as_ref() == Some(&limits) {
            return Ok(());
        }
        match control.limit(limits.clone()).await {
            Ok(()) => self.limits = Some(limits),
            Err(ClientError::Refused { reason }) => {
                let text =
                    format!("configuration: the limits of services are not in force: {reason}");
                self.tell(control, Level::Error, "limits", &text).await;
            }
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    /// Services that run with another command line than they would get now, or with a pair they
    /// do not read again, start again, one after the other.
    pub(super) async fn restart_what_differs(
        &mut self,
        control: &mut AsyncClient,
        facts: &Facts,
        status: &Status,
    ) -> Result<(), DaemonError> {
        let runs = |name: &str| {
            status.services.iter().any(|service| {
                service.name == name
                    && matches!(service.state, ServiceState::Ready | ServiceState::Starting)
            })
        };
        let mut due: BTreeMap<String, String> = std::mem::take(&mut self.restarts)
            .into_iter()
            .map(|name| (name.to_owned(), "it has a new certificate".to_owned()))
            .collect();
        let mut all = status.facts.clone();
        all.extend(facts.clone());
        for (name, command) in self.programs.commands(&all) {
            if !runs(&name) || self.restarted.get(&name) == Some(&command) {
                continue;
            }
            if control.describe(&name).await?.command != command {
                due.insert(name.clone(), "its command line has changed".to_owned());
                self.restarted.insert(name, command);
            }
        }
        for (name, why) in due.into_iter().filter(|(name, _)| runs(name)) {
            tracing::info!("{name} starts again: {why}");
            match control.restart(&name).await {
                Err(ClientError::Refused { reason }) => tracing::warn!("{name}: {reason}"),
                other => other?,
            }
        }
        Ok(())
    }
}
