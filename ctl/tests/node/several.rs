//! Several nodes at once.

use std::net::TcpListener;
use std::sync::Arc;

use crate::fake::{FakeNode, Setup};
use crate::pki::Authority;
use crate::program::Person;

/// Two nodes that work and an address where nothing listens.
struct Three {
    nodes: [FakeNode; 2],
    down: String,
    person: Person,
}

fn three() -> Three {
    let authority = Arc::new(Authority::new("test"));
    let named = |name| Setup {
        name,
        ..Setup::new(&authority)
    };
    let nodes = ["node-1", "node-2"].map(|name| FakeNode::with(&authority, named(name)));
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let down = listener.local_addr().unwrap().to_string();
    let person = Person::admin(&authority, &[&nodes[0].endpoint, &down, &nodes[1].endpoint]);
    Three {
        nodes,
        down,
        person,
    }
}

#[test]
fn one_node_that_is_down_hides_nothing() {
    let three = three();
    let ended = three.person.run("status");
    assert_eq!(ended.code, Some(6), "{}", ended.err);
    let lines: Vec<&str> = ended.out.lines().collect();
    assert_eq!(lines.len(), 3, "{}", ended.out);
    assert!(lines[0].starts_with("NODE"), "{}", ended.out);
    for (line, node, name) in [(lines[1], 0, "node-1"), (lines[2], 1, "node-2")] {
        assert!(line.starts_with(&three.nodes[node].endpoint), "{line}");
        assert!(line.contains(name), "{line}");
    }
    assert!(
        ended
            .err
            .contains(&format!("{}: nothing listens", three.down)),
        "{}",
        ended.err
    );

    let ended = three.person.run("status -o json");
    assert_eq!(ended.code, Some(6));
    let json: serde_json::Value = serde_json::from_str(&ended.out).unwrap();
    assert_eq!(json[0]["answer"]["nodeName"], "node-1");
    assert_eq!(json[1]["node"], three.down);
    assert!(
        json[1]["error"]
            .as_str()
            .unwrap()
            .contains("nothing listens")
    );
    assert_eq!(json[2]["answer"]["nodeName"], "node-2");
}

#[test]
fn lines_say_which_node_they_are_from() {
    let three = three();
    let ended = three.person.run("logs kubelet");
    assert_eq!(ended.code, Some(6));
    for node in &three.nodes {
        let prefix = format!("{}   2026-01-31", node.endpoint);
        assert!(
            ended.out.lines().any(|line| line.starts_with(&prefix)),
            "{}",
            ended.out
        );
    }
    let ended = three.person.run("describe service kubelet");
    assert_eq!(
        ended.out.matches("== 127.0.0.1:").count(),
        2,
        "{}",
        ended.out
    );
}

#[test]
fn nodes_that_all_fail_alike_have_that_exit_code() {
    let three = three();
    let only_down = format!("status --node {}", three.down);
    assert_eq!(three.person.run(&only_down).code, Some(3));
    let both = format!("{only_down} -n 127.0.0.1:1");
    assert_eq!(three.person.run(&both).code, Some(3));
    // What every node answers alike is asked of one that can be reached.
    let ended = three.person.run("kubeconfig");
    assert_eq!(ended.code, Some(0), "{}", ended.err);
    assert!(ended.out.contains("kind: Config"));
}

#[test]
fn changes_go_only_to_nodes_that_are_named() {
    let three = three();
    for command in [
        "restart kubelet",
        "reboot",
        "shutdown",
        "config revert",
        "apply -f x",
    ] {
        three.person.file("x", "");
        let ended = three.person.run(command);
        assert_eq!(ended.code, Some(2), "{command}: {}", ended.err);
        assert!(ended.err.contains("--node"), "{command}: {}", ended.err);
    }
    let ended = three
        .person
        .run(&format!("restart kubelet -n {}", three.nodes[1].endpoint));
    assert_eq!(ended.code, Some(0), "{}", ended.err);
    assert_eq!(three.nodes[0].calls(), [""; 0]);
    assert_eq!(three.nodes[1].calls(), ["restart kubelet"]);
    let both = format!(
        "restart kubelet -n {} -n {}",
        three.nodes[0].endpoint, three.nodes[1].endpoint
    );
    assert_eq!(three.person.run(&both).code, Some(0));
    assert_eq!(three.nodes[0].calls(), ["restart kubelet"]);
}
