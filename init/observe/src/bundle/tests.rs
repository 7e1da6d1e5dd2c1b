//! Archives are unpacked again, and nothing planted is in them.

use std::collections::BTreeMap;
use std::time::Duration;

use super::*;
use crate::root::Root;

fn bundle() -> Bundle<Vec<u8>> {
    let time = UNIX_EPOCH + Duration::from_secs(1_790_000_000);
    Bundle::new(Vec::new(), "keelson-support-n1", time).unwrap()
}

/// Every byte of the unpacked archive, and the entries in it.
fn unpack(archive: &[u8]) -> (Vec<u8>, BTreeMap<String, String>) {
    let tar = zstd::decode_all(archive).unwrap();
    let mut entries = BTreeMap::new();
    for entry in tar::Archive::new(tar.as_slice()).entries().unwrap() {
        let mut entry = entry.unwrap();
        assert_eq!(entry.header().mtime().unwrap(), 1_790_000_000);
        assert_eq!(entry.header().mode().unwrap(), 0o644);
        let name = entry.path().unwrap().to_str().unwrap().to_owned();
        let mut content = String::new();
        entry.read_to_string(&mut content).unwrap();
        entries.insert(name, content);
    }
    (tar, entries)
}

const KEY_LINE: &str = "MHcCAQEEIPLANTEDkeyMATERIAL0123456789abcdefghijklmnopqrstuvwxyzAB";
const WEB_TOKEN: &str = "eyJhbGciOiJSUzI1NiJ9.eyJQTEFOVEVEIjoxfQ.UExBTlRFRHNpZw";

#[test]
fn no_planted_secret_is_in_the_archive() {
    use base64::Engine;
    let lines = format!("{KEY_LINE}\n").repeat(4);
    let key = format!("-----BEGIN EC PRIVATE KEY-----\n{lines}-----END EC PRIVATE KEY-----\n");
    let certificate = "-----BEGIN CERTIFICATE-----\nMIIBpublic\n-----END CERTIFICATE-----\n";
    let encoded = base64::engine::general_purpose::STANDARD.encode(&key);
    let mut bundle = bundle();
    let pem = bundle
        .add_text("serving.pem", &(certificate.to_owned() + &key))
        .unwrap();
    assert_eq!((pem.removed, pem.complete), (1, true));
    let kubeconfig = format!(
        "users:\n- name: admin\n  user:\n    client-certificate-data: {}\n    client-key-data: {encoded}\n- name: other\n  user:\n    token: PLANTED-token\n",
        base64::engine::general_purpose::STANDARD.encode(certificate)
    );
    bundle.add_text("kubeconfig", &kubeconfig).unwrap();
    let log = format!(
        "one\nAuthorization: Bearer {WEB_TOKEN}\ngot {WEB_TOKEN} from 10.0.0.1\nkine --endpoint=postgres://k:PLANTED@db/k\n{{\"password\":\"PLANTED\"}}\nlast\n"
    );
    bundle
        .add("logs/kine.log", Keep::End, log.as_bytes())
        .unwrap();
    // Cut in the middle of a key.
    let filler = "x ".repeat(49) + "x\n";
    let mut long = filler.repeat(MAX_ENTRY_BYTES / 100 - 1);
    long.push_str(&key);
    long.push_str(&filler.repeat(2));
    bundle
        .add("long", Keep::Beginning, long.as_bytes())
        .unwrap();
    let reversed = format!("{key}{}", filler.repeat(MAX_ENTRY_BYTES / 100 - 1));
    bundle
        .add("reversed", Keep::End, reversed.as_bytes())
        .unwrap();
    let error = std::io::Error::other(format!("token={WEB_TOKEN}"));
    bundle.add_failure("kernel.log", &error).unwrap();

    let (bytes, entries) = unpack(&bundle.finish().unwrap());
    for secret in [
        KEY_LINE,
        "PLANTED",
        WEB_TOKEN,
        &encoded[40..80],
        "UExBTlRFRHNpZw",
    ] {
        let found = bytes
            .windows(secret.len())
            .any(|part| part == secret.as_bytes());
        assert!(!found, "{secret} is in the archive");
    }
    let entry = |name: &str| entries[&format!("keelson-support-n1/{name}")].as_str();
    assert_eq!(entry("serving.pem"), format!("{certificate}[removed]\n"));
    assert!(entry("kubeconfig").contains("client-key-data: [removed]\n"));
    assert!(entry("kubeconfig").contains("client-certificate-data: LS0t"));
    assert!(entry("logs/kine.log").starts_with("one\n"));
    assert!(entry("logs/kine.log").contains("got [removed] from 10.0.0.1\n"));
    assert!(entry("logs/kine.log").ends_with("last\n"));
    assert!(entry("long").contains("[cut off after"));
    assert_eq!(entry("kernel.log.error"), "token=[removed]\n");
    assert_eq!(entries.len(), 6);
}

