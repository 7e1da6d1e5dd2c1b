//! Everything about one service, for people who ask.

use keelson_control::ServiceDetail;
use keelson_service::{Name, ServiceDefinition};

use crate::limits;
use crate::node::Node;

impl Node {
    /// `None` when there is no service of that name.
    pub(crate) fn describe(&self, service: &str) -> Option<ServiceDetail> {
        let definition = self.supervisor.definition(service)?;
        let mut status = self.supervisor.status(service)?;
        status.last_lines = self.logs.last_lines(service);
        let (user, group) = self.identity(definition);
        let words = |names: &[Name]| names.iter().map(Name::to_string).collect();
        let running = self.mains.get(service).map(|main| main.command.clone());
        Some(ServiceDetail {
            status,
            description: definition.description.clone(),
            command: running.unwrap_or_else(|| definition.command.clone()),
            user,
            group,
            needs_services: words(&definition.needs.services),
            needs_conditions: words(&definition.needs.conditions),
            only: definition
                .only
                .iter()
                .map(|(fact, value)| (fact.to_string(), value.clone()))
                .collect(),
            readiness: definition.readiness_in_words(),
            liveness: definition.liveness_in_words(),
            restart_policy: definition.restart_policy_in_words(),
            oom_score_adj: definition.oom_score_adj,
            limits: limits::to_wire(&self.resources(service)),
            exits: self.history.of(service),
        })
    }

    /// Names of the user and the group it runs as.
    fn identity(&self, definition: &ServiceDefinition) -> (String, String) {
        let accounts = self.launcher.accounts();
        let user = definition.user.clone().unwrap_or_else(|| "root".to_owned());
        let group = definition.group.clone().unwrap_or_else(|| {
            let gid = accounts.user(&user).map_or(0, |user| user.gid);
            accounts
                .group_name(gid)
                .map_or_else(|| gid.to_string(), str::to_owned)
        });
        (user, group)
    }
}
