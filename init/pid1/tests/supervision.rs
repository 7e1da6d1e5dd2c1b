//! Services are started, watched, restarted and ended by a real PID 1.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod namespace;

use std::fs;

use keelson_control::{ServiceState, ShutdownKind};

use crate::namespace::{DEADLINE, Pid1, service, wait, wait_for_state};

const SERVICES: [(&str, &str); 6] = [
    (
        "disk",
        "kind: oneshot\ncommand: [/bin/sh, -c, 'echo early words; exit 0']\nprovides: [storage]",
    ),
    (
        "server",
        "command: [/bin/sh, -c, 'echo E1121 serving; exec sleep 1000']\n\
         needs: {conditions: [storage]}\n\
         ready: {exec: {command: [/bin/sh, -c, 'test -e /run/flag'], intervalMs: 50}}",
    ),
    (
        "client",
        "command: [/bin/sleep, '1000']\nneeds: {services: [server]}",
    ),
    (
        "crasher",
        "command: [/bin/sh, -c, 'echo dying of ${cause}; exit 3']\n\
         needs: {conditions: [storage]}\nrestart: {maxDelaySeconds: 1}",
    ),
    (
        "missing",
        "command: [/nonexistent/program]\nneeds: {conditions: [storage]}",
    ),
    (
        "stubborn",
        // It ignores the signal, leaves an orphan that does the same, and one that ends soon.
        "command: [/bin/sh, -c, 'trap \"\" TERM; (sleep 1000 &); (sleep 0.1 &); while :; do sleep 1; done']\n\
         stop: {timeoutSeconds: 1}",
    ),
];

#[test]
fn services_are_started_watched_restarted_and_stopped() {
    let mut pid1 = Pid1::start(&SERVICES);
    let mut client = pid1.connect();

    // A oneshot raises its condition; needs and readiness gate the rest.
    wait_for_state(&mut client, "disk", ServiceState::Exited);
    assert!(
        client
            .status()
            .unwrap()
            .conditions
            .contains(&"storage".to_owned())
    );
    wait_for_state(&mut client, "server", ServiceState::Starting);
    let waiting = wait_for_state(&mut client, "client", ServiceState::Waiting);
    assert_eq!(waiting.waiting_for, ["server"]);
    fs::write(pid1.folder.path().join("run/flag"), "").unwrap();
    wait_for_state(&mut client, "server", ServiceState::Ready);
    wait_for_state(&mut client, "client", ServiceState::Ready);

    // What cannot start says why; a fact that is missing is such a reason.
    let missing = wait_for_state(&mut client, "missing", ServiceState::CrashLoop);
    let reason = missing.last_exit.unwrap();
    assert!(
        reason.contains("/nonexistent/program: cannot execute the program"),
        "{reason}"
    );
    let crasher = wait_for_state(&mut client, "crasher", ServiceState::CrashLoop);
    let reason = crasher.last_exit.unwrap();
    assert!(reason.contains("unknown fact \"cause\""), "{reason}");
    client
        .set([("cause".to_owned(), "age".to_owned())].into(), &[])
        .unwrap();
    wait("the crasher's words", || {
        let status = client.status().unwrap();
        let crasher = service(&status, "crasher");
        let died = crasher.last_exit.as_deref() == Some("exit code 3");
        (died && crasher.last_lines.contains(&"dying of age".to_owned())).then_some(())
    });

    // A restart is another process.
    let before = wait_for_state(&mut client, "server", ServiceState::Ready).pid;
    client.restart("server").unwrap();
    wait("another process", || {
        let status = client.status().unwrap();
        let server = service(&status, "server");
        (server.state == ServiceState::Ready && server.pid != before).then_some(())
    });
    assert!(
        client
            .restart("nobody")
            .unwrap_err()
            .to_string()
            .contains("no service")
    );

    // Orphans are waited for.
    let outer = pid1.outer_pid();
    wait("all zombies to go", || {
        let children = fs::read_to_string(format!("/proc/{outer}/task/{outer}/children")).ok()?;
        let zombie = children.split_whitespace().any(|pid| {
            fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| stat.contains(") Z "))
        });
        (!zombie).then_some(())
    });

    // Logs: what came before the files existed is in them too.
    wait("the log files", || {
        let early = pid1.log("disk").contains(" I early words\n");
        let level = pid1.log("server").contains(" E E1121 serving\n");
        (early && level).then_some(())
    });

    // The end: in order, and the stubborn one is killed at its deadline.
    client.shutdown(ShutdownKind::PowerOff, "test").unwrap();
    let status = wait("the end", || pid1.process.try_wait().unwrap());
    assert!(status.success(), "{status}");
}

#[test]
fn a_subscriber_hears_what_holds_and_what_changes() {
    let pid1 = Pid1::start(&SERVICES);
    let mut client = pid1.connect();
    wait_for_state(&mut client, "disk", ServiceState::Exited);
    let events = pid1.connect().subscribe().unwrap();
    events.set_timeout(Some(DEADLINE)).unwrap();
    client.set([].into(), &["node-ready"]).unwrap();
    let mut seen = Vec::new();
    for event in events {
        let event = serde_json::to_string(&event.unwrap()).unwrap();
        let last = event.contains("boot-report");
        seen.push(event);
        if last {
            break;
        }
    }
    let has = |part: &str| seen.iter().any(|event| event.contains(part));
    assert!(has("\"condition\":{\"name\":\"storage\",\"raised\":true}"));
    assert!(has("\"phase\":{\"name\":\"disk\""));
    assert!(has(
        "\"condition\":{\"name\":\"node-ready\",\"raised\":true}"
    ));
    let report = fs::read(pid1.folder.path().join("run/keelson/boot-report.json")).unwrap();
    let report: keelson_control::BootReport = serde_json::from_slice(&report).unwrap();
    assert!(report.phases.iter().any(|phase| phase.name == "storage"));
}
