//! The end of everything: reverse order of needs, each with its deadline, all with one.

use std::time::Duration;

use keelson_control::Level;
use keelson_service::Name;

use crate::action::{Action, Reason};
use crate::service::{Service, State, Then};
use crate::supervisor::Supervisor;

/// Longest orderly shutdown. Four services in a row at their default deadline and the pods fit;
/// a person who waits longer pulls the plug.
const TOTAL: Duration = Duration::from_secs(90);

/// What is left of each deadline after a second request.
const HURRY: Duration = Duration::from_secs(2);

/// A shutdown under way.
#[derive(Debug)]
pub(crate) struct Shutdown {
    deadline: Duration,
    complete: bool,
}

impl Supervisor {
    /// Ends everything. A second call shortens every deadline.
    pub fn shut_down(&mut self, now: Duration) {
        if let Some(shutdown) = &mut self.shutdown {
            shutdown.deadline = shutdown.deadline.min(now + HURRY + HURRY);
            self.hurry(now);
            return;
        }
        self.shutdown = Some(Shutdown {
            deadline: now + TOTAL,
            complete: false,
        });
        for (name, service) in &mut self.services {
            if let State::Waiting | State::Backoff { .. } = service.state {
                service.state = State::Exited { success: false };
                service.since = now;
                self.actions.push_back(Action::StateChanged {
                    service: name.clone(),
                });
            }
        }
        self.advance_shutdown(now);
    }

    /// Whether a shutdown has begun.
    pub fn shutting_down(&self) -> bool {
        self.shutdown.is_some()
    }

    /// Tells every service to end that no living one needs.
    pub(crate) fn advance_shutdown(&mut self, now: Duration) {
        let Some(shutdown) = &self.shutdown else {
            return;
        };
        if shutdown.complete {
            return;
        }
        let ready_to_end: Vec<Name> = self
            .services
            .iter()
            .filter(|(name, service)| {
                matches!(service.state, State::Ready { .. } | State::Starting { .. })
                    && !self.needed_by_living(name)
            })
            .map(|(name, _)| name.clone())
            .collect();
        for name in ready_to_end {
            self.end(&name, now);
        }
        if !self.services.values().any(Service::alive) {
            self.complete_shutdown();
        }
    }

    pub(crate) fn shutdown_due(&mut self, now: Duration) {
        let overdue = self
            .shutdown
            .as_ref()
            .is_some_and(|s| !s.complete && s.deadline <= now);
        if overdue {
            let left: Vec<&str> = self
                .services
                .iter()
                .filter(|(_, service)| service.alive())
                .map(|(name, _)| name.as_str())
                .collect();
            let text = format!("gave up waiting for {}", left.join(", "));
            self.actions.push_back(Action::Report {
                level: Level::Error,
                text,
            });
            self.complete_shutdown();
        }
    }

    pub(crate) fn shutdown_deadline(&self) -> Option<Duration> {
        self.shutdown
            .as_ref()
            .filter(|shutdown| !shutdown.complete)
            .map(|s| s.deadline)
    }

    fn needed_by_living(&self, name: &Name) -> bool {
        self.dependents
            .get(name)
            .into_iter()
            .flatten()
            .any(|dependent| {
                // In a circle of needs each would wait for the other: those end together.
                let circle = self
                    .dependents
                    .get(dependent)
                    .is_some_and(|d| d.contains(name));
                !circle && self.services.get(dependent).is_some_and(Service::alive)
            })
    }

    fn end(&mut self, name: &Name, now: Duration) {
        let Some(service) = self.services.get_mut(name) else {
            return;
        };
        let stop = &service.definition.stop;
        if stop.clear_first.is_empty() {
            self.tell_to_end(name, Reason::Shutdown, Then::Rest { success: false }, now);
            return;
        }
        let until = now + Duration::from_secs(stop.clear_timeout_seconds.into());
        let state = std::mem::replace(&mut service.state, State::Waiting);
        service.state = match state {
            State::Ready { run } | State::Starting { run } => State::Clearing { run, until },
            other => other,
        };
        service.since = now;
        self.actions.push_back(Action::ClearCgroups {
            service: name.clone(),
        });
        self.changed(name);
    }

    fn hurry(&mut self, now: Duration) {
        let soon = now + HURRY;
        let names: Vec<Name> = self.services.keys().cloned().collect();
        for name in names {
            let rest = Then::Rest { success: false };
            match self.services.get(&name).map(|service| &service.state) {
                Some(State::Ready { .. } | State::Starting { .. }) => {
                    self.tell_to_end(&name, Reason::Shutdown, rest, now);
                }
                Some(State::Clearing { .. }) => {
                    self.actions.push_back(Action::KillCleared {
                        service: name.clone(),
                    });
                    self.tell_to_end(&name, Reason::Shutdown, rest, now);
                }
                _ => {}
            }
            match self
                .services
                .get_mut(&name)
                .map(|service| &mut service.state)
            {
                Some(State::Stopping { kill_at, .. }) => *kill_at = (*kill_at).min(soon),
                Some(State::Draining { give_up_at, .. }) => *give_up_at = (*give_up_at).min(soon),
                _ => {}
            }
        }
    }

    fn complete_shutdown(&mut self) {
        if let Some(shutdown) = &mut self.shutdown {
            shutdown.complete = true;
            self.actions.push_back(Action::ShutdownComplete);
        }
    }
}
