//! What somebody in front of a terminal sees and answers.

use std::sync::Arc;

use keelson_api::access::Role;
use keelson_client::{Contexts, Fingerprint};
use keelson_config::NodeConfig;

use crate::answers::CODE;
use crate::fake::{CONFIGURATION, FakeNode, Setup};
use crate::pki::{Authority, certificate};
use crate::program::Person;

fn node() -> (FakeNode, Person) {
    let authority = Arc::new(Authority::new("test"));
    let node = FakeNode::start(&authority);
    let person = Person::admin(&authority, &[&node.endpoint]);
    (node, person)
}

#[test]
fn colours_are_for_terminals_that_want_them() {
    let (_node, person) = node();
    let coloured = "\u{1b}[32mready\u{1b}[0m";
    let (code, screen) = person.start_on_terminal("get services").end();
    assert_eq!(code, Some(0), "{screen}");
    assert!(screen.contains(coloured), "{screen}");
    let (_, screen) = person.start_on_terminal("get services --no-color").end();
    assert!(
        !screen.contains('\u{1b}') && screen.contains("ready"),
        "{screen}"
    );
    let piped = person.run("get services");
    assert!(!piped.out.contains('\u{1b}'), "{}", piped.out);
    let (_, screen) = person.start_on_terminal("cat /file").end();
    assert!(
        screen.contains("one") && screen.contains("\\u{0}"),
        "{screen:?}"
    );
}

#[test]
fn watching_redraws_the_screen() {
    let (_node, person) = node();
    let mut watching = person.start_on_terminal("get services -w");
    for _ in 0..2 {
        watching.shows("\u{1b}[H\u{1b}[J20");
        watching.shows("  containerd");
    }
    watching.interrupt();
    assert_eq!(watching.end().0, Some(130));
}

#[test]
fn a_fingerprint_is_shown_and_compared() {
    let authority = Arc::new(Authority::new("test"));
    let setup = Setup {
        role: Role::Maintenance,
        ..Setup::new(&authority)
    };
    let own = Fingerprint::of(&certificate(&setup.serving.certificate)).to_string();
    let node = FakeNode::with(&authority, setup);
    let person = Person::stranger();
    person.file("first.yaml", CONFIGURATION);
    let apply = format!("apply -f first.yaml -n {} --code {CODE}", node.endpoint);
    for answer in ["n\n", "\n", "\u{4}"] {
        let mut asked = person.start_on_terminal(&apply);
        asked.shows(&own);
        asked.shows("[y/N] ");
        asked.types(answer);
        let (code, screen) = asked.end();
        assert_eq!(code, Some(1), "{screen}");
        assert!(screen.contains("nothing was sent"), "{screen}");
    }
    let mut asked = person.start_on_terminal(&apply);
    asked.shows("[y/N] ");
    asked.interrupt();
    assert_eq!(asked.end().0, Some(130));
    assert_eq!(node.calls(), [""; 0]);

    let mut asked = person.start_on_terminal(&apply);
    asked.shows("[y/N] ");
    asked.types("y\n");
    let (code, screen) = asked.end();
    assert_eq!(code, Some(0), "{screen}");
    let contexts = Contexts::load(&person.contexts).unwrap();
    assert!(contexts.contexts.contains_key("node-1"));
}

#[test]
fn a_trial_can_be_decided_where_it_was_begun() {
    let (node, person) = node();
    let new = CONFIGURATION.replace("node-1", "node-2");
    person.file("new.yaml", &new);
    for (answer, left) in [("n\n", CONFIGURATION), ("what?\ny\n", &new)] {
        let mut trying = person.start_on_terminal("apply -f new.yaml --try 2m");
        trying.shows("y or n and Enter");
        assert_eq!(node.configuration(), new);
        trying.types(answer);
        let (code, screen) = trying.end();
        assert_eq!(code, Some(0), "{screen}");
        assert_eq!(node.configuration(), left);
    }
}

#[test]
fn a_reset_wants_the_name_typed() {
    let (node, person) = node();
    let mut asked = person.start_on_terminal("reset --partitions DATA");
    asked.shows("This erases DATA of node-1. Type the node's name to go on: ");
    asked.types("node-2\n");
    let (code, screen) = asked.end();
    assert_eq!(code, Some(1), "{screen}");
    assert_eq!(node.calls(), [""; 0]);
    let mut asked = person.start_on_terminal("reset --partitions DATA");
    asked.shows("go on: ");
    asked.types("node-1\n");
    assert_eq!(asked.end().0, Some(0));
    let mut asked = person.start_on_terminal("reset --partitions STATE --name node-1");
    asked.shows("Erase STATE of node-1");
    asked.types("y\n");
    assert_eq!(asked.end().0, Some(0));
    assert_eq!(node.calls(), ["reset DATA", "reset STATE"]);
}

#[test]
fn broken_text_can_be_edited_again() {
    let (node, person) = node();
    // Breaks the text the first time and repairs it the second.
    let editor = person.file(
        "editor",
        "if grep -q hostname \"$1\"; then sed -i s/hostname/hostnam/ \"$1\"; else sed -i 's/hostnam: .*/hostname: new/' \"$1\"; fi\n",
    );
    let command = format!("sh {}", editor.display());
    let mut editing = person.start_on_terminal_with("edit config", &[("EDITOR", &command)]);
    editing.shows(":3:1: hostnam");
    editing.shows("Edit it again? [y/N] ");
    editing.types("y\n");
    let (code, screen) = editing.end();
    assert_eq!(code, Some(0), "{screen}");
    assert!(node.configuration().contains("hostname: new"));
}

#[test]
fn a_few_answers_make_a_configuration() {
    let person = Person::stranger();
    let mut asked = person.start_on_terminal("config new -o made.yaml");
    for (question, answer) in [
        ("Host name", "no name!"),
        ("Host name", "node-1"),
        ("DHCP", "static"),
        ("interface", "eth0"),
        ("Address", "192.0.2.10"),
        ("Address", "192.0.2.10/24"),
        ("Gateway", "192.0.2.1"),
        ("DNS", ""),
        ("Name of the cluster", "home"),
        ("Datastore", "sqlite"),
    ] {
        asked.shows(question);
        asked.shows(": ");
        asked.types(&format!("{answer}\n"));
    }
    let (code, screen) = asked.end();
    assert_eq!(code, Some(0), "{screen}");
    let text = std::fs::read_to_string(person.folder.path().join("made.yaml")).unwrap();
    let config = NodeConfig::parse(&text, "made").unwrap();
    assert_eq!(config.hostname.unwrap().as_str(), "node-1");
    assert_eq!(
        config.network.interfaces[0].addresses[0].to_string(),
        "192.0.2.10/24"
    );
    assert_eq!(config.cluster.datastore.as_str(), "sqlite");
}
