//! Verbs that change something: services, power, people's certificates, files written here.

use std::os::unix::fs::PermissionsExt;
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

#[test]
fn services_are_acted_on_in_order_until_one_fails() {
    let (node, person) = node();
    assert_eq!(person.run("stop kubelet").code, Some(0));
    assert_eq!(person.run("start kubelet containerd").code, Some(0));
    let ended = person.run("restart kubelet none containerd");
    assert_eq!(ended.code, Some(1));
    assert!(ended.err.contains("kubelet restarted"), "{}", ended.err);
    assert!(
        ended.err.contains("there is no service \"none\""),
        "{}",
        ended.err
    );
    assert_eq!(
        node.calls(),
        [
            "stop kubelet",
            "start kubelet",
            "start containerd",
            "restart kubelet"
        ]
    );
}

#[test]
fn a_reboot_is_waited_for() {
    let (node, person) = node();
    let ended = person.run("reboot --reason maintenance --wait=50s");
    assert_eq!(ended.code, Some(0), "{}", ended.err);
    assert!(ended.err.contains("back and healthy"), "{}", ended.err);
    assert_eq!(node.calls(), ["reboot maintenance"]);
    assert_eq!(person.run("shutdown").code, Some(0));
}

#[test]
fn a_node_that_does_not_come_back_healthy_is_told() {
    let authority = Arc::new(Authority::new("test"));
    let setup = Setup {
        healthy: false,
        ..Setup::new(&authority)
    };
    let node = FakeNode::with(&authority, setup);
    let person = Person::admin(&authority, &[&node.endpoint]);
    let ended = person.run("reboot --wait=5s");
    assert_eq!(ended.code, Some(3));
    assert!(ended.err.contains("not yet: datastore"), "{}", ended.err);
    assert!(
        ended.err.contains("not back and healthy after 5s"),
        "{}",
        ended.err
    );
}

#[test]
fn a_reset_needs_the_nodes_name_and_consent() {
    let (node, person) = node();
    for command in [
        "reset",
        "reset --partitions STATE",
        "reset --partitions STATE --name node-1",
        "reset --partitions STATE --yes",
        "reset --partitions ROOT --name node-1 --yes",
    ] {
        assert_eq!(person.run(command).code, Some(2), "{command}");
    }
    let wrong = person.run("reset --partitions STATE --name node-2 --yes");
    assert_eq!(wrong.code, Some(1), "{}", wrong.err);
    assert_eq!(node.calls(), [""; 0]);
    let ended = person.run("reset --partitions data,STATE --name node-1 --yes");
    assert_eq!(ended.code, Some(0), "{}", ended.err);
    assert_eq!(node.calls(), ["reset STATE,DATA"]);
}

#[test]
fn a_kubeconfig_is_written_for_its_owner_and_never_over_another() {
    let (_node, person) = node();
    assert_eq!(
        person.run("kubeconfig").out,
        "apiVersion: v1\nkind: Config\n"
    );
    assert_eq!(person.run("kubeconfig -o k").code, Some(0));
    let path = person.folder.path().join("k");
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o600);
    std::fs::write(&path, "another").unwrap();
    assert_eq!(person.run("kubeconfig -o k").code, Some(2));
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "another");
    assert_eq!(person.run("kubeconfig -o k --force").code, Some(0));
}

#[test]
fn a_support_bundle_is_whole_or_not_there() {
    let (_node, person) = node();
    let ended = person.run("support -o bundle");
    assert_eq!(ended.code, Some(0), "{}", ended.err);
    assert!(
        ended.err.contains("bundle holds 195.3 KiB"),
        "{}",
        ended.err
    );
    let bundle = std::fs::read(person.folder.path().join("bundle")).unwrap();
    assert_eq!((bundle.len(), bundle[0], bundle[199_999]), (200_000, 1, 2));

    let authority = Arc::new(Authority::new("test"));
    let setup = Setup {
        name: "endless",
        ..Setup::new(&authority)
    };
    let endless = FakeNode::with(&authority, setup);
    let person = Person::admin(&authority, &[&endless.endpoint]);
    let files = || {
        let entries = std::fs::read_dir(person.folder.path()).unwrap();
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    };
    let ended = person.run("support -o bundle --timeout 300ms");
    assert_eq!(ended.code, Some(3), "{}", ended.err);
    assert_eq!(files(), ["contexts"]);
    let running = person.start("support");
    // Its file is there as soon as the bundle has begun.
    let end = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while files().len() == 1 {
        assert!(std::time::Instant::now() < end, "no file appears");
        std::thread::yield_now();
    }
    running.interrupt();
    assert_eq!(running.end().code, Some(130));
    assert_eq!(files(), ["contexts"]);
}

#[test]
fn an_issued_certificate_works() {
    let (node, person) = node();
    let ended = person.run("cert issue --person eve --role operator --lifetime 30d");
    assert_eq!(ended.code, Some(0), "{}", ended.err);
    assert_eq!(node.calls(), ["issue eve operator 2592000000"]);
    let file = person.folder.path().join("eve.keelson.yaml");
    let mode = std::fs::metadata(&file).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o600);
    let again = person.run("cert issue --person eve --role operator");
    assert_eq!(again.code, Some(2), "{}", again.err);

    let eve = Person::stranger();
    let added = eve.run(&format!("config add --from {}", file.display()));
    assert_eq!(added.code, Some(0), "{}", added.err);
    let contexts = eve.run("config contexts");
    assert!(
        contexts.out.contains("eve      operator"),
        "{}",
        contexts.out
    );
    assert_eq!(eve.run("status").code, Some(0));

    let revoked = person.run(&format!("cert revoke {}", "AB:".repeat(31) + "AB"));
    assert_eq!(revoked.code, Some(0), "{}", revoked.err);
    assert_eq!(node.calls()[1], format!("revoke {}", "ab".repeat(32)));
}

#[test]
fn contexts_are_added_chosen_and_removed() {
    let (_node, person) = node();
    let other = Authority::new("other");
    let pair = other.person(
        "eve",
        keelson_api::access::Role::Reader,
        time::Duration::days(9),
    );
    person.file("ca", &other.pem);
    person.file("cert", &pair.certificate);
    person.file("key", &pair.key);
    let parts = "--endpoint a --endpoint b:1 --authority ca --certificate cert --key key";
    let add = person.run(&format!("config add away {parts}"));
    assert_eq!(add.code, Some(0), "{}", add.err);
    assert_eq!(
        person.run(&format!("config add away {parts}")).code,
        Some(2)
    );
    assert_eq!(person.run("config add away --endpoint a").code, Some(2));
    assert_eq!(person.run("config use away").code, Some(0));
    let list = person.run("config contexts -o json");
    let json: serde_json::Value = serde_json::from_str(&list.out).unwrap();
    assert_eq!(
        (&json[0]["name"], &json[0]["current"]),
        (&"away".into(), &true.into())
    );
    assert_eq!(json[0]["endpoints"], serde_json::json!(["a", "b:1"]));
    assert!(!list.out.contains("PRIVATE KEY"));
    assert_eq!(person.run("config remove away").code, Some(0));
    assert_eq!(person.run("config use away").code, Some(2));
    // The only one left needs no choice.
    assert_eq!(person.run("status").code, Some(0));
}
