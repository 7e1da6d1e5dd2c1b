//! Reads written archives back.

use std::collections::BTreeMap;
use std::io::Read;

use serde_json::Value;

use super::*;

fn sample() -> (Image, Vec<Entry>) {
    let image = Image {
        entrypoint: vec!["/bin/app".into()],
        env: vec!["PATH=/bin".into()],
        user: "65535:65535".into(),
        labels: vec![("b".into(), "2".into()), ("a".into(), "1".into())],
        ..Image::new("keelson.dev/app:1.0", Platform::amd64())
    };
    let entries = vec![
        Entry::bytes("/etc/passwd", 0o644, "root:x:0:0::/:\n"),
        Entry::bytes("/bin/app", 0o755, vec![7; 5000]),
        Entry::symlink("/bin/alias", "app"),
        Entry::directory("/data", 0o700).owned_by(65535, 65535),
    ];
    (image, entries)
}

fn unpack(tar: &[u8]) -> BTreeMap<String, (u32, u64, Vec<u8>)> {
    let mut archive = tar::Archive::new(tar);
    let mut files = BTreeMap::new();
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        assert_eq!(entry.header().mtime().unwrap(), 0);
        let path = entry.path().unwrap().to_string_lossy().into_owned();
        let mut body = Vec::new();
        entry.read_to_end(&mut body).unwrap();
        files.insert(
            path,
            (
                entry.header().mode().unwrap(),
                entry.header().uid().unwrap(),
                body,
            ),
        );
    }
    files
}

#[test]
fn every_blob_is_named_by_its_hash_and_the_chain_holds() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.tar");
    let (image, entries) = sample();
    let written = image.write(entries, &path).unwrap();
    let bytes = std::fs::read(&path).unwrap();
    assert_eq!(bytes.len() as u64, written.size);

    let files = unpack(&bytes);
    assert_eq!(files["oci-layout"].2, br#"{"imageLayoutVersion":"1.0.0"}"#);
    for (name, (_, _, body)) in &files {
        if let Some(digest) = name.strip_prefix("blobs/sha256/") {
            assert_eq!(digest, Sha256Digest::of(body).to_string());
        }
    }
    let index: Value = serde_json::from_slice(&files["index.json"].2).unwrap();
    let entry = &index["manifests"][0];
    assert_eq!(
        entry["annotations"]["io.containerd.image.name"],
        "keelson.dev/app:1.0"
    );
    assert_eq!(entry["platform"]["architecture"], "amd64");
    assert_eq!(entry["digest"], format!("sha256:{}", written.manifest));

    let manifest: Value = serde_json::from_slice(&files[&blob(written.manifest)].2).unwrap();
    assert_eq!(
        manifest["config"]["digest"],
        format!("sha256:{}", written.config)
    );
    let config: Value = serde_json::from_slice(&files[&blob(written.config)].2).unwrap();
    assert_eq!(config["config"]["User"], "65535:65535");
    assert_eq!(config["config"]["Labels"]["a"], "1");
    assert_eq!(
        config["rootfs"]["diff_ids"][0],
        manifest["layers"][0]["digest"]
    );

    let layer_name = manifest["layers"][0]["digest"]
        .as_str()
        .unwrap()
        .replace("sha256:", "blobs/sha256/");
    let layer = unpack(&files[&layer_name].2);
    assert_eq!(
        layer.keys().collect::<Vec<_>>(),
        [
            "bin/",
            "bin/alias",
            "bin/app",
            "data/",
            "etc/",
            "etc/passwd"
        ]
    );
    assert_eq!(layer["bin/app"], (0o755, 0, vec![7; 5000]));
    assert_eq!((layer["data/"].0, layer["data/"].1), (0o700, 65535));
}

#[test]
fn same_input_same_bytes_in_any_order() {
    let folder = tempfile::tempdir().unwrap();
    let (image, mut entries) = sample();
    let (first, second) = (folder.path().join("1.tar"), folder.path().join("2.tar"));
    image.write(entries.clone(), &first).unwrap();
    entries.reverse();
    image.write(entries, &second).unwrap();
    assert_eq!(
        std::fs::read(first).unwrap(),
        std::fs::read(second).unwrap()
    );
}

#[test]
fn bad_input_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.tar");
    let (image, _) = sample();
    let twice = vec![
        Entry::bytes("/a", 0o644, "1"),
        Entry::bytes("a", 0o644, "2"),
    ];
    assert_eq!(
        image.write(twice, &path).unwrap_err().to_string(),
        "two entries for a in the image"
    );
    let out = image
        .write(vec![Entry::bytes("/../a", 0o644, "1")], &path)
        .unwrap_err();
    assert!(out.to_string().contains("/../a"));
    let missing = image
        .write(
            vec![Entry::file("/a", 0o644, &folder.path().join("none"))],
            &path,
        )
        .unwrap_err();
    assert!(missing.to_string().contains("none"));
    assert!(!path.exists());
    assert!(
        Image::new("app", Platform::arm64())
            .write(vec![], &path)
            .is_err()
    );
}
