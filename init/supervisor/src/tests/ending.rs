//! Restarts, their delays, and the end of everything.

use keelson_control::ServiceState;
use keelson_service::Signal;

use super::*;

#[test]
fn the_first_restart_is_immediate_then_it_waits_then_it_loops() {
    let mut supervisor = supervisor(&[("a", "stop: {killCgroup: false}")]);
    let mut now = secs(1);
    supervisor.begin(now);
    let run = start_one(&mut supervisor, now);
    supervisor.exited(&name("a"), run, Exit::Code(1), false, now);
    let mut run = start_one(&mut supervisor, now);
    let mut states = Vec::new();
    for _ in 0..6 {
        supervisor.exited(&name("a"), run, Exit::Code(7), false, now);
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
    supervisor.exited(&name("a"), run, Exit::Code(1), false, now);
    start_one(&mut supervisor, now);
}

#[test]
fn a_kill_from_outside_costs_no_delay_and_a_loop_of_them_does() {
    let mut supervisor = supervisor(&[("a", "stop: {killCgroup: false}")]);
    let mut now = secs(1);
    supervisor.begin(now);
    for _ in 0..9 {
        let run = start_one(&mut supervisor, now);
        now += secs(2);
        supervisor.exited(&name("a"), run, Exit::Signal(9), false, now);
        assert_eq!(state(&supervisor, "a"), ServiceState::Starting);
    }
    // The kernel's kill for want of memory is the service's own doing.
    for expected in [ServiceState::Starting, ServiceState::Backoff] {
        let run = start_one(&mut supervisor, now);
        now += secs(2);
        supervisor.exited(&name("a"), run, Exit::Signal(9), true, now);
        assert_eq!(state(&supervisor, "a"), expected);
    }
    // Something that kills whatever starts cannot make it start without end.
    let mut starts = 0;
    let end = now + secs(60);
    while now < end {
        if let Some((_, run)) = started(&mut supervisor).pop() {
            starts += 1;
            supervisor.spawned(&name("a"), run, 7, now);
            supervisor.exited(&name("a"), run, Exit::Signal(9), false, now);
        } else {
            now = supervisor.next_deadline().unwrap();
            supervisor.tick(now);
        }
    }
    assert!(starts < 12, "{starts} starts in a minute");
}

#[test]
fn a_slow_start_is_no_stable_run() {
    let mut supervisor = supervisor(&[("a", "ready: {notify: {}}\nstop: {killCgroup: false}")]);
    let mut now = secs(1);
    supervisor.begin(now);
    for _ in 0..6 {
        let run = start_one(&mut supervisor, now);
        now += secs(100);
        supervisor.exited(&name("a"), run, Exit::Code(1), false, now);
        if let Some(due) = supervisor.next_deadline() {
            now = due;
            supervisor.tick(now);
        }
    }
    let run = start_one(&mut supervisor, now);
    supervisor.exited(&name("a"), run, Exit::Code(1), false, now);
    assert_eq!(state(&supervisor, "a"), ServiceState::CrashLoop);
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
    supervisor.exited(&name("a"), run, Exit::Signal(9), false, secs(30));
    supervisor.drained(&name("a"), secs(30));
    start_one(&mut supervisor, secs(30));
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
    supervisor.exited(&name("images"), images, Exit::Code(0), false, now);
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
    supervisor.exited(&name("kubelet"), kubelet, Exit::Code(0), false, now);
    supervisor.drained(&name("kubelet"), now);
    assert_eq!(signals(&mut supervisor), ["clear containerd"]);
    supervisor.cleared(&name("containerd"), now);
    assert_eq!(signals(&mut supervisor), ["containerd"]);
    supervisor.exited(&name("containerd"), containerd, Exit::Code(0), false, now);
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
