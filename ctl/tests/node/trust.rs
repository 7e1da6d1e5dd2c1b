//! Who may speak with whom, and what is said when that fails.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::Arc;

use keelson_api::access::Role;
use keelson_client::Context;
use time::Duration;

use crate::fake::{FakeNode, Setup};
use crate::pki::Authority;
use crate::program::{Person, context};

#[track_caller]
fn fails(person: &Person, command: &str, code: i32, words: &str) {
    let ended = person.run(command);
    assert_eq!(ended.code, Some(code), "{command}: {}", ended.err);
    assert!(ended.err.contains(words), "no {words:?} in: {}", ended.err);
    assert_eq!(ended.out, "");
}

#[test]
fn a_node_of_another_authority_is_not_trusted() {
    let [ours, theirs] = ["ours", "theirs"].map(|name| Arc::new(Authority::new(name)));
    let node = FakeNode::start(&theirs);
    let person = Person::admin(&ours, &[&node.endpoint]);
    fails(
        &person,
        "status",
        3,
        "not signed by the authority of the context",
    );
    assert_eq!(node.calls(), [""; 0]);
}

#[test]
fn a_node_whose_certificate_is_over_is_not_trusted() {
    let authority = Arc::new(Authority::new("test"));
    let setup = Setup {
        serving: authority.server(&["127.0.0.1"], -Duration::hours(1)),
        ..Setup::new(&authority)
    };
    let node = FakeNode::with(&authority, setup);
    let person = Person::admin(&authority, &[&node.endpoint]);
    fails(&person, "status", 3, "not valid at this time");
}

#[test]
fn a_node_with_another_name_needs_the_server_name() {
    let authority = Arc::new(Authority::new("test"));
    let setup = Setup {
        serving: authority.server(&["node-1"], Duration::days(1)),
        ..Setup::new(&authority)
    };
    let node = FakeNode::with(&authority, setup);
    let person = Person::admin(&authority, &[&node.endpoint]);
    fails(&person, "status", 3, "serverName");
    person.save(Context {
        server_name: Some("node-1".to_owned()),
        ..context(&authority, &[&node.endpoint])
    });
    assert_eq!(person.run("status").code, Some(0));
}

#[test]
fn an_expired_certificate_of_ones_own_is_noticed_before_connecting() {
    let authority = Arc::new(Authority::new("test"));
    let node = FakeNode::start(&authority);
    let person = Person::stranger();
    let expired = authority.person("ana", Role::Admin, -Duration::hours(1));
    person.save(Context {
        certificate: expired.certificate,
        key: expired.key,
        ..context(&authority, &[&node.endpoint])
    });
    fails(&person, "status", 4, "your certificate (ana) expired on");
    assert_eq!(node.connections(), 0);
}

#[test]
fn a_certificate_of_another_authority_is_refused_by_the_node() {
    let [ours, theirs] = ["ours", "theirs"].map(|name| Arc::new(Authority::new(name)));
    let node = FakeNode::start(&ours);
    let person = Person::stranger();
    person.save(Context {
        authority: ours.pem.clone(),
        ..context(&theirs, &[&node.endpoint])
    });
    // The node says so while the first call is under way, in one of two orders.
    for _ in 0..10 {
        fails(&person, "status", 4, "does not accept your certificate");
        fails(&person, "logs -f x", 4, "does not accept your certificate");
    }
}

#[test]
fn a_role_that_is_too_low_is_named() {
    let authority = Arc::new(Authority::new("test"));
    let setup = Setup {
        role: Role::Reader,
        ..Setup::new(&authority)
    };
    let node = FakeNode::with(&authority, setup);
    let person = Person::admin(&authority, &[&node.endpoint]);
    fails(
        &person,
        "restart kubelet",
        4,
        "this call needs the role operator",
    );
    fails(&person, "kubeconfig", 4, "this call needs the role admin");
    assert_eq!(person.run("get services").code, Some(0));
    assert_eq!(node.calls(), [""; 0]);
}

#[test]
fn without_a_usable_context_it_says_what_to_do() {
    let person = Person::stranger();
    fails(&person, "status", 2, "there is no context yet");
    fails(&person, "config contexts", 2, "there is no context yet");
    fails(
        &person,
        "status --fingerprint x",
        2,
        "64 hexadecimal digits",
    );
    let authority = Authority::new("test");
    person.save(context(&authority, &["127.0.0.1:1"]));
    fails(&person, "status --context other", 2, "there are: test");
    std::fs::write(&person.contexts, "contexts: {}\ncolour: red\n").unwrap();
    fails(&person, "status", 2, "is not a contexts file");
}

#[test]
fn a_node_that_says_nothing_is_given_up() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = listener.local_addr().unwrap().to_string();
    let authority = Arc::new(Authority::new("test"));
    let person = Person::admin(&authority, &[&endpoint]);
    fails(&person, "status", 3, "no answer within 10 s");
}

#[test]
fn another_kind_of_server_is_recognized() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = listener.local_addr().unwrap().to_string();
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let _ = stream.read(&mut [0; 64]);
        stream
            .write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            .unwrap();
    });
    let authority = Arc::new(Authority::new("test"));
    let person = Person::admin(&authority, &[&endpoint]);
    fails(&person, "status", 3, "is this the port of a node's API?");
    server.join().unwrap();
}

#[test]
fn a_call_that_hangs_ends_with_the_timeout() {
    let authority = Arc::new(Authority::new("test"));
    let node = FakeNode::start(&authority);
    let person = Person::admin(&authority, &[&node.endpoint]);
    fails(
        &person,
        "stop slow --timeout 300ms",
        3,
        "no answer within 0.3 s",
    );
}
