//! Verbs that only look, at one node.

use std::sync::Arc;

use crate::fake::{FakeNode, Setup};
use crate::pki::Authority;
use crate::program::Person;

fn node() -> (FakeNode, Person) {
    let authority = Arc::new(Authority::new("test"));
    let node = FakeNode::start(&authority);
    let person = Person::admin(&authority, &[&node.endpoint]);
    (node, person)
}

#[track_caller]
fn shows(person: &Person, command: &str, wanted: &[&str]) {
    let ended = person.run(command);
    assert_eq!(ended.code, Some(0), "{command}: {}", ended.err);
    for text in wanted {
        assert!(
            ended.out.contains(text),
            "{command} shows no {text:?}:\n{}",
            ended.out
        );
    }
}

#[test]
fn tables_show_what_the_node_says() {
    let (_node, person) = node();
    shows(&person, "version", &["VERSION", "0.1.0", "0123456789ab "]);
    shows(&person, "version -o wide", &["kubernetes 1.37.1"]);
    shows(
        &person,
        "status",
        &[
            "node-1",
            "2 of 3 ready; not ready: kube-proxy",
            "512.0 MiB of 1.0 GiB",
            "3m12s",
        ],
    );
    shows(&person, "boot-report", &["0.812 s", "stage 1", "21.500 s"]);
    shows(&person, "health", &["datastore", "passed"]);
    shows(
        &person,
        "get services",
        &["containerd   ready", "crash-loop", "3.0 MiB"],
    );
    shows(
        &person,
        "get services -o wide",
        &["2026-01-31T12:00:00.000Z", "512"],
    );
    shows(&person, "get ps -o wide", &["/keelson init"]);
    shows(&person, "get disks", &["/dev/vda", "4.0 GiB", "system"]);
    shows(&person, "get sockets", &["listen", "established"]);
    shows(&person, "cert list", &["apid/serving", "over"]);
    shows(&person, "metrics", &["keelson_restarts_total 1\n"]);
    shows(&person, "ls /var", &["log/", "run -> /var"]);
    shows(
        &person,
        "config contexts",
        &["*         test   ana      admin", "23h"],
    );
    shows(
        &person,
        "describe service kubelet",
        &[
            "restarts        1",
            "signal 9 (SIGKILL) after 3m12s: 3 liveness checks in a row failed",
            "    cannot go on",
        ],
    );
}

#[test]
fn listening_is_asked_of_the_node_and_only_for_sockets() {
    let (_node, person) = node();
    let ended = person.run("get sockets --listening");
    assert!(!ended.out.contains("established"), "{}", ended.out);
    assert_eq!(person.run("get disks --listening").code, Some(2));
}

#[test]
fn every_resource_has_its_forms() {
    let (_node, person) = node();
    for resource in [
        "addresses",
        "addr",
        "certificates",
        "cert",
        "cgroups",
        "cg",
        "config",
        "disks",
        "disk",
        "events",
        "ev",
        "memory",
        "mem",
        "mounts",
        "mount",
        "processes",
        "ps",
        "routes",
        "route",
        "services",
        "svc",
        "sockets",
        "ss",
    ] {
        for form in ["table", "wide", "json", "yaml"] {
            let ended = person.run(&format!("get {resource} -o {form}"));
            assert_eq!(
                ended.code,
                Some(0),
                "get {resource} -o {form}: {}",
                ended.err
            );
            match form {
                "json" => drop(serde_json::from_str::<serde_json::Value>(&ended.out).unwrap()),
                "yaml" => drop(serde_saphyr::from_str::<serde_json::Value>(&ended.out).unwrap()),
                _ => assert!(!ended.out.is_empty()),
            }
        }
    }
}

