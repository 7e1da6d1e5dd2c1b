//! `upgrade` and `rollback` with a bundle from a file and from a web server.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;

use keelson_bootstate::signature::{Context, ReleaseKey, SigningKey};
use keelson_bootstate::{SlotHeader, SlotHeaderFields, SlotPage};
use keelson_bundle::writer::{Level, Recipe, System, write};
use keelson_bundle::{Architecture, Hash};

use crate::fake::FakeNode;
use crate::pki::Authority;
use crate::program::Person;

fn node() -> (FakeNode, Person) {
    let authority = Arc::new(Authority::new("test"));
    let node = FakeNode::start(&authority);
    node.upgrade().ends = "good";
    let person = Person::admin(&authority, &[&node.endpoint]);
    (node, person)
}

/// A bundle whose stored bytes are as many as its boot part's: the fake takes them as they are.
fn bundle(person: &Person) -> (PathBuf, Vec<u8>) {
    let key = SigningKey::from_seed(&[2; 32]);
    let certificate = SigningKey::from_seed(&[1; 32]).certify(key.public(), 1);
    let key = ReleaseKey::new(key, certificate).unwrap();
    let (boot, root) = (vec![7; 200_000], vec![0; 4096]);
    let header = SlotHeader::new(SlotHeaderFields {
        payload_len: boot.len() as u64,
        sha256: *Hash::of(&boot).as_bytes(),
        root_len: root.len() as u64,
        root_sha256: *Hash::of(&root).as_bytes(),
        version: "0.2.0",
    })
    .unwrap();
    let signature = key.sign(Context::SlotHeader, &header.encode());
    let page = SlotPage::new(&header)
        .with_signatures(&[signature])
        .unwrap();
    let system = System {
        header: page.as_bytes(),
        boot: &boot,
        root: &root,
    };
    let recipe = Recipe {
        architecture: Architecture::Amd64,
        platform: "amd64".into(),
        components: Default::default(),
        minimum_version: semver::Version::new(0, 1, 0),
        created: "2026-01-01T00:00:00Z".into(),
        block_size: 64 * 1024,
        level: Level(1),
    };
    let mut bytes = Vec::new();
    write(system, None, &recipe, &[key], &mut bytes).unwrap();
    let mut rest = bytes.as_slice();
    keelson_bundle::UnverifiedHead::read(&mut rest).unwrap();
    let head = bytes.len() - rest.len();
    // What follows the head is the fake's own business.
    bytes.truncate(head);
    let blocks: Vec<u8> = (0..=250).cycle().take(boot.len()).collect();
    bytes.extend_from_slice(&blocks);
    let path = person.folder.path().join("new.keelson");
    std::fs::write(&path, &bytes).unwrap();
    (path, blocks)
}

#[test]
fn a_version_is_followed_until_it_has_proved_itself() {
    let (node, person) = node();
    let (_, blocks) = bundle(&person);
    let ended = person.run("upgrade --image new.keelson --watch");
    assert_eq!(ended.code, Some(0), "{}", ended.err);
    assert_eq!(node.upgrade().received, blocks);
    assert_eq!(
        node.calls(),
        ["begin stage=false drain=true downgrade=false force=false"]
    );
    for part in [
        "version 0.2.0 for amd64",
        "sending: ",
        "version 0.2.0 in slot b is on trial, missing: services: kubelet is starting",
        "version 0.2.0 has proved itself and stays",
    ] {
        assert!(ended.err.contains(part), "{part:?} not in {}", ended.err);
    }
}

#[test]
fn going_back_has_an_exit_code_of_its_own() {
    let (node, person) = node();
    node.upgrade().ends = "rolled-back";
    bundle(&person);
    let ended =
        person.run("upgrade --image new.keelson --watch --no-drain --force --allow-downgrade");
    assert_eq!(ended.code, Some(7), "{}", ended.err);
    assert_eq!(
        node.calls(),
        ["begin stage=false drain=false downgrade=true force=true"]
    );
    assert!(
        ended
            .err
            .contains("went back from version 0.2.0: of the test"),
        "{}",
        ended.err
    );
}

#[test]
fn a_transfer_survives_a_lost_connection_and_a_restarted_node() {
    let (node, person) = node();
    let (_, blocks) = bundle(&person);
    node.upgrade().breaks_at = Some(100_000);
    let ended = person.run("upgrade --image new.keelson");
    assert_eq!(ended.code, Some(0), "{}", ended.err);
    assert_eq!(node.upgrade().received, blocks);
    assert_eq!(node.calls().len(), 2, "begun again: {:?}", node.calls());
    assert!(ended.err.contains("trying again"), "{}", ended.err);
}

#[test]
fn staging_activating_and_giving_up() {
    let (node, person) = node();
    bundle(&person);
    let ended = person.run("upgrade --image new.keelson --stage");
    assert_eq!(ended.code, Some(0), "{}", ended.err);
    assert!(
        ended.err.contains("`keelsonctl upgrade activate`"),
        "{}",
        ended.err
    );
    let status = person.run("upgrade status");
    assert!(status.out.contains("Phase      staged"), "{}", status.out);
    let json = person.run("upgrade status -o json");
    let json: serde_json::Value = serde_json::from_str(&json.out).unwrap();
    assert_eq!(
        (&json["phase"], &json["version"]),
        (&"staged".into(), &"0.2.0".into())
    );
    let ended = person.run("upgrade activate --watch");
    assert_eq!(ended.code, Some(0), "{}", ended.err);
    assert!(ended.err.contains("has proved itself"), "{}", ended.err);
    let status = person.run("upgrade status");
    assert!(
        status.out.contains("good to version 0.2.0"),
        "{}",
        status.out
    );
    assert_eq!(person.run("upgrade pause").code, Some(0));
    assert_eq!(person.run("upgrade resume").code, Some(1));
    let ended = person.run("upgrade cancel");
    assert!(
        ended.err.contains("the upgrade is given up"),
        "{}",
        ended.err
    );
    assert_eq!(person.run("upgrade activate").code, Some(1));
    assert_eq!(node.calls()[1..], ["activate", "pause", "cancel"]);
}

