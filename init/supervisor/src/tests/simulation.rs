//! A simulated node under random events.

use std::collections::{BTreeMap, BTreeSet};

use keelson_control::{Level, ServiceState};
use proptest::prelude::*;

use super::*;
use crate::Notice;

#[derive(Clone, Debug)]
enum Op {
    Advance(u64),
    Clear(usize),
    End(usize, i32),
    Halt(usize),
    Notify(usize),
    Probe(usize, bool),
    Raise(usize),
    Restart(usize),
    Shutdown,
    Stall(bool),
    Start(usize),
    Stop(usize),
}

const CONDITIONS: [&str; 3] = ["config", "x", "y"];

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        4 => (0..20_000_u64).prop_map(Op::Advance),
        1 => (0..3_usize).prop_map(Op::Clear),
        4 => (0..6_usize, -1..3_i32).prop_map(|(service, code)| Op::End(service, code)),
        1 => (0..6_usize).prop_map(Op::Halt),
        3 => (0..6_usize).prop_map(Op::Notify),
        4 => (0..6_usize, any::<bool>()).prop_map(|(service, ok)| Op::Probe(service, ok)),
        3 => (0..3_usize).prop_map(Op::Raise),
        1 => (0..6_usize).prop_map(Op::Restart),
        1 => Just(Op::Shutdown),
        1 => any::<bool>().prop_map(Op::Stall),
        1 => (0..6_usize).prop_map(Op::Start),
        1 => (0..6_usize).prop_map(Op::Stop),
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
             liveness: {exec: {command: [/p], intervalSeconds: 1, failures: 1}}",
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
    /// Stopped on request and not started since.
    stopped: BTreeSet<Name>,
    /// When each was restarted because it hung.
    hangs: BTreeMap<Name, Vec<Duration>>,
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
            stopped: BTreeSet::new(),
            hangs: BTreeMap::new(),
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
            Op::Halt(index) => {
                let service = self.names[*index].clone();
                if let Some(run) = self.alive.get(&service).copied() {
                    self.supervisor.suspended(&service, run, "SIGSTOP", now);
                    self.execute();
                    let healed = self.alive.get(&service) != Some(&run);
                    assert!(healed || !self.mortal, "{service} stands still");
                }
            }
            Op::Restart(index) => {
                let service = &self.names[*index];
                if self.supervisor.restart(service.as_str(), now).is_ok() {
                    self.stopped.remove(service);
                }
            }
            Op::Shutdown => self.supervisor.shut_down(now),
            Op::Stall(stalled) => self.supervisor.set_stalled(*stalled),
            Op::Start(index) => {
                let service = &self.names[*index];
                if self.supervisor.start(service.as_str(), now).is_ok() {
                    self.stopped.remove(service);
                }
            }
            Op::Stop(index) => {
                let service = &self.names[*index];
                if self.supervisor.stop(service.as_str(), now).is_ok() {
                    self.stopped.insert(service.clone());
                }
            }
        }
        self.execute();
        self.assert_status();
    }

    /// Back-off is visible, and ends by its cap.
    fn assert_status(&self) {
        let cap = self.now + secs(30);
        for name in &self.names {
            let status = self.supervisor.status(name.as_str()).unwrap();
            let waits = matches!(
                status.state,
                ServiceState::Backoff | ServiceState::CrashLoop
            );
            assert_eq!(waits, status.next_try_ms.is_some(), "{status:?}");
            let next = Duration::from_millis(status.next_try_ms.unwrap_or(0));
            assert!(next <= cap, "{status:?}");
        }
    }

    /// In any quarter of an hour, three restarts because of a hang.
    fn remember_hang(&mut self, service: Name) {
        let hangs = self.hangs.entry(service).or_default();
        hangs.push(self.now);
        if let [.., first, _, _, last] = &hangs[..] {
            assert!(*last - *first >= secs(15 * 60), "{hangs:?}");
        }
    }

    fn end(&mut self, service: &Name, exit: Exit) {
        if let Some(run) = self.alive.remove(service) {
            self.supervisor.exited(service, run, exit, false, self.now);
        }
    }

    fn execute(&mut self) {
        while let Some(action) = self.supervisor.next_action() {
            match action {
                Action::Start { service, run } => {
                    assert!(!self.complete, "started after the end");
                    assert!(!self.supervisor.shutting_down(), "started during shutdown");
                    self.assert_needs(&service);
                    assert!(!self.stopped.contains(&service), "{service} was stopped");
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
                Action::Ended { service, end } => {
                    if let Some(Reason::Liveness(_) | Reason::Watchdog(_)) = end.reason {
                        self.remember_hang(service);
                    }
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
        // What was stopped is down in the end, and nothing else is in that state.
        if mortal && !node.supervisor.shutting_down() {
            for _ in 0..3 {
                node.apply(&Op::Advance(30_000));
            }
            for name in &node.names {
                let down = state(&node.supervisor, name.as_str()) == ServiceState::Stopped;
                prop_assert_eq!(down, node.stopped.contains(name), "{}", name);
            }
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
