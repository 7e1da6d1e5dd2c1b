//! Services that hang, are silent or are halted.

use std::collections::BTreeMap;

use keelson_service::Signal;

use super::*;
use crate::hangs::{MOST, WINDOW};
use crate::{Notice, ProbeKind};

const LIVENESS: &str =
    "liveness: {exec: {command: [/bin/p], intervalSeconds: 30, timeoutSeconds: 15, failures: 2}}";

const WATCHDOG: &str = "ready: {notify: {}}\nwatchdogSeconds: 10";

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
    fail_checks(&mut supervisor, "live", runs["live"], secs(10), 2);
    assert_eq!(state(&supervisor, "live"), ServiceState::Stopping);
}

/// Lets checks fail with a bad answer as soon as they are due; returns the time of the last.
fn fail_checks(
    supervisor: &mut Supervisor,
    service: &str,
    run: RunId,
    mut now: Duration,
    count: u32,
) -> Duration {
    let probe = Action::Probe {
        service: name(service),
        run,
        kind: ProbeKind::Liveness,
    };
    for number in 0..count {
        if number > 0 {
            now = supervisor.next_deadline().unwrap();
        }
        supervisor.tick(now);
        assert!(
            actions(supervisor).contains(&probe),
            "check {number} is not made"
        );
        supervisor.probed(&name(service), run, false, now);
    }
    now
}

#[test]
fn a_halted_process_is_killed_at_once_and_comes_back_without_delay() {
    let mut supervisor = supervisor(&[("whole", ""), ("main", "stop: {killCgroup: false}")]);
    supervisor.begin(secs(0));
    for (service, run) in started(&mut supervisor) {
        supervisor.spawned(&name(&service), run, 7, secs(0));
        let now = secs(100);
        supervisor.suspended(&name(&service), RunId(999), "SIGSTOP", now);
        assert_eq!(
            state(&supervisor, &service),
            ServiceState::Ready,
            "another run"
        );
        supervisor.suspended(&name(&service), run, "SIGSTOP", now);
        let service = name(&service);
        let kill = match service.as_str() {
            "whole" => Action::KillCgroup {
                service: service.clone(),
            },
            _ => Action::KillMain {
                service: service.clone(),
                run,
            },
        };
        assert!(actions(&mut supervisor).contains(&kill));
        supervisor.exited(&service, run, Exit::Signal(9), false, now);
        supervisor.drained(&service, now);
        let done = actions(&mut supervisor);
        let reason = Reason::Suspended("SIGSTOP".to_owned());
        assert_eq!(reasons(&done, service.as_str()), [Some(reason)]);
        assert!(
            done.iter()
                .any(|action| matches!(action, Action::Start { .. }))
        );
    }
}

#[test]
fn a_halted_process_does_not_hold_up_its_stop() {
    let mut supervisor = supervisor(&[("a", "stop: {timeoutSeconds: 60}")]);
    supervisor.begin(secs(0));
    let run = start_one(&mut supervisor, secs(0));
    supervisor.stop("a", secs(1)).unwrap();
    actions(&mut supervisor);
    supervisor.suspended(&name("a"), run, "SIGSTOP", secs(2));
    let kill = Action::KillCgroup { service: name("a") };
    assert!(actions(&mut supervisor).contains(&kill));
    supervisor.exited(&name("a"), run, Exit::Signal(9), false, secs(2));
    supervisor.drained(&name("a"), secs(2));
    assert_eq!(state(&supervisor, "a"), ServiceState::Stopped);
}

#[test]
fn a_failed_check_is_repeated_sooner() {
    let mut supervisor = supervisor(&[("a", LIVENESS)]);
    supervisor.begin(secs(0));
    let run = start_one(&mut supervisor, secs(0));
    fail_checks(&mut supervisor, "a", run, secs(30), 1);
    assert_eq!(supervisor.next_deadline(), Some(secs(40)));
    supervisor.tick(secs(40));
    supervisor.probed(&name("a"), run, true, secs(41));
    assert_eq!(supervisor.next_deadline(), Some(secs(71)));
}