#[test]
fn a_trial_that_is_ended_by_hand_is_what_was_wanted() {
    let (_node, person) = node();
    bundle(&person);
    assert_eq!(person.run("upgrade --image new.keelson").code, Some(0));
    // The command ended with the reboot; the next look finds the trial.
    let ended = person.run("rollback --watch");
    assert_eq!(ended.code, Some(0), "{}", ended.err);
    assert!(ended.err.contains("ana rolled it back"), "{}", ended.err);
}

#[test]
fn what_the_node_or_the_file_refuses_is_told_at_once() {
    let (node, person) = node();
    let (path, _) = bundle(&person);
    node.upgrade().refuses = Some("this bundle cannot be installed here: it is for arm64");
    let ended = person.run("upgrade --image new.keelson");
    assert_eq!(ended.code, Some(1));
    assert!(ended.err.contains("it is for arm64"), "{}", ended.err);
    node.upgrade().refuses = None;

    let bytes = std::fs::read(&path).unwrap();
    std::fs::write(&path, &bytes[..bytes.len() - 5]).unwrap();
    let ended = person.run("upgrade --image new.keelson");
    assert_eq!(ended.code, Some(1));
    assert!(
        ended.err.contains("the file is not complete"),
        "{}",
        ended.err
    );
    std::fs::write(&path, &bytes[..100]).unwrap();
    let ended = person.run("upgrade --image new.keelson");
    assert!(
        ended.err.contains("the file is not complete"),
        "{}",
        ended.err
    );
    std::fs::write(&path, "#!/bin/sh\n").unwrap();
    let ended = person.run("upgrade --image new.keelson");
    assert_eq!(ended.code, Some(1));
    for command in ["upgrade", "upgrade --image x --stage --watch"] {
        assert_eq!(person.run(command).code, Some(2), "{command}");
    }
    assert_eq!(person.run("upgrade --image none").code, Some(1));
}

#[test]
fn slots_are_listed_and_verified() {
    let (_node, person) = node();
    let list = person.run("get slots");
    let rows: Vec<Vec<&str>> = list
        .out
        .lines()
        .skip(1)
        .map(|line| line.split_whitespace().collect())
        .collect();
    assert_eq!(rows[0][..5], ["a", "good", "0.1.0", "yes", "yes"]);
    assert_eq!(rows[1][..3], ["b", "failed", "0.2.0"]);
    let good = person.run("upgrade verify a");
    assert_eq!(good.code, Some(0), "{}", good.err);
    let bad = person.run("upgrade verify b");
    assert_eq!(bad.code, Some(1));
    assert!(bad.err.contains("the root part is damaged"), "{}", bad.err);
}

/// A web server with one file, that first sends its visitors somewhere else.
fn web(file: Vec<u8>, ranges: bool) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut stream, file) = (stream.unwrap(), file.clone());
            thread::spawn(move || {
                let mut reader = BufReader::new(stream.try_clone().unwrap());
                loop {
                    let (mut path, mut range) = (String::new(), None);
                    loop {
                        let mut line = String::new();
                        if reader.read_line(&mut line).unwrap_or(0) == 0 {
                            return;
                        }
                        if let Some(rest) = line.strip_prefix("GET ") {
                            path = rest.split(' ').next().unwrap().to_owned();
                        }
                        if let Some(rest) = line.to_lowercase().strip_prefix("range: bytes=") {
                            let (from, to) = rest.trim().split_once('-').unwrap();
                            range = Some((
                                from.parse::<usize>().unwrap(),
                                to.parse::<usize>().unwrap(),
                            ));
                        }
                        if line == "\r\n" {
                            break;
                        }
                    }
                    let head = if path == "/old" {
                        "HTTP/1.1 302 Found\r\nLocation: /new\r\nContent-Length: 0\r\n\r\n"
                            .to_owned()
                    } else if !ranges {
                        "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n".to_owned()
                    } else {
                        let (from, to) = range.unwrap();
                        let to = (to + 1).min(file.len());
                        if from >= file.len() {
                            "HTTP/1.1 416 No\r\nContent-Length: 0\r\n\r\n".to_owned()
                        } else {
                            let part = &file[from..to];
                            let head = format!(
                                "HTTP/1.1 206 Partial\r\nContent-Range: bytes {from}-{}/{}\r\nContent-Length: {}\r\n\r\n",
                                to - 1,
                                file.len(),
                                part.len()
                            );
                            if stream.write_all(head.as_bytes()).is_err()
                                || stream.write_all(part).is_err()
                            {
                                return;
                            }
                            continue;
                        }
                    };
                    if stream.write_all(head.as_bytes()).is_err() {
                        return;
                    }
                }
            });
        }
    });
    address
}

#[test]
fn a_bundle_comes_from_a_web_server_in_parts() {
    let (node, person) = node();
    let (path, blocks) = bundle(&person);
    let bytes = std::fs::read(path).unwrap();
    let address = web(bytes, true);
    let ended = person.run(&format!("upgrade --image http://{address}/old"));
    assert_eq!(ended.code, Some(0), "{}", ended.err);
    assert_eq!(node.upgrade().received, blocks);
    let address = web(Vec::new(), false);
    let ended = person.run(&format!("upgrade --image http://{address}/whole"));
    assert_eq!(ended.code, Some(1));
    assert!(
        ended.err.contains("sends whole files only"),
        "{}",
        ended.err
    );
}