#[test]
fn files_of_the_node_are_cut_at_their_end_or_beginning() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("var/log/keelson");
    std::fs::create_dir_all(&folder).unwrap();
    let lines: String = (0..200_000)
        .map(|number| format!("line {number}\n"))
        .collect();
    assert!(lines.len() > MAX_ENTRY_BYTES);
    std::fs::write(folder.join("etcd.log"), &lines).unwrap();
    let open = || {
        let root = Root::at(dir.path());
        crate::files::open_for_reading(&root, "/var/log/keelson/etcd.log").unwrap()
    };
    let mut bundle = bundle();
    let end = bundle.add_file("end.log", Keep::End, open()).unwrap();
    assert!(!end.complete && end.bytes <= MAX_ENTRY_BYTES + 100);
    bundle
        .add_file("beginning.log", Keep::Beginning, open())
        .unwrap();
    let (_, entries) = unpack(&bundle.finish().unwrap());
    let end = &entries["keelson-support-n1/end.log"];
    let beginning = &entries["keelson-support-n1/beginning.log"];
    let (note, kept) = end.split_once('\n').unwrap();
    assert_eq!(
        note,
        format!(
            "[{} bytes before this are left out]",
            lines.len() - kept.len()
        )
    );
    assert!(lines.ends_with(kept) && kept.starts_with("line "));
    assert!(beginning.starts_with("line 0\nline 1\n") && beginning.ends_with(" bytes]\n"));
}

#[test]
fn names_stay_in_the_folder() {
    let mut bundle = bundle();
    for name in ["", "/etc/passwd", "../x", "a/../../x", "."] {
        let result = bundle.add_text(name, "x");
        assert!(matches!(result, Err(BundleError::Name { .. })), "{name:?}");
    }
    let long = format!("pods/{}/0.log", "p".repeat(200));
    bundle.add_text(&long, "x").unwrap();
    let (_, entries) = unpack(&bundle.finish().unwrap());
    assert_eq!(entries[&format!("keelson-support-n1/{long}")], "x");
    assert!(Bundle::new(Vec::new(), "..", UNIX_EPOCH).is_err());
}

#[test]
fn a_receiver_that_is_gone_is_an_error() {
    struct Gone;
    impl Write for Gone {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut bundle = Bundle::new(Gone, "x", UNIX_EPOCH).unwrap();
    let noise: String = (0..300_000u32)
        .map(|n| format!("{:x}", n.wrapping_mul(2_654_435_761)))
        .collect();
    let result = bundle
        .add_text("noise", &noise)
        .and_then(|_| bundle.finish().map(drop));
    assert!(matches!(result, Err(BundleError::Write(_))));
}

#[test]
fn what_is_no_utf8_is_replaced() {
    let mut bundle = bundle();
    bundle
        .add("odd", Keep::Beginning, b"a\xff\x00b\n".as_slice())
        .unwrap();
    let (_, entries) = unpack(&bundle.finish().unwrap());
    assert_eq!(entries["keelson-support-n1/odd"], "a\u{fffd}\0b\n");
}
