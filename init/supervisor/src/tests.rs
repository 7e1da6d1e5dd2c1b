//! Scenarios, and a simulated node under random events.

use std::collections::BTreeMap;
use std::time::Duration;

use keelson_control::{Level, ServiceState};
use keelson_service::{Name, ServiceDefinition, Signal};
use proptest::prelude::*;

use crate::{Action, Exit, Notice, ProbeKind, RunId, Supervisor};

pub(crate) fn definition(name: &str, extra: &str) -> ServiceDefinition {
    let text = format!("name: {name}\ndescription: test\ncommand: [/bin/{name}]\n{extra}\n");
    keelson_service::parse(&format!("{name}.yaml"), &text).unwrap()
}

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn supervisor(definitions: &[(&str, &str)]) -> Supervisor {
    Supervisor::new(
        definitions
            .iter()
            .map(|(name, extra)| definition(name, extra))
            .collect(),
        1,
    )
}

fn actions(supervisor: &mut Supervisor) -> Vec<Action> {
    std::iter::from_fn(|| supervisor.next_action()).collect()
}

/// Runs of the services that are to be started, in order.
fn started(supervisor: &mut Supervisor) -> Vec<(String, RunId)> {
    actions(supervisor)
        .into_iter()
        .filter_map(|action| match action {
            Action::Start { service, run } => Some((service.to_string(), run)),
            _ => None,
        })
        .collect()
}

/// Starts the only service that is to be started now.
fn start_one(supervisor: &mut Supervisor, now: Duration) -> RunId {
    let started = started(supervisor);
    let [(service, run)] = &started[..] else {
        panic!("{started:?}")
    };
    supervisor.spawned(&name(service), *run, 100, now);
    *run
}

fn state(supervisor: &Supervisor, name: &str) -> ServiceState {
    supervisor.status(name).unwrap().state
}

fn raise(supervisor: &mut Supervisor, condition: &str, facts: &[(&str, &str)], now: Duration) {
    let facts = facts
        .iter()
        .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
        .collect();
    supervisor.set(facts, &[condition.to_owned()], &[], now);
}

#[test]
fn needs_gate_the_start_and_a_oneshot_raises_what_it_provides() {
    let mut supervisor = supervisor(&[
        ("disk", "kind: oneshot\nprovides: [storage]"),
        (
            "etcd",
            "needs: {conditions: [storage]}\nready: {notify: {}}",
        ),
        ("api", "needs: {services: [etcd]}"),
    ]);
    supervisor.begin(secs(1));
    let disk = start_one(&mut supervisor, secs(1));
    assert_eq!(supervisor.status("etcd").unwrap().waiting_for, ["storage"]);
    supervisor.exited(&name("disk"), disk, Exit::Code(0), secs(2));
    assert_eq!(started(&mut supervisor), [], "its cgroup is not empty yet");
    supervisor.drained(&name("disk"), secs(2));
    let etcd = start_one(&mut supervisor, secs(2));
    assert_eq!(state(&supervisor, "etcd"), ServiceState::Starting);
    assert_eq!(started(&mut supervisor), []);
    supervisor.notified(&name("etcd"), Notice::Ready, secs(3));
    start_one(&mut supervisor, secs(3));
    assert_eq!(state(&supervisor, "api"), ServiceState::Ready);
    // A need that goes away leaves its dependants alone.
    supervisor.exited(&name("etcd"), etcd, Exit::Signal(9), secs(4));
    assert_eq!(state(&supervisor, "api"), ServiceState::Ready);
}

#[test]
fn phases_are_stamped_once() {
    let mut supervisor = supervisor(&[("a", "")]);
    supervisor.begin(secs(1));
    for time in [1, 2, 3] {
        raise(&mut supervisor, "x", &[], secs(time));
        supervisor.set(BTreeMap::new(), &[], &["x".to_owned()], secs(time));
    }
    let phases = actions(&mut supervisor)
        .into_iter()
        .filter(|action| matches!(action, Action::Phase { .. }))
        .count();
    assert_eq!(phases, 1);
}

#[test]
fn the_first_restart_is_immediate_then_it_waits_then_it_loops() {
    let mut supervisor = supervisor(&[("a", "stop: {killCgroup: false}")]);
    let mut now = secs(1);
    supervisor.begin(now);
    let run = start_one(&mut supervisor, now);
    supervisor.exited(&name("a"), run, Exit::Code(1), now);
    let mut run = start_one(&mut supervisor, now);
    let mut states = Vec::new();
    for _ in 0..6 {
        supervisor.exited(&name("a"), run, Exit::Code(7), now);
        assert_eq!(started(&mut supervisor), []);
        states.push(state(&supervisor, "a"));
        now = supervisor.next_deadline().unwrap();
        supervisor.tick(now);
        run = start_one(&mut supervisor, now);
    }
    assert_eq!(states[0], ServiceState::Backoff);
    assert_eq!(states[5], ServiceState::CrashLoop);
    let status = supervisor.status("a").unwrap();
    assert_eq!(
        (status.last_exit.as_deref(), status.restarts),
        (Some("exit code 7"), 7)
    );
    // A long life resets the count.
    now += secs(60);
    supervisor.exited(&name("a"), run, Exit::Code(1), now);
    start_one(&mut supervisor, now);
}

