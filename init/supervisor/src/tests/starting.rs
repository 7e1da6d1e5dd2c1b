//! What starts when.

use std::collections::BTreeMap;

use keelson_control::ServiceState;

use super::*;
use crate::{Notice, ProbeKind};

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
    supervisor.exited(&name("disk"), disk, Exit::Code(0), false, secs(2));
    assert_eq!(started(&mut supervisor), [], "its cgroup is not empty yet");
    supervisor.drained(&name("disk"), secs(2));
    let etcd = start_one(&mut supervisor, secs(2));
    assert_eq!(state(&supervisor, "etcd"), ServiceState::Starting);
    assert_eq!(started(&mut supervisor), []);
    supervisor.notified(&name("etcd"), Notice::Ready, secs(3));
    start_one(&mut supervisor, secs(3));
    assert_eq!(state(&supervisor, "api"), ServiceState::Ready);
    // A need that goes away leaves its dependants alone.
    supervisor.exited(&name("etcd"), etcd, Exit::Signal(9), false, secs(4));
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
            .to_string()
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
