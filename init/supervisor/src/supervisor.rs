//! The events and what follows from each.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::time::Duration;

use keelson_control::{Level, ServiceStatus};
use keelson_service::{Kind, Liveness, Name, Readiness, RestartPolicy, ServiceDefinition, Signal};

use crate::CONFIG_CONDITION;
use crate::action::{Action, Exit, Notice, ProbeKind, RunId};
use crate::backoff;
use crate::graph;
use crate::service::{Probe, Run, Service, State, Then};
use crate::shutdown::Shutdown;

/// Time the rest of a killed cgroup has to disappear. Only a process stuck in the kernel takes
/// longer, and waiting for that one helps nobody.
const DRAIN_DEADLINE: Duration = Duration::from_secs(5);

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
}

/// No service of that name exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownService;

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
        self.run_ended(name, run, Exit::CannotStart(reason), now);
    }

    /// The main process of a run ended.
    pub fn exited(&mut self, name: &Name, run: RunId, exit: Exit, now: Duration) {
        self.run_ended(name, run, exit, now);
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
            self.tell_to_end(name, Then::Rest { success: false }, now);
        }
    }

    /// The main process of a service sent a message.
    pub fn notified(&mut self, name: &Name, notice: Notice, now: Duration) {
        let Some(service) = self.services.get_mut(name) else {
            return;
        };
        let starting = matches!(service.state, State::Starting { .. });
        let readiness = service.definition.readiness();
        if let Some(seconds) = service.definition.watchdog_seconds
            && let Some(run) = service.run_mut()
        {
            run.watchdog_at = Some(now + Duration::from_secs(seconds.into()));
        }
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
            (State::Ready { .. }, success) => self.liveness_probed(name, success, now),
            _ => {}
        }
    }

    /// Stops a service and starts it again.
    pub fn restart(&mut self, name: &str, now: Duration) -> Result<(), String> {
        let (name, service) = self
            .services
            .get_key_value(name)
            .ok_or(UnknownService)
            .map_err(|e| e.to_string())?;
        if self.shutdown.is_some() {
            return Err("the machine is shutting down".to_owned());
        }
        let name = name.clone();
        let at_once = Then::Restart {
            delay: Duration::ZERO,
        };
        match service.state {
            State::Disabled => return Err(format!("{name} is disabled on this node")),
            State::Ready { .. } | State::Starting { .. } => self.tell_to_end(&name, at_once, now),
            State::Backoff { .. } | State::Exited { .. } => self.settle(&name, at_once, now),
            State::Clearing { .. }
            | State::Draining { .. }
            | State::Stopping { .. }
            | State::Waiting => {}
        }
        Ok(())
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
            since_ms: u64::try_from(service.since.as_millis()).unwrap_or(u64::MAX),
            pid: service.run().and_then(|run| run.pid),
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
    fn missing(&self, service: &Service) -> Vec<String> {
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

    fn became_ready(&mut self, name: &Name, now: Duration) {
        let Some(service) = self.services.get_mut(name) else {
            return;
        };
        let State::Starting { mut run } = std::mem::replace(&mut service.state, State::Waiting)
        else {
            return;
        };
        run.probe = match &service.definition.liveness {
            Some(Liveness::Exec {
                interval_seconds, ..
            }) => Probe::Due {
                at: now + Duration::from_secs((*interval_seconds).into()),
                kind: ProbeKind::Liveness,
            },
            None => Probe::None,
        };
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

    fn liveness_probed(&mut self, name: &Name, success: bool, now: Duration) {
        let Some(service) = self.services.get_mut(name) else {
            return;
        };
        let Some(Liveness::Exec {
            interval_seconds,
            failures,
            ..
        }) = service.definition.liveness
        else {
            return;
        };
        let Some(run) = service.run_mut() else { return };
        run.failed_probes = if success { 0 } else { run.failed_probes + 1 };
        let at = now + Duration::from_secs(interval_seconds.into());
        run.probe = Probe::Due {
            at,
            kind: ProbeKind::Liveness,
        };
        if run.failed_probes >= failures {
            let text = format!("{name} failed {failures} liveness checks in a row, restarting it");
            self.fail(name, Level::Error, text, None, now);
        }
    }

    /// Ends a run that does not work; it comes back after the usual delay.
    pub(crate) fn fail(
        &mut self,
        name: &Name,
        level: Level,
        text: String,
        signal: Option<Signal>,
        now: Duration,
    ) {
        self.actions.push_back(Action::Report { level, text });
        let then = Then::Restart {
            delay: self.next_delay(name, now),
        };
        self.tell_to_end_with(name, signal, then, now);
    }

    pub(crate) fn tell_to_end(&mut self, name: &Name, then: Then, now: Duration) {
        self.tell_to_end_with(name, None, then, now);
    }

    fn tell_to_end_with(&mut self, name: &Name, signal: Option<Signal>, then: Then, now: Duration) {
        let Some(service) = self.services.get_mut(name) else {
            return;
        };
        let stop = &service.definition.stop;
        let signal = signal.unwrap_or(stop.signal);
        let kill_at = now + Duration::from_secs(stop.timeout_seconds.into());
        let state = std::mem::replace(&mut service.state, State::Waiting);
        let mut run = match state {
            State::Clearing { run, .. } | State::Ready { run } | State::Starting { run } => run,
            other => {
                service.state = other;
                return;
            }
        };
        let id = run.id;
        if let Probe::Running { .. } = std::mem::replace(&mut run.probe, Probe::None) {
            self.actions.push_back(Action::CancelProbe {
                service: name.clone(),
                run: id,
            });
        }
        if run.pid.is_some() {
            self.actions.push_back(Action::Signal {
                service: name.clone(),
                run: id,
                signal,
            });
        }
        service.state = State::Stopping { run, kill_at, then };
        service.since = now;
        self.changed(name);
    }

    fn run_ended(&mut self, name: &Name, run: RunId, exit: Exit, now: Duration) {
        let Some(service) = self.services.get(name) else {
            return;
        };
        let Some(current) = service.run().filter(|current| current.id == run) else {
            return;
        };
        let had_process = current.pid.is_some();
        if let Probe::Running { .. } = current.probe {
            self.actions.push_back(Action::CancelProbe {
                service: name.clone(),
                run,
            });
        }
        let success = exit == Exit::Code(0);
        let then = match &service.state {
            State::Stopping { then, .. } => *then,
            _ if self.shutdown.is_some() => Then::Rest { success },
            _ => self.after_unexpected_end(name, &exit, now),
        };
        let Some(service) = self.services.get_mut(name) else {
            return;
        };
        service.last_exit = Some(exit);
        service.since = now;
        if had_process && service.definition.stop.kill_cgroup {
            service.state = State::Draining {
                give_up_at: now + DRAIN_DEADLINE,
                then,
            };
            self.actions.push_back(Action::KillCgroup {
                service: name.clone(),
            });
            self.changed(name);
        } else {
            self.settle(name, then, now);
        }
    }

    fn after_unexpected_end(&mut self, name: &Name, exit: &Exit, now: Duration) -> Then {
        let success = *exit == Exit::Code(0);
        let Some(service) = self.services.get(name) else {
            return Then::Rest { success };
        };
        let kind = service.definition.kind;
        let again = match service.definition.restart_policy() {
            RestartPolicy::Always => !(kind == Kind::Oneshot && success),
            RestartPolicy::Never => false,
            RestartPolicy::OnFailure => !success,
        };
        if kind == Kind::Oneshot && success {
            return Then::Rest { success };
        }
        let mut text = format!("{name} ended: {exit}");
        let then = if again {
            let delay = self.next_delay(name, now);
            if delay.is_zero() {
                text.push_str("; starting it again");
            } else {
                text.push_str(&format!(
                    "; starting it again in {:.1} s",
                    delay.as_secs_f64()
                ));
            }
            Then::Restart { delay }
        } else {
            Then::Rest { success }
        };
        self.actions.push_back(Action::Report {
            level: Level::Warn,
            text,
        });
        then
    }

    /// Counts a failure and returns the delay it costs.
    fn next_delay(&mut self, name: &Name, now: Duration) -> Duration {
        // xorshift32: spreading restarts needs no better randomness.
        self.jitter ^= self.jitter << 13;
        self.jitter ^= self.jitter >> 17;
        self.jitter ^= self.jitter << 5;
        let Some(service) = self.services.get_mut(name) else {
            return Duration::ZERO;
        };
        let config = &service.definition.restart;
        let stable = Duration::from_secs(config.stable_seconds.into());
        let ran = service
            .run()
            .map_or(Duration::ZERO, |run| now.saturating_sub(run.started_at));
        let failures = if ran >= stable { 0 } else { service.failures };
        let delay = backoff::delay(config, failures, self.jitter);
        service.failures = failures.saturating_add(1);
        delay
    }

    /// Everything of a service has ended.
    pub(crate) fn settle(&mut self, name: &Name, then: Then, now: Duration) {
        let stopping = self.shutdown.is_some();
        let Some(service) = self.services.get_mut(name) else {
            return;
        };
        service.since = now;
        let mut raise = Vec::new();
        service.state = match then {
            _ if stopping => State::Exited { success: false },
            Then::Restart { delay } if delay.is_zero() => State::Waiting,
            Then::Restart { delay } => State::Backoff { until: now + delay },
            Then::Rest { success } => {
                if success && service.definition.kind == Kind::Oneshot {
                    service.was_ready = true;
                    raise = service
                        .definition
                        .provides
                        .iter()
                        .map(Name::to_string)
                        .collect();
                    raise.push(name.to_string());
                }
                State::Exited { success }
            }
        };
        if let Some(own_name) = raise.pop() {
            self.stamp(&own_name);
            for condition in raise {
                self.raise(&condition);
            }
        }
        self.changed(name);
        self.start_what_can(now);
        self.advance_shutdown(now);
    }

    pub(crate) fn changed(&mut self, name: &Name) {
        self.actions.push_back(Action::StateChanged {
            service: name.clone(),
        });
    }
}

impl fmt::Display for UnknownService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("there is no service of that name")
    }
}

impl std::error::Error for UnknownService {}