#[test]
fn only_is_decided_when_the_configuration_is_there() {
    let mut supervisor = supervisor(&[
        ("etcd", "only: {datastore: etcd}"),
        ("kine", "only: {datastore: sqlite}"),
        ("api", "needs: {services: [etcd, kine]}"),
    ]);
    supervisor.begin(secs(1));
    assert_eq!(started(&mut supervisor), []);
    assert_eq!(supervisor.status("kine").unwrap().waiting_for, ["config"]);
    raise(
        &mut supervisor,
        "config",
        &[("datastore", "sqlite")],
        secs(2),
    );
    assert_eq!(state(&supervisor, "etcd"), ServiceState::Disabled);
    start_one(&mut supervisor, secs(2));
    assert_eq!(started(&mut supervisor)[0].0, "api");
    assert!(
        supervisor
            .restart("etcd", secs(3))
            .unwrap_err()
            .contains("disabled")
    );
    assert!(supervisor.restart("nope", secs(3)).is_err());
}

#[test]
fn probes_are_repeated_until_the_service_is_ready() {
    let probe = "ready: {exec: {command: [/bin/p], intervalMs: 500, timeoutSeconds: 3}}";
    let mut supervisor = supervisor(&[("a", probe)]);
    supervisor.begin(secs(1));
    let run = start_one(&mut supervisor, secs(1));
    supervisor.tick(secs(1));
    let probe = |run| Action::Probe {
        service: name("a"),
        run,
        kind: ProbeKind::Readiness,
    };
    assert!(actions(&mut supervisor).contains(&probe(run)));
    supervisor.probed(&name("a"), run, false, secs(2));
    assert_eq!(
        supervisor.next_deadline(),
        Some(Duration::from_millis(2500))
    );
    supervisor.tick(secs(3));
    assert!(actions(&mut supervisor).contains(&probe(run)));
    // One that hangs is cancelled and counts as failed.
    supervisor.tick(secs(6));
    assert!(actions(&mut supervisor).contains(&Action::CancelProbe {
        service: name("a"),
        run
    }));
    supervisor.probed(&name("a"), run, true, secs(6));
    assert_eq!(
        state(&supervisor, "a"),
        ServiceState::Starting,
        "the late result is not used"
    );
    supervisor.tick(secs(7));
    supervisor.probed(&name("a"), RunId(999), true, secs(7));
    assert_eq!(
        state(&supervisor, "a"),
        ServiceState::Starting,
        "another run's result"
    );
    supervisor.probed(&name("a"), run, true, secs(7));
    assert_eq!(state(&supervisor, "a"), ServiceState::Ready);
}

#[test]
fn a_service_that_is_never_ready_is_restarted() {
    let mut supervisor = supervisor(&[("a", "ready: {notify: {}}\nreadyTimeoutSeconds: 9")]);
    supervisor.begin(secs(1));
    let run = start_one(&mut supervisor, secs(1));
    supervisor.tick(secs(10));
    let signal = Signal::SIGTERM;
    assert!(actions(&mut supervisor).contains(&Action::Signal {
        service: name("a"),
        run,
        signal
    }));
    // It does not listen: everything is killed at the deadline.
    supervisor.tick(secs(30));
    assert!(actions(&mut supervisor).contains(&Action::KillCgroup { service: name("a") }));
    supervisor.exited(&name("a"), run, Exit::Signal(9), secs(30));
    supervisor.drained(&name("a"), secs(30));
    start_one(&mut supervisor, secs(30));
}

#[test]
fn silence_and_failed_liveness_restart() {
    let liveness = "liveness: {exec: {command: [/bin/p], intervalSeconds: 10, failures: 2}}";
    let mut supervisor = supervisor(&[
        ("live", liveness),
        ("dog", "ready: {notify: {}}\nwatchdogSeconds: 5"),
    ]);
    supervisor.begin(secs(0));
    let runs: BTreeMap<String, RunId> = started(&mut supervisor).into_iter().collect();
    for (service, run) in &runs {
        supervisor.spawned(&name(service), *run, 7, secs(0));
    }
    supervisor.notified(&name("dog"), Notice::Ready, secs(1));
    supervisor.notified(&name("dog"), Notice::Watchdog, secs(4));
    supervisor.tick(secs(8));
    assert_eq!(state(&supervisor, "dog"), ServiceState::Ready);
    supervisor.tick(secs(9));
    let abort = Action::Signal {
        service: name("dog"),
        run: runs["dog"],
        signal: Signal::SIGABRT,
    };
    assert!(actions(&mut supervisor).contains(&abort));
    for time in [10, 20] {
        supervisor.tick(secs(time));
        supervisor.probed(&name("live"), runs["live"], false, secs(time));
    }
    assert_eq!(state(&supervisor, "live"), ServiceState::Stopping);
}

