//! What starts when, and what follows once it is ready.

use std::time::Duration;

use keelson_service::Name;

use super::Supervisor;
use crate::CONFIG_CONDITION;
use crate::action::{Action, RunId};
use crate::service::{Run, Service, State};

impl Supervisor {
    /// Decides on disabled services and starts those that have all they need.
    pub(crate) fn start_what_can(&mut self, now: Duration) {
        if self.shutdown.is_some() {
            return;
        }
        if self.conditions.contains(CONFIG_CONDITION) {
            self.decide_disabled(now);
        }
        let startable: Vec<Name> = self
            .services
            .iter()
            .filter(|(_, service)| {
                matches!(service.state, State::Waiting) && self.missing(service).is_empty()
            })
            .map(|(name, _)| name.clone())
            .collect();
        for name in startable {
            let id = RunId(self.next_run);
            self.next_run += 1;
            if let Some(service) = self.services.get_mut(&name) {
                let run = Run::new(id, now, &service.definition);
                service.starts = service.starts.saturating_add(1);
                service.state = State::Starting { run };
                service.since = now;
            }
            self.actions.push_back(Action::Start {
                service: name,
                run: id,
            });
        }
    }

    fn decide_disabled(&mut self, now: Duration) {
        let facts = &self.facts;
        for (name, service) in &mut self.services {
            let wanted = service
                .definition
                .only
                .iter()
                .all(|(fact, value)| facts.get(fact.as_str()) == Some(value));
            let next = match (&service.state, wanted) {
                (State::Waiting, false) => State::Disabled,
                (State::Disabled, true) => State::Waiting,
                _ => continue,
            };
            service.state = next;
            service.since = now;
            self.actions.push_back(Action::StateChanged {
                service: name.clone(),
            });
        }
    }

    /// What a service waits for.
    pub(super) fn missing(&self, service: &Service) -> Vec<String> {
        let definition = &service.definition;
        let undecided = !definition.only.is_empty() && !self.conditions.contains(CONFIG_CONDITION);
        let services = definition.needs.services.iter().filter(|name| {
            !self
                .services
                .get(*name)
                .is_some_and(Service::satisfies_needs)
        });
        let conditions = definition
            .needs
            .conditions
            .iter()
            .filter(|name| !self.conditions.contains(name.as_str()));
        let mut missing: Vec<String> = services.chain(conditions).map(Name::to_string).collect();
        if undecided && !missing.iter().any(|name| name == CONFIG_CONDITION) {
            missing.push(CONFIG_CONDITION.to_owned());
        }
        missing
    }

    pub(super) fn became_ready(&mut self, name: &Name, now: Duration) {
        let Some(service) = self.services.get_mut(name) else {
            return;
        };
        let State::Starting { mut run } = std::mem::replace(&mut service.state, State::Waiting)
        else {
            return;
        };
        run.ready_at = Some(now);
        run.probe = Self::first_check(service, now);
        run.watchdog_at = service
            .definition
            .watchdog_seconds
            .map(|seconds| now + Duration::from_secs(seconds.into()));
        service.state = State::Ready { run };
        service.since = now;
        let first = !std::mem::replace(&mut service.was_ready, true);
        if first {
            self.stamp(name.as_str());
        }
        self.changed(name);
        self.start_what_can(now);
    }
}
