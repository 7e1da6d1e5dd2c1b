//! Connections that are lost: what only looks goes on, what changes something is not done twice.

use std::sync::Arc;

use crate::fake::{FakeNode, Setup};
use crate::pki::Authority;
use crate::program::{Person, Running};

const LATER: &str = "2026-01-31T12:03:00.000Z";

fn node() -> (FakeNode, Person) {
    let authority = Arc::new(Authority::new("test"));
    let node = FakeNode::start(&authority);
    let person = Person::admin(&authority, &[&node.endpoint]);
    (node, person)
}

/// Reads until a line has this text; those before it are given back.
fn until(running: &Running, text: &str) -> Vec<String> {
    let mut before = Vec::new();
    loop {
        let line = running.line();
        if line.contains(text) {
            return before;
        }
        before.push(line);
    }
}

fn is_told(running: &Running, text: &str) {
    let line = running.error_line();
    assert!(line.contains(text), "{line}");
}

#[test]
fn a_stream_goes_on_where_it_was() {
    for (command, shown) in [
        ("logs kubelet containerd -f --tail 7", 2),
        ("dmesg -f", 1),
        ("events --watch", 1),
    ] {
        let (node, person) = node();
        let running = person.start(command);
        for _ in 0..shown {
            running.line();
        }
        for text in ["news-1", "news-2"] {
            node.goes_down();
            is_told(&running, "trying again, at most for 10m");
            node.logs("kubelet", LATER, text);
            node.logs("kernel", LATER, text);
            node.happens(LATER, text);
            node.comes_up();
            is_told(&running, "connected again after");
            // What came at the same time as a line that was shown is not taken for it.
            assert_eq!(until(&running, text), [""; 0], "{command}");
        }
        running.interrupt();
        let ended = running.end();
        assert_eq!(ended.code, Some(130), "{command}");
        assert_eq!((ended.out.as_str(), ended.err.as_str()), ("", ""));
    }
}

#[test]
fn only_what_was_not_shown_is_asked_for_again() {
    let (node, person) = node();
    let running = person.start("logs kubelet -f --tail 7");
    running.line();
    node.goes_down();
    is_told(&running, "trying again");
    node.comes_up();
    is_told(&running, "connected again");
    running.interrupt();
    assert_eq!(running.end().out, "");
    assert_eq!(
        node.calls(),
        [
            "logs tail 7 since ",
            "logs tail 0 since 2026-01-31T12:00:00Z"
        ]
    );
}

#[test]
fn a_node_that_stays_away_is_given_up() {
    let (node, person) = node();
    for (command, shown) in [
        ("logs kubelet -f --reconnect 2s", 1),
        ("get services -w --reconnect 2s", 4),
    ] {
        let running = person.start(command);
        for _ in 0..shown {
            running.line();
        }
        node.goes_down();
        is_told(&running, "trying again, at most for 2s");
        let ended = running.end();
        assert_eq!(ended.code, Some(3), "{command}: {}", ended.err);
        assert_eq!(ended.err.lines().count(), 1, "{}", ended.err);
        node.comes_up();
    }
    // A stream that the node itself ends, and somebody who does not want to wait.
    let ended = person.run("logs ending -f --reconnect 600ms");
    assert_eq!(ended.code, Some(3), "{}", ended.err);
    assert_eq!(ended.out.lines().count(), 1, "{}", ended.out);
    let ended = person.run("logs ending -f --reconnect 0s");
    assert_eq!(ended.code, Some(3));
    assert_eq!(ended.err.lines().count(), 1, "{}", ended.err);
}

#[test]
fn a_node_that_never_answered_is_not_waited_for() {
    let (node, person) = node();
    node.goes_down();
    for command in ["logs kubelet -f", "events -w", "get services -w"] {
        let ended = person.run(command);
        assert_eq!(ended.code, Some(3), "{command}");
        assert_eq!(ended.err.lines().count(), 1, "{}", ended.err);
    }
}

#[test]
fn watching_survives_a_node_that_is_away_for_a_while() {
    let authority = Arc::new(Authority::new("test"));
    let named = |name| Setup {
        name,
        ..Setup::new(&authority)
    };
    let nodes = ["node-1", "node-2"].map(|name| FakeNode::with(&authority, named(name)));
    let person = Person::admin(&authority, &[&nodes[0].endpoint, &nodes[1].endpoint]);
    let running = person.start("get services -w");
    until(&running, &nodes[1].endpoint);
    nodes[1].goes_down();
    is_told(&running, "trying again");
    // The other one is shown meanwhile, and the loss is told once.
    for _ in 0..2 {
        until(&running, &nodes[0].endpoint);
        until(&running, "NODE");
    }
    nodes[1].comes_up();
    is_told(&running, "connected again");
    until(&running, &nodes[1].endpoint);
    running.interrupt();
    assert_eq!(running.end().err, "");
}

#[test]
fn a_question_is_asked_again_and_an_order_is_not() {
    let (node, person) = node();
    for command in [
        "status",
        "get services",
        "config show",
        "config schema",
        "metrics",
        "kubeconfig",
    ] {
        node.breaks(1);
        let ended = person.run(command);
        assert_eq!(ended.code, Some(0), "{command}: {}", ended.err);
        node.breaks(2);
        let ended = person.run(command);
        assert_eq!(ended.code, Some(3), "{command}: {}", ended.err);
    }
    person.file("new.yaml", crate::fake::CONFIGURATION);
    for command in ["restart kubelet", "reboot", "apply -f new.yaml"] {
        node.breaks(1);
        let ended = person.run(command);
        assert_eq!(ended.code, Some(3), "{command}: {}", ended.err);
    }
    assert_eq!(node.calls(), [""; 0]);
}