#[test]
fn json_is_the_message_of_the_api() {
    let (_node, person) = node();
    let ended = person.run("get services -o json");
    let json: serde_json::Value = serde_json::from_str(&ended.out).unwrap();
    assert_eq!(json["services"][1]["state"], "crash-loop");
    assert_eq!(json["services"][0]["memoryBytes"], 3 << 20);
    let ended = person.run("config show -o json");
    let json: serde_json::Value = serde_json::from_str(&ended.out).unwrap();
    assert_eq!(json["hostname"], "node-1");
    let ended = person.run("get events -o json");
    let json: serde_json::Value = serde_json::from_str(&ended.out).unwrap();
    assert_eq!(json["events"][0]["subject"], "kubelet");
}

#[test]
fn an_unhealthy_node_has_its_own_exit_code() {
    let authority = Arc::new(Authority::new("test"));
    let setup = Setup {
        healthy: false,
        ..Setup::new(&authority)
    };
    let node = FakeNode::with(&authority, setup);
    let person = Person::admin(&authority, &[&node.endpoint]);
    for command in ["health", "health -o json"] {
        let ended = person.run(command);
        assert_eq!(ended.code, Some(5), "{}", ended.err);
        assert!(ended.out.contains("looked at its socket"));
    }
}

#[test]
fn what_is_not_there_is_an_error_in_the_nodes_words() {
    let (_node, person) = node();
    let ended = person.run("describe service nothing");
    assert_eq!(ended.code, Some(1));
    assert!(
        ended.err.contains("there is no service \"nothing\""),
        "{}",
        ended.err
    );
    let ended = person.run("cat /secret");
    assert_eq!(ended.code, Some(4));
    assert!(ended.err.contains("/secret holds keys"), "{}", ended.err);
}

#[test]
fn streams_that_end_are_printed_whole() {
    let (node, person) = node();
    let ended = person.run("logs kubelet containerd --tail 5 --since 2026-01-31T00:00:00Z");
    assert_eq!(ended.code, Some(0), "{}", ended.err);
    assert_eq!(
        ended.out,
        "2026-01-31T12:00:00.000Z error kubelet a line\\u{1b}[2J\n\
         2026-01-31T12:00:00.000Z error containerd a line\\u{1b}[2J\n"
    );
    assert!(
        node.calls()
            .contains(&"logs tail 5 since 2026-01-31T00:00:00Z".to_owned())
    );
    shows(&person, "dmesg", &["info  Linux version 6.18\n"]);
    shows(
        &person,
        "events --kind service --kind boot",
        &["service       kubelet: ready\n"],
    );
    assert!(
        node.calls()
            .contains(&"events [\"service\", \"boot\"] 0".to_owned())
    );
    let ended = person.run("logs kubelet containerd -o json");
    for line in ended.out.lines() {
        let json: serde_json::Value = serde_json::from_str(line).unwrap();
        assert_eq!(json["level"], "error");
    }
    assert_eq!(ended.out.lines().count(), 2);
    // Bytes arrive as they are.
    assert_eq!(person.run("cat /file").out, "one\n\u{0}\u{ff}\ntwo");
}

#[test]
fn streams_end_at_ctrl_c() {
    let (_node, person) = node();
    for command in [
        "logs kubelet -f",
        "dmesg -f",
        "events --watch",
        "get services --watch",
    ] {
        let running = person.start(command);
        running.line();
        running.interrupt();
        let ended = running.end();
        assert_eq!(ended.code, Some(130), "{command}: {}", ended.err);
    }
}

#[test]
fn watching_without_a_terminal_prints_one_table_after_the_other() {
    let (_node, person) = node();
    let running = person.start("get services -w");
    let two: Vec<String> = (0..7).map(|_| running.line()).collect();
    assert!(two[0].starts_with("NAME") && two[4] == two[0], "{two:?}");
    assert_eq!(two[3], "\n");
    assert!(!two.concat().contains('\u{1b}'), "{two:?}");
}

#[test]
fn who_reads_no_more_is_no_failure() {
    let (_node, person) = node();
    let script = format!("{} get services | true", env!("CARGO_BIN_EXE_keelsonctl"));
    let output = std::process::Command::new("bash")
        .args(["-c", &format!("set -o pipefail; {script}")])
        .env("KEELSONCONFIG", &person.contexts)
        .output()
        .unwrap();
    let err = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && err.is_empty(), "{err}");
}
