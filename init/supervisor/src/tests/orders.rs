//! Start, stop and restart on request, and the record of what ended.

use keelson_control::ServiceState;

use super::*;
use crate::{Notice, OrderError};

fn end(supervisor: &mut Supervisor, service: &str, run: RunId, now: Duration) {
    supervisor.exited(&name(service), run, Exit::Code(0), false, now);
    supervisor.drained(&name(service), now);
}

#[test]
fn a_stopped_service_stays_down_and_only_new_starts_miss_it() {
    let mut supervisor = supervisor(&[
        ("etcd", "ready: {notify: {}}"),
        ("api", "needs: {services: [etcd]}"),
    ]);
    supervisor.begin(secs(1));
    let etcd = start_one(&mut supervisor, secs(1));
    supervisor.notified(&name("etcd"), Notice::Ready, secs(2));
    let api = start_one(&mut supervisor, secs(2));

    supervisor.stop("etcd", secs(3)).unwrap();
    assert_eq!(state(&supervisor, "etcd"), ServiceState::Stopping);
    end(&mut supervisor, "etcd", etcd, secs(4));
    assert_eq!(state(&supervisor, "etcd"), ServiceState::Stopped);
    assert_eq!(state(&supervisor, "api"), ServiceState::Ready);
    end(&mut supervisor, "api", api, secs(100));
    assert_eq!(supervisor.status("api").unwrap().waiting_for, ["etcd"]);
    supervisor.tick(secs(10_000));
    assert_eq!(started(&mut supervisor), []);
    supervisor.stop("etcd", secs(10_001)).unwrap();

    supervisor.start("etcd", secs(10_002)).unwrap();
    start_one(&mut supervisor, secs(10_002));
    supervisor.notified(&name("etcd"), Notice::Ready, secs(10_003));
    start_one(&mut supervisor, secs(10_003));
    supervisor.start("etcd", secs(10_004)).unwrap();
    assert_eq!(started(&mut supervisor), [], "it runs already");
}

#[test]
fn a_start_ends_the_wait_and_forgets_the_failures() {
    let mut supervisor = supervisor(&[("a", "stop: {killCgroup: false}")]);
    let mut now = secs(1);
    supervisor.begin(now);
    let mut run = start_one(&mut supervisor, now);
    for _ in 0..7 {
        supervisor.exited(&name("a"), run, Exit::Code(1), false, now);
        if let Some(due) = supervisor.next_deadline() {
            now = due;
            supervisor.tick(now);
        }
        run = start_one(&mut supervisor, now);
    }
    supervisor.exited(&name("a"), run, Exit::Code(1), false, now);
    let status = supervisor.status("a").unwrap();
    assert_eq!(status.state, ServiceState::CrashLoop);
    let next = supervisor.next_deadline().unwrap();
    assert_eq!(
        status.next_try_ms,
        Some(u64::try_from(next.as_millis()).unwrap())
    );
    supervisor.start("a", now).unwrap();
    run = start_one(&mut supervisor, now);
    assert_eq!(supervisor.status("a").unwrap().next_try_ms, None);
    // As for the first time: at once.
    supervisor.exited(&name("a"), run, Exit::Code(1), false, now);
    start_one(&mut supervisor, now);
}

#[test]
fn a_stop_in_the_middle_of_anything_is_kept() {
    let mut supervisor = supervisor(&[
        ("a", ""),
        ("b", "needs: {conditions: [x]}"),
        ("x", "provides: [x]"),
    ]);
    supervisor.begin(secs(1));
    let runs: Vec<(String, RunId)> = started(&mut supervisor);
    let run = runs.iter().find(|(name, _)| name == "a").unwrap().1;
    // Before there is a process: it is told to end as soon as there is one.
    supervisor.stop("a", secs(1)).unwrap();
    supervisor.spawned(&name("a"), run, 7, secs(1));
    assert!(
        actions(&mut supervisor)
            .iter()
            .any(|action| matches!(action, Action::Signal { .. }))
    );
    // A restart takes the stop back, another stop the restart.
    supervisor.restart("a", secs(2)).unwrap();
    supervisor.stop("a", secs(2)).unwrap();
    end(&mut supervisor, "a", run, secs(3));
    assert_eq!(state(&supervisor, "a"), ServiceState::Stopped);
    // One that waits does not start when its need comes.
    supervisor.stop("b", secs(4)).unwrap();
    raise(&mut supervisor, "x", &[], secs(5));
    assert_eq!(started(&mut supervisor), []);
    supervisor.restart("b", secs(6)).unwrap();
    assert_eq!(started(&mut supervisor).len(), 1);
}