#[test]
fn shutdown_goes_in_reverse_and_clears_pods_first() {
    let mut supervisor = supervisor(&[
        (
            "containerd",
            "stop: {killCgroup: false, clearFirst: [kubepods]}",
        ),
        ("images", "kind: oneshot\nneeds: {services: [containerd]}"),
        ("kubelet", "needs: {services: [images]}"),
    ]);
    let now = secs(1);
    supervisor.begin(now);
    let containerd = start_one(&mut supervisor, now);
    let images = start_one(&mut supervisor, now);
    supervisor.exited(&name("images"), images, Exit::Code(0), now);
    supervisor.drained(&name("images"), now);
    let kubelet = start_one(&mut supervisor, now);
    actions(&mut supervisor);
    supervisor.shut_down(now);
    let signals = |supervisor: &mut Supervisor| -> Vec<String> {
        actions(supervisor)
            .into_iter()
            .filter_map(|action| match action {
                Action::Signal { service, .. } => Some(service.to_string()),
                Action::ClearCgroups { service } => Some(format!("clear {service}")),
                Action::ShutdownComplete => Some("complete".to_owned()),
                _ => None,
            })
            .collect()
    };
    assert_eq!(signals(&mut supervisor), ["kubelet"]);
    supervisor.exited(&name("kubelet"), kubelet, Exit::Code(0), now);
    supervisor.drained(&name("kubelet"), now);
    assert_eq!(signals(&mut supervisor), ["clear containerd"]);
    supervisor.cleared(&name("containerd"), now);
    assert_eq!(signals(&mut supervisor), ["containerd"]);
    supervisor.exited(&name("containerd"), containerd, Exit::Code(0), now);
    assert_eq!(signals(&mut supervisor), ["complete"]);
    supervisor.tick(secs(1000));
    assert_eq!(signals(&mut supervisor), [""; 0]);
}

#[test]
fn a_second_shutdown_request_hurries() {
    let mut supervisor = supervisor(&[("a", "stop: {timeoutSeconds: 60}")]);
    supervisor.begin(secs(1));
    start_one(&mut supervisor, secs(1));
    supervisor.shut_down(secs(2));
    supervisor.shut_down(secs(3));
    assert!(supervisor.next_deadline().unwrap() <= secs(5));
}

#[derive(Clone, Debug)]
enum Op {
    Advance(u64),
    Clear(usize),
    End(usize, i32),
    Notify(usize),
    Probe(usize, bool),
    Raise(usize),
    Restart(usize),
    Shutdown,
}

const CONDITIONS: [&str; 3] = ["config", "x", "y"];

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        4 => (0..20_000_u64).prop_map(Op::Advance),
        1 => (0..3_usize).prop_map(Op::Clear),
        4 => (0..6_usize, -1..3_i32).prop_map(|(service, code)| Op::End(service, code)),
        3 => (0..6_usize).prop_map(Op::Notify),
        4 => (0..6_usize, any::<bool>()).prop_map(|(service, ok)| Op::Probe(service, ok)),
        3 => (0..3_usize).prop_map(Op::Raise),
        1 => (0..6_usize).prop_map(Op::Restart),
        1 => Just(Op::Shutdown),
    ]
}

fn simulated() -> Vec<ServiceDefinition> {
    vec![
        definition("a", "kind: oneshot\nprovides: [x]"),
        definition(
            "b",
            "needs: {conditions: [x]}\nready: {notify: {}}\nwatchdogSeconds: 9",
        ),
        definition(
            "c",
            "only: {fact: yes}\nneeds: {services: [b]}\nready: {exec: {command: [/p]}}",
        ),
        definition(
            "d",
            "needs: {services: [c]}\nstop: {killCgroup: false, clearFirst: [pods]}\n\
             liveness: {exec: {command: [/p], intervalSeconds: 3}}",
        ),
        definition(
            "e",
            "needs: {conditions: [y], services: [d]}\nreadyTimeoutSeconds: 4\nready: {unix: {path: /s}}",
        ),
        definition("f", "restart: {policy: never}"),
    ]
}