#[test]
fn checks_of_a_stalled_machine_are_given_more_time_but_not_for_ever() {
    let mut supervisor = supervisor(&[("a", LIVENESS)]);
    supervisor.begin(secs(0));
    let run = start_one(&mut supervisor, secs(0));
    supervisor.set_stalled(true);
    let now = fail_checks(&mut supervisor, "a", run, secs(30), 7);
    assert_eq!(state(&supervisor, "a"), ServiceState::Ready);
    fail_checks(&mut supervisor, "a", run, now + secs(10), 1);
    assert_eq!(state(&supervisor, "a"), ServiceState::Stopping);
}

#[test]
fn one_that_is_late_while_another_is_late_is_given_more_time() {
    let mut supervisor = supervisor(&[("a", LIVENESS), ("b", LIVENESS)]);
    supervisor.begin(secs(0));
    for (service, run) in started(&mut supervisor) {
        supervisor.spawned(&name(&service), run, 7, secs(0));
    }
    // Nobody answers in time, twice.
    for time in [30, 45, 55, 70] {
        supervisor.tick(secs(time));
    }
    for service in ["a", "b"] {
        assert_eq!(
            state(&supervisor, service),
            ServiceState::Ready,
            "{service}"
        );
    }
    while state(&supervisor, "a") == ServiceState::Ready {
        let due = supervisor.next_deadline().unwrap();
        assert!(due < secs(600), "waits for ever");
        supervisor.tick(due);
    }
}

#[test]
fn a_silent_service_of_a_stalled_machine_is_given_more_time() {
    let mut supervisor = supervisor(&[("dog", WATCHDOG)]);
    supervisor.begin(secs(0));
    start_one(&mut supervisor, secs(0));
    // What it says before it is ready arms nothing.
    supervisor.notified(&name("dog"), Notice::Watchdog, secs(1));
    assert_eq!(supervisor.next_deadline(), None);
    supervisor.notified(&name("dog"), Notice::Ready, secs(2));
    supervisor.set_stalled(true);
    for time in [12, 22, 32] {
        supervisor.tick(secs(time));
        assert_eq!(state(&supervisor, "dog"), ServiceState::Ready, "{time}");
    }
    actions(&mut supervisor);
    supervisor.tick(secs(42));
    assert_eq!(state(&supervisor, "dog"), ServiceState::Stopping);
    let told = actions(&mut supervisor);
    let says = |text: &str| {
        told.iter()
            .any(|action| matches!(action, Action::Report { text: t, .. } if t.contains(text)))
    };
    assert!(says("silent for 40 s"), "{told:?}");
}

#[test]
fn restarts_of_what_hangs_are_bounded_and_then_it_is_left_alone() {
    let mut supervisor = supervisor(&[("dog", WATCHDOG)]);
    let mut now = secs(0);
    supervisor.begin(now);
    let mut hangs = Vec::new();
    let mut spared = 0;
    let mut states = Vec::new();
    while now < WINDOW * 4 {
        while let Some(action) = supervisor.next_action() {
            match action {
                Action::Start { service, run } => {
                    supervisor.spawned(&service, run, 7, now);
                    supervisor.notified(&service, Notice::Ready, now);
                }
                Action::Signal { service, run, .. } => {
                    hangs.push(now);
                    supervisor.exited(&service, run, Exit::Signal(6), false, now);
                    supervisor.drained(&service, now);
                    states.push(state(&supervisor, "dog"));
                }
                Action::Report { text, .. } if text.contains("leaving it") => spared += 1,
                _ => {}
            }
        }
        now = supervisor.next_deadline().unwrap().max(now);
        supervisor.tick(now);
    }
    for (first, later) in hangs.iter().zip(hangs.iter().skip(MOST)) {
        assert!(*later - *first >= WINDOW, "{hangs:?}");
    }
    assert!(hangs.len() > MOST * 3, "it is tried again: {hangs:?}");
    assert!((1..=hangs.len()).contains(&spared), "told {spared} times");
    // It never worked for long, however long each run lasted.
    assert_eq!(states.last(), Some(&ServiceState::CrashLoop));
}
