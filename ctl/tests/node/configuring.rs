//! Verbs on the node's configuration.

use std::sync::Arc;

use crate::fake::{CONFIGURATION, FakeNode};
use crate::pki::Authority;
use crate::program::Person;

const NEW: &str = "apiVersion: keelson.dev/v1alpha1\nkind: NodeConfig\nhostname: node-2\n";
const INVALID: &str = "apiVersion: keelson.dev/v1alpha1\nkind: NodeConfig\nhostnam: x\n";

fn node() -> (FakeNode, Person) {
    let authority = Arc::new(Authority::new("test"));
    let node = FakeNode::start(&authority);
    let person = Person::admin(&authority, &[&node.endpoint]);
    person.file("new.yaml", NEW);
    person.file("invalid.yaml", INVALID);
    (node, person)
}

#[test]
fn the_configuration_is_shown_checked_and_compared() {
    let (_node, person) = node();
    assert_eq!(person.run("config show").out, CONFIGURATION);
    assert_eq!(person.run("get config").out, CONFIGURATION);
    assert!(
        person
            .run("config show --defaults")
            .out
            .ends_with("registries: []\n")
    );
    assert_eq!(person.run("config schema").out, "{\"type\":\"object\"}\n");
    for place in ["", " --local"] {
        let valid = person.run(&format!("config validate -f new.yaml{place}"));
        assert_eq!((valid.code, valid.out.as_str()), (Some(0), "valid\n"));
        let invalid = person.run(&format!("config validate -f invalid.yaml{place}"));
        assert_eq!(invalid.code, Some(1));
        assert!(invalid.out.contains(":3:1: hostnam"), "{}", invalid.out);
    }
    let diff = person.run("config diff -f new.yaml");
    assert!(
        diff.out.contains("hostname   node-1   node-2   reboot\n"),
        "{}",
        diff.out
    );
    assert!(diff.out.contains("keelsonctl reboot"), "{}", diff.out);
    let absent = person.run("config diff -f absent.yaml");
    assert_eq!(absent.code, Some(1));
    assert!(
        absent.err.contains("cannot read absent.yaml"),
        "{}",
        absent.err
    );
}

#[test]
fn a_dry_run_changes_nothing_and_apply_does() {
    let (node, person) = node();
    let dry = person.run("apply -f new.yaml --dry-run");
    assert_eq!(dry.code, Some(0), "{}", dry.err);
    assert!(dry.out.contains("node-2") && dry.err.contains("nothing was changed"));
    assert_eq!(node.configuration(), CONFIGURATION);
    let ended = person.run("apply -f new.yaml");
    assert_eq!(ended.code, Some(0), "{}", ended.err);
    assert_eq!(node.configuration(), NEW);
    assert_eq!(node.calls(), ["apply for 0 ms"]);
}

#[test]
fn a_change_is_made_only_to_what_was_seen() {
    let (node, person) = node();
    let shown = person.run("config show --revision").out;
    let revision = shown.trim_end();
    assert_eq!(revision.len(), 64, "{shown}");
    let apply = format!("apply -f new.yaml --if-revision {revision}");
    assert_eq!(person.run(&apply).code, Some(0));
    let again = person.run(&apply);
    assert_eq!(again.code, Some(1));
    assert!(again.err.contains("changed since"), "{}", again.err);
    assert_eq!(node.calls(), ["apply for 0 ms"]);
    for command in [
        "apply -f new.yaml --if-revision 12",
        "config show --revision -o json",
    ] {
        assert_eq!(person.run(command).code, Some(2), "{command}");
    }
}

#[test]
fn a_change_made_while_somebody_edits_is_not_undone() {
    let (node, person) = node();
    let program = env!("CARGO_BIN_EXE_keelsonctl");
    let editor = person.file(
        "editor",
        &format!("{program} apply -f new.yaml && sed -i s/node-1/node-3/ \"$1\"\n"),
    );
    let editor = format!("sh {}", editor.display());
    let late = person.run_with("edit config", &[("EDITOR", &editor)]);
    assert_eq!(late.code, Some(1), "{}", late.err);
    assert!(late.err.contains("changed since"), "{}", late.err);
    assert_eq!(node.configuration(), NEW);
    assert_eq!(drafts(&person), [CONFIGURATION.replace("node-1", "node-3")]);
}