/// A machine whose processes do what the ops say.
struct Node {
    supervisor: Supervisor,
    now: Duration,
    names: Vec<Name>,
    /// Main processes that live, by service.
    alive: BTreeMap<Name, RunId>,
    /// Whether killed processes go away.
    mortal: bool,
    complete: bool,
}

impl Node {
    fn new(mortal: bool, seed: u32) -> Self {
        let definitions = simulated();
        let names = definitions
            .iter()
            .map(|definition| definition.name.clone())
            .collect();
        let supervisor = Supervisor::new(definitions, seed);
        let now = secs(1);
        Self {
            supervisor,
            now,
            names,
            alive: BTreeMap::new(),
            mortal,
            complete: false,
        }
    }

    fn apply(&mut self, op: &Op) {
        let now = self.now;
        match op {
            Op::Advance(ms) => {
                self.now += Duration::from_millis(*ms);
                self.supervisor.tick(self.now);
            }
            Op::Clear(index) => {
                let clear = [CONDITIONS[*index].to_owned()];
                self.supervisor.set(BTreeMap::new(), &[], &clear, now);
            }
            Op::End(index, code) => {
                let exit = if *code < 0 {
                    Exit::Signal(9)
                } else {
                    Exit::Code(*code)
                };
                self.end(&self.names[*index].clone(), exit);
            }
            Op::Notify(index) => {
                if self.alive.contains_key(&self.names[*index]) {
                    self.supervisor
                        .notified(&self.names[*index], Notice::Ready, now);
                }
            }
            Op::Probe(index, success) => {
                if let Some(run) = self.alive.get(&self.names[*index]) {
                    self.supervisor
                        .probed(&self.names[*index], *run, *success, now);
                }
            }
            Op::Raise(index) => {
                raise(
                    &mut self.supervisor,
                    CONDITIONS[*index],
                    &[("fact", "yes")],
                    now,
                );
            }
            Op::Restart(index) => {
                let _ = self.supervisor.restart(self.names[*index].as_str(), now);
            }
            Op::Shutdown => self.supervisor.shut_down(now),
        }
        self.execute();
    }

    fn end(&mut self, service: &Name, exit: Exit) {
        if let Some(run) = self.alive.remove(service) {
            self.supervisor.exited(service, run, exit, self.now);
        }
    }

    fn execute(&mut self) {
        while let Some(action) = self.supervisor.next_action() {
            match action {
                Action::Start { service, run } => {
                    assert!(!self.complete, "started after the end");
                    assert!(!self.supervisor.shutting_down(), "started during shutdown");
                    self.assert_needs(&service);
                    assert_eq!(
                        self.alive.insert(service.clone(), run),
                        None,
                        "{service} twice"
                    );
                    self.supervisor.spawned(&service, run, 1, self.now);
                }
                Action::KillCgroup { service } if self.mortal => {
                    self.end(&service, Exit::Signal(9));
                    self.supervisor.drained(&service, self.now);
                }
                Action::KillMain { service, .. } if self.mortal => {
                    self.end(&service, Exit::Signal(9));
                }
                Action::Signal { service, run, .. } => {
                    assert_eq!(
                        self.alive.get(&service),
                        Some(&run),
                        "signal to a dead process"
                    );
                }
                Action::ShutdownComplete => {
                    assert!(!self.complete, "completed twice");
                    self.complete = true;
                }
                Action::Report { level, text } => {
                    assert!(level != Level::Info && !text.is_empty());
                }
                _ => {}
            }
        }
    }

    fn assert_needs(&self, service: &Name) {
        let needs = &self.supervisor.definition(service.as_str()).unwrap().needs;
        let conditions = self.supervisor.conditions();
        assert!(
            needs
                .conditions
                .iter()
                .all(|name| conditions.contains(name.as_str()))
        );
        for need in &needs.services {
            let state = state(&self.supervisor, need.as_str());
            let met = matches!(
                state,
                ServiceState::Ready | ServiceState::Disabled | ServiceState::Exited
            );
            assert!(met, "{service} started while {need} was {state:?}");
        }
    }
}

proptest! {
    #[test]
    fn nothing_breaks_the_promises(
        ops in proptest::collection::vec(op(), 0..120),
        mortal: bool,
        seed: u32,
    ) {
        let mut node = Node::new(mortal, seed);
        node.supervisor.begin(node.now);
        node.execute();
        for op in &ops {
            node.apply(op);
        }
        // Whatever happened before, a shutdown ends by its deadline.
        let begun = node.now;
        node.apply(&Op::Shutdown);
        while !node.complete {
            let next = node.supervisor.next_deadline();
            prop_assert!(next.is_some(), "nothing is due, yet it has not ended");
            node.now = next.unwrap().max(node.now);
            prop_assert!(node.now - begun <= secs(90), "too long");
            node.supervisor.tick(node.now);
            node.execute();
        }
    }
}
