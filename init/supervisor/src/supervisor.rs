//! The events and what follows from each.

mod checking;
mod ending;
mod orders;
mod starting;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use keelson_control::ServiceStatus;
use keelson_service::{Name, Readiness, ServiceDefinition};

use crate::action::{Action, Exit, Notice, ProbeKind, Reason, RunId};
use crate::graph;
use crate::service::{Probe, Service, State, Then};
use crate::shutdown::Shutdown;

pub(crate) use ending::KILL_AGAIN;
pub use orders::OrderError;

/// All services and what is known about the node.
#[derive(Debug)]
pub struct Supervisor {
    pub(crate) services: BTreeMap<Name, Service>,
    pub(crate) dependents: BTreeMap<Name, BTreeSet<Name>>,
    facts: BTreeMap<String, String>,
    conditions: BTreeSet<String>,
    stamped: BTreeSet<String>,
    pub(crate) actions: VecDeque<Action>,
    pub(crate) shutdown: Option<Shutdown>,
    next_run: u64,
    jitter: u32,
    /// Whether the machine does not get its work done.
    stalled: bool,
}

impl Supervisor {
    /// Takes the definitions. `seed` is any number, best a random one; it spreads restarts.
    pub fn new(definitions: Vec<ServiceDefinition>, seed: u32) -> Self {
        Self {
            dependents: graph::dependents(&definitions),
            services: definitions
                .into_iter()
                .map(|definition| (definition.name.clone(), Service::new(definition)))
                .collect(),
            facts: BTreeMap::new(),
            conditions: BTreeSet::new(),
            stamped: BTreeSet::new(),
            actions: VecDeque::new(),
            shutdown: None,
            next_run: 1,
            // The generator below stays at zero once there.
            jitter: seed | 1,
            stalled: false,
        }
    }

    /// Begins: starts everything that needs nothing.
    pub fn begin(&mut self, now: Duration) {
        self.start_what_can(now);
    }

    /// Sets facts, then raises and clears conditions.
    pub fn set(
        &mut self,
        facts: BTreeMap<String, String>,
        raise: &[String],
        clear: &[String],
        now: Duration,
    ) {
        self.facts.extend(facts);
        for name in raise {
            self.raise(name);
        }
        for name in clear {
            if self.conditions.remove(name) {
                let changed = Action::ConditionChanged {
                    name: name.clone(),
                    raised: false,
                };
                self.actions.push_back(changed);
            }
        }
        self.start_what_can(now);
    }

    /// A process was created for a run.
    pub fn spawned(&mut self, name: &Name, run: RunId, pid: u32, now: Duration) {
        let Some(service) = self.services.get_mut(name) else {
            return;
        };
        let Some(current) = service.run_mut().filter(|current| current.id == run) else {
            return;
        };
        current.pid = Some(pid);
        if let State::Stopping { .. } = service.state {
            // Told to end before there was anyone to tell.
            let signal = service.definition.stop.signal;
            self.actions.push_back(Action::Signal {
                service: name.clone(),
                run,
                signal,
            });
            return;
        }
        match service.definition.readiness() {
            Readiness::Started {} => self.became_ready(name, now),
            Readiness::Exec(_) | Readiness::Tcp { .. } | Readiness::Unix { .. } => {
                if let Some(current) = service.run_mut() {
                    current.probe = Probe::Due {
                        at: now,
                        kind: ProbeKind::Readiness,
                    };
                }
                self.changed(name);
            }
            Readiness::Exited {} | Readiness::Notify {} => self.changed(name),
        }
    }

    /// No process could be created for a run.
    pub fn start_failed(&mut self, name: &Name, run: RunId, reason: String, now: Duration) {
        self.run_ended(name, run, Exit::CannotStart(reason), false, now);
    }

    /// The main process of a run ended; `out_of_memory` when the kernel has killed a process
    /// of the service because memory ran out.
    pub fn exited(
        &mut self,
        name: &Name,
        run: RunId,
        exit: Exit,
        out_of_memory: bool,
        now: Duration,
    ) {
        self.run_ended(name, run, exit, out_of_memory, now);
    }

