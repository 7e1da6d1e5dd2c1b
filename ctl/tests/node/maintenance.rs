//! A node in maintenance: trusted by fingerprint, given its configuration with the code.

use std::sync::Arc;

use keelson_api::access::Role;
use keelson_client::{Contexts, Fingerprint};

use crate::answers::CODE;
use crate::fake::{CONFIGURATION, FakeNode, Setup};
use crate::pki::{Authority, certificate};
use crate::program::Person;

/// The node, and the fingerprints of its own certificate and of its authority.
fn node() -> (FakeNode, [Fingerprint; 2]) {
    let authority = Arc::new(Authority::new("test"));
    let setup = Setup {
        shown_authority: Some(authority.pem.clone()),
        role: Role::Maintenance,
        ..Setup::new(&authority)
    };
    let fingerprints =
        [&setup.serving.certificate, &authority.pem].map(|pem| Fingerprint::of(&certificate(pem)));
    (FakeNode::with(&authority, setup), fingerprints)
}

#[test]
fn the_code_gives_a_configuration_and_makes_an_admin() {
    let (node, [own, _]) = node();
    let person = Person::stranger();
    person.file("first.yaml", CONFIGURATION);
    let endpoint = &node.endpoint;
    let wrong = person.run(&format!(
        "apply -f first.yaml -n {endpoint} --code X --fingerprint {own}"
    ));
    assert_eq!(wrong.code, Some(4), "{}", wrong.err);
    assert!(wrong.err.contains("the code is wrong"), "{}", wrong.err);
    assert!(
        Contexts::load(&person.contexts)
            .unwrap()
            .contexts
            .is_empty()
    );

    let apply = format!("apply -f first.yaml -n {endpoint} --code {CODE} --fingerprint {own}");
    let ended = person.run(&apply);
    assert_eq!(ended.code, Some(0), "{}", ended.err);
    assert_eq!(node.calls(), ["first configuration by ana"]);
    let contexts = Contexts::load(&person.contexts).unwrap();
    assert_eq!(contexts.current.as_deref(), Some("node-1"));
    assert_eq!(
        contexts.contexts["node-1"].endpoints[0].to_string(),
        *endpoint
    );
    let list = person.run("config contexts");
    assert!(list.out.contains("ana      admin"), "{}", list.out);
    // Once more would throw that certificate away.
    assert_eq!(person.run(&apply).code, Some(2));
    assert_eq!(node.calls().len(), 1);
}

#[test]
fn own_certificate_or_authority_may_be_pinned_and_nothing_else() {
    let (node, fingerprints) = node();
    let person = Person::stranger();
    for fingerprint in fingerprints {
        for command in ["version", "get disks"] {
            let command = format!("{command} -n {} --fingerprint {fingerprint}", node.endpoint);
            let ended = person.run(&command);
            assert_eq!(ended.code, Some(0), "{command}: {}", ended.err);
        }
    }
    let other = Fingerprint::of(b"other");
    let ended = person.run(&format!(
        "version -n {} --fingerprint {other}",
        node.endpoint
    ));
    assert_eq!(ended.code, Some(3));
    assert!(
        ended
            .err
            .contains("none of its certificates has the fingerprint"),
        "{}",
        ended.err
    );
    let own = fingerprints[0];
    let ended = person.run(&format!(
        "get services -n {} --fingerprint {own}",
        node.endpoint
    ));
    assert_eq!(ended.code, Some(4));
    assert!(
        ended.err.contains("needs a client certificate"),
        "{}",
        ended.err
    );
    assert_eq!(
        person.run(&format!("version --fingerprint {own}")).code,
        Some(2)
    );
}

#[test]
fn without_a_terminal_the_fingerprint_must_be_given() {
    let (node, _) = node();
    let person = Person::stranger();
    person.file("first.yaml", CONFIGURATION);
    let ended = person.run(&format!(
        "apply -f first.yaml -n {} --code {CODE}",
        node.endpoint
    ));
    assert_eq!(ended.code, Some(2), "{}", ended.err);
    assert!(ended.err.contains("--fingerprint"), "{}", ended.err);
    let ended = person.run(&format!("apply -f first.yaml --code {CODE}"));
    assert_eq!(ended.code, Some(2), "{}", ended.err);
    assert_eq!(node.calls(), [""; 0]);
}