#[test]
fn what_the_node_api_needs_is_only_restarted() {
    let mut supervisor = supervisor(&[
        ("disk", "kind: oneshot\nprovides: [storage]"),
        (
            "machined",
            "essential: true\nneeds: {conditions: [storage]}\nprovides: [config]",
        ),
        ("etcd", "needs: {conditions: [config]}"),
    ]);
    supervisor.begin(secs(1));
    let disk = start_one(&mut supervisor, secs(1));
    let refused = supervisor.stop("disk", secs(1)).unwrap_err().to_string();
    assert!(refused.contains("machined needs it"), "{refused}");
    end(&mut supervisor, "disk", disk, secs(2));
    start_one(&mut supervisor, secs(2));
    let refused = supervisor
        .stop("machined", secs(3))
        .unwrap_err()
        .to_string();
    assert!(refused.contains("restart it instead"), "{refused}");
    assert_eq!(state(&supervisor, "machined"), ServiceState::Ready);
    supervisor.restart("machined", secs(3)).unwrap();
    supervisor.stop("etcd", secs(3)).unwrap();
}

#[test]
fn refusals_say_why() {
    let mut supervisor = supervisor(&[
        ("etcd", "only: {datastore: etcd}"),
        ("images", "kind: oneshot\nneeds: {conditions: [config]}"),
        ("owner", "provides: [config]"),
    ]);
    supervisor.begin(secs(1));
    start_one(&mut supervisor, secs(1));
    let facts = [("datastore", "sqlite")];
    raise(&mut supervisor, "config", &facts, secs(2));
    let images = start_one(&mut supervisor, secs(2));
    end(&mut supervisor, "images", images, secs(3));
    let disabled = supervisor.start("etcd", secs(4)).unwrap_err().to_string();
    assert_eq!(
        disabled,
        "etcd is disabled on this node: it runs only where datastore is \"etcd\", and here it is \"sqlite\""
    );
    assert!(matches!(
        supervisor.stop("etcd", secs(4)),
        Err(OrderError::Disabled { .. })
    ));
    for result in [
        supervisor.start("images", secs(4)),
        supervisor.stop("images", secs(4)),
    ] {
        assert!(matches!(result, Err(OrderError::Done { .. })), "{result:?}");
    }
    assert_eq!(
        supervisor.stop("nobody", secs(4)).unwrap_err().to_string(),
        "there is no service \"nobody\""
    );
    supervisor.shut_down(secs(5));
    assert_eq!(
        supervisor.start("images", secs(5)),
        Err(OrderError::ShuttingDown)
    );
}

#[test]
fn each_end_leaves_a_record_with_its_reason() {
    let mut supervisor = supervisor(&[("a", "ready: {notify: {}}\nreadyTimeoutSeconds: 9")]);
    supervisor.begin(secs(0));
    let mut now = secs(0);
    let mut records = Vec::new();
    for step in 0..5 {
        let run = start_one(&mut supervisor, now);
        now += secs(100);
        match step {
            0 => supervisor.tick(now),
            1 => supervisor.restart("a", now).unwrap(),
            4 => supervisor.stop("a", now).unwrap(),
            _ => supervisor.notified(&name("a"), Notice::Ready, now),
        }
        let exit = Exit::Signal(9);
        supervisor.exited(&name("a"), run, exit, step == 2, now);
        for action in actions(&mut supervisor) {
            if let Action::Ended { end, .. } = action {
                assert_eq!((end.at, end.ran), (now, secs(100)));
                records.push(end.reason);
            }
        }
        supervisor.drained(&name("a"), now);
        if state(&supervisor, "a") == ServiceState::Backoff {
            now = supervisor.next_deadline().unwrap();
            supervisor.tick(now);
        }
    }
    assert_eq!(
        records,
        [
            Some(Reason::Unready(secs(100))),
            Some(Reason::RestartRequested),
            Some(Reason::OutOfMemory),
            None,
            Some(Reason::StopRequested),
        ]
    );
}