    /// The killed cgroup of a service is empty.
    pub fn drained(&mut self, name: &Name, now: Duration) {
        let Some(service) = self.services.get(name) else {
            return;
        };
        if let State::Draining { then, .. } = service.state {
            self.settle(name, then, now);
        }
    }

    /// The `stop.clearFirst` cgroups of a service are empty.
    pub fn cleared(&mut self, name: &Name, now: Duration) {
        let Some(service) = self.services.get(name) else {
            return;
        };
        if let State::Clearing { .. } = service.state {
            self.tell_to_end(name, Reason::Shutdown, Then::Rest { success: false }, now);
        }
    }

    /// The main process of a service sent a message.
    pub fn notified(&mut self, name: &Name, notice: Notice, now: Duration) {
        let Some(service) = self.services.get_mut(name) else {
            return;
        };
        let starting = matches!(service.state, State::Starting { .. });
        let readiness = service.definition.readiness();
        Self::reported(service, now);
        if starting && notice == Notice::Ready && readiness == (Readiness::Notify {}) {
            self.became_ready(name, now);
        }
    }

    /// A probe of a run ended.
    pub fn probed(&mut self, name: &Name, run: RunId, success: bool, now: Duration) {
        let Some(service) = self.services.get_mut(name) else {
            return;
        };
        if service.run().is_none_or(|current| current.id != run) {
            return;
        }
        let pause = service.readiness_interval();
        match (&mut service.state, success) {
            (State::Starting { run }, true) => {
                if let Probe::Running {
                    kind: ProbeKind::Readiness,
                    ..
                } = run.probe
                {
                    self.became_ready(name, now);
                }
            }
            (State::Starting { run }, false) => {
                if let Some(pause) = pause {
                    run.probe = Probe::Due {
                        at: now + pause,
                        kind: ProbeKind::Readiness,
                    };
                }
            }
            (State::Ready { run }, success) => {
                if let Probe::Running {
                    kind: ProbeKind::Liveness,
                    ..
                } = run.probe
                {
                    self.liveness_probed(name, success, false, now);
                }
            }
            _ => {}
        }
    }

    /// Takes the next thing to do.
    pub fn next_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// Facts set so far.
    pub fn facts(&self) -> &BTreeMap<String, String> {
        &self.facts
    }

    /// Conditions that hold.
    pub fn conditions(&self) -> &BTreeSet<String> {
        &self.conditions
    }

    /// Definition of a service.
    pub fn definition(&self, name: &str) -> Option<&ServiceDefinition> {
        self.services.get(name).map(|service| &service.definition)
    }

    /// Names of all services.
    pub fn names(&self) -> impl Iterator<Item = &Name> {
        self.services.keys()
    }

    /// A service as people see it, without its log lines.
    pub fn status(&self, name: &str) -> Option<ServiceStatus> {
        let service = self.services.get(name)?;
        let waiting = matches!(service.state, State::Waiting);
        Some(ServiceStatus {
            name: name.to_owned(),
            state: service.shown_state(),
            since_ms: millis(service.since),
            pid: service.run().and_then(|run| run.pid),
            next_try_ms: service.next_try().map(millis),
            restarts: service.starts.saturating_sub(1),
            waiting_for: if waiting {
                self.missing(service)
            } else {
                Vec::new()
            },
            last_exit: service.last_exit.as_ref().map(Exit::to_string),
            last_lines: Vec::new(),
        })
    }

    fn raise(&mut self, name: &str) {
        if !self.conditions.insert(name.to_owned()) {
            return;
        }
        self.stamp(name);
        self.actions.push_back(Action::ConditionChanged {
            name: name.to_owned(),
            raised: true,
        });
    }

    fn stamp(&mut self, name: &str) {
        if self.stamped.insert(name.to_owned()) {
            self.actions.push_back(Action::Phase {
                name: name.to_owned(),
            });
        }
    }

    pub(crate) fn changed(&mut self, name: &Name) {
        self.actions.push_back(Action::StateChanged {
            service: name.clone(),
        });
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