#[test]
fn a_trial_ends_with_another_commands_decision() {
    let (node, person) = node();
    for (decision, code, left) in [("revert", 1, CONFIGURATION), ("confirm", 0, NEW)] {
        let running = person.start("apply -f new.yaml --try 2m");
        let told = running.error_line();
        assert!(told.contains("on trial for 2m"), "{told}");
        let ended = person.run(&format!("config {decision}"));
        assert_eq!(ended.code, Some(0), "{}", ended.err);
        let applied = running.end();
        assert_eq!(applied.code, Some(code), "{decision}: {}", applied.err);
        assert_eq!(node.configuration(), left);
    }
    let late = person.run("config confirm");
    assert_eq!(late.code, Some(1));
    assert!(
        late.err.contains("no configuration is on trial"),
        "{}",
        late.err
    );
}

/// Whatever is left of edited text.
fn drafts(person: &Person) -> Vec<String> {
    let entries = std::fs::read_dir(person.folder.path()).unwrap();
    entries
        .map(|entry| entry.unwrap())
        .filter(|entry| {
            entry
                .file_name()
                .to_string_lossy()
                .starts_with("keelson-config-")
        })
        .map(|entry| std::fs::read_to_string(entry.path()).unwrap())
        .collect()
}

#[test]
fn an_edited_configuration_is_applied_and_leaves_no_file() {
    let (node, person) = node();
    let unchanged = person.run_with("edit config", &[("EDITOR", "true")]);
    assert_eq!(unchanged.code, Some(0), "{}", unchanged.err);
    assert!(unchanged.err.contains("nothing was changed"));
    let edited = person.run_with("edit config", &[("EDITOR", "sed -i s/node-1/node-2/")]);
    assert_eq!(edited.code, Some(0), "{}", edited.err);
    assert_eq!(node.configuration(), NEW);
    assert_eq!(drafts(&person), [""; 0]);
}

#[test]
fn edited_text_is_never_lost() {
    let (node, person) = node();
    let none = person.run("edit config");
    assert_eq!(none.code, Some(2));
    assert!(none.err.contains("EDITOR"), "{}", none.err);

    let broken = person.run_with("edit config", &[("EDITOR", "sed -i s/hostname/hostnam/")]);
    assert_eq!(broken.code, Some(1), "{}", broken.err);
    assert!(broken.err.contains(":3:1: hostnam"), "{}", broken.err);
    assert!(
        broken.err.contains("your text is kept in "),
        "{}",
        broken.err
    );
    assert_eq!(
        drafts(&person),
        [CONFIGURATION.replace("hostname", "hostnam")]
    );

    let editor = "false &&";
    let failed = person.run_with("edit config", &[("VISUAL", editor)]);
    assert_eq!(failed.code, Some(1), "{}", failed.err);
    assert_eq!(drafts(&person).len(), 2);
    assert_eq!(node.configuration(), CONFIGURATION);
}

#[test]
fn a_new_configuration_is_one_that_nodes_accept() {
    let (node, person) = node();
    let new = person.run(
        "config new --hostname node-2 --interface eth0 --address 192.0.2.10/24 \
         --gateway 192.0.2.1 --dns 192.0.2.53 --cluster-name home --datastore sqlite -o made.yaml",
    );
    assert_eq!(new.code, Some(0), "{}", new.err);
    assert_eq!(person.run("config validate -f made.yaml").code, Some(0));
    assert_eq!(person.run("apply -f made.yaml").code, Some(0));
    assert!(node.configuration().contains("192.0.2.53"));
    assert_eq!(person.run("config new -o made.yaml").code, Some(2));
    let plain = person.run("config new");
    assert_eq!(
        plain.out,
        "apiVersion: keelson.dev/v1alpha1\nkind: NodeConfig\n"
    );
    let wrong = person.run("config new --interface eth0 --address 192.0.2.10/24 --gateway 1.1.1.1");
    assert_eq!(wrong.code, Some(2));
    assert!(wrong.err.contains("not on the link"), "{}", wrong.err);
}
