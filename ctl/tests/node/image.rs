//! `image inspect` and `image verify` on small bundles made here.

use std::fs;
use std::path::PathBuf;

use keelson_bootstate::signature::{Context, ReleaseKey, SigningKey, Trust};
use keelson_bootstate::{SlotHeader, SlotHeaderFields, SlotPage};
use keelson_bundle::writer::{Level, Recipe, System, write};
use keelson_bundle::{Architecture, Hash};

use crate::program::Person;

fn key(seed: u8) -> SigningKey {
    SigningKey::from_seed(&[seed; 32])
}

fn release() -> ReleaseKey {
    let certificate = key(1).certify(key(2).public(), 3);
    ReleaseKey::new(key(2), certificate).unwrap()
}

/// A bundle signed by the release key of root 1, and files that trust root 1 and root 9.
struct Files {
    person: Person,
    bundle: PathBuf,
}

impl Files {
    fn new(keys: &[ReleaseKey]) -> Self {
        let person = Person::stranger();
        for root in [1, 9] {
            let trust = Trust::new(&[key(root).public()], 0).unwrap();
            let path = person.folder.path().join(format!("trust-{root}"));
            fs::write(path, trust.encode().as_bytes()).unwrap();
        }
        let bundle = person.folder.path().join("new.keelson");
        fs::write(&bundle, bundle_of(keys)).unwrap();
        Self { person, bundle }
    }

    fn verify(&self, root: u8) -> crate::program::Ended {
        let trust = self.person.folder.path().join(format!("trust-{root}"));
        let bundle = self.bundle.display();
        self.person.run(&format!(
            "image verify {bundle} --trust {}",
            trust.display()
        ))
    }
}

fn bundle_of(keys: &[ReleaseKey]) -> Vec<u8> {
    let (boot, root) = (vec![7; 100_000], vec![8; 65536]);
    let header = SlotHeader::new(SlotHeaderFields {
        payload_len: boot.len() as u64,
        sha256: *Hash::of(&boot).as_bytes(),
        root_len: root.len() as u64,
        root_sha256: *Hash::of(&root).as_bytes(),
        version: "0.2.0",
    })
    .unwrap();
    let signature = release().sign(Context::SlotHeader, &header.encode());
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
        minimum_version: "0.1.0".parse().unwrap(),
        components: [("etcd".to_owned(), "3.7.3".to_owned())].into(),
        created: "2026-01-01T00:00:00Z".into(),
        block_size: 65536,
        level: Level(3),
    };
    let mut bundle = Vec::new();
    write(system, None, &recipe, keys, &mut bundle).unwrap();
    bundle
}

#[test]
fn a_bundle_is_shown_without_trusting_it() {
    let files = Files::new(&[release()]);
    let bundle = files.bundle.display();
    let shown = files.person.run(&format!("image inspect {bundle}"));
    assert_eq!(shown.code, Some(0), "{}", shown.err);
    assert!(shown.out.contains("Version      0.2.0\n"), "{}", shown.out);
    assert!(shown.out.contains("(not checked)"), "{}", shown.out);
    let json = files.person.run(&format!("image inspect {bundle} -o json"));
    let value: serde_json::Value = serde_json::from_str(&json.out).unwrap();
    assert_eq!(value["boot"]["size"], 100_000);
    assert_eq!(value["signatures"][0]["epoch"], 3);
    assert_eq!(value["components"]["etcd"], "3.7.3");
    assert!(value.get("verified").is_none());
}

#[test]
fn a_bundle_is_verified_by_whom_it_is_given() {
    let files = Files::new(&[release()]);
    let good = files.verify(1);
    assert_eq!(good.code, Some(0), "{}", good.err);
    assert!(good.out.contains("(trusted)"), "{}", good.out);
    let foreign = files.verify(9);
    assert_eq!(foreign.code, Some(1));
    assert!(
        foreign
            .err
            .contains("signed by a key that is not trusted here"),
        "{}",
        foreign.err
    );
    let unsigned = Files::new(&[]).verify(1);
    assert_eq!(unsigned.code, Some(1));
    assert!(
        unsigned.err.contains("it is not signed"),
        "{}",
        unsigned.err
    );
}

#[test]
fn a_changed_cut_or_longer_bundle_is_refused() {
    let files = Files::new(&[release()]);
    let good = fs::read(&files.bundle).unwrap();
    let mut changed = good.clone();
    let last = changed.len() - 10;
    changed[last] ^= 1;
    let cut = &good[..good.len() - 1];
    let longer = [&good[..], b"x"].concat();
    for (bytes, reason) in [
        (&changed[..], "was changed on the way"),
        (cut, "the file is not complete"),
        (&longer, "1 bytes follow its last block"),
        (b"something else entirely", "is not complete"),
        (&[b'x'; 4096], "not an update bundle"),
    ] {
        fs::write(&files.bundle, bytes).unwrap();
        let refused = files.verify(1);
        assert_eq!(refused.code, Some(1), "{reason}");
        assert!(refused.err.contains(reason), "{}", refused.err);
    }
}

#[test]
fn the_builders_own_keys_are_trusted_by_default() {
    let files = Files::new(&[release()]);
    let command = format!("image verify {}", files.bundle.display());
    let folder = files.person.folder.path();
    let keys = [("KEELSON_KEYS", folder.to_str().unwrap())];
    let without = files.person.run_with(&command, &keys);
    assert_eq!(without.code, Some(2));
    assert!(without.err.contains("Give --trust FILE"), "{}", without.err);
    fs::rename(folder.join("trust-1"), folder.join("trust")).unwrap();
    let with = files.person.run_with(&command, &keys);
    assert_eq!(with.code, Some(0), "{}", with.err);
}
