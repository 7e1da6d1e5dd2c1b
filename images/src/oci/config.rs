//! The image configuration document of the OCI image specification.

use serde_json::{Map, Value, json};

use super::{Image, Platform};
use crate::digest::Sha256Digest;

/// The configuration as it is stored; no creation time, so that it depends on content alone.
pub(super) fn image_config(image: &Image, layer: Sha256Digest) -> Vec<u8> {
    let mut run = Map::new();
    let lists = [
        ("Entrypoint", &image.entrypoint),
        ("Cmd", &image.cmd),
        ("Env", &image.env),
    ];
    for (key, list) in lists {
        if !list.is_empty() {
            run.insert(key.into(), json!(list));
        }
    }
    for (key, text) in [("User", &image.user), ("WorkingDir", &image.working_dir)] {
        if !text.is_empty() {
            run.insert(key.into(), json!(text));
        }
    }
    if !image.labels.is_empty() {
        let labels: Map<String, Value> = image
            .labels
            .iter()
            .map(|(k, v)| (k.clone(), json!(v)))
            .collect();
        run.insert("Labels".into(), Value::Object(labels));
    }

    let mut document = platform(&image.platform);
    document.insert("config".into(), Value::Object(run));
    document.insert(
        "rootfs".into(),
        json!({ "type": "layers", "diff_ids": [format!("sha256:{layer}")] }),
    );
    Value::Object(document).to_string().into_bytes()
}

/// The platform's fields, as index and configuration both want them.
pub(super) fn platform(platform: &Platform) -> Map<String, Value> {
    let mut fields = Map::new();
    fields.insert("architecture".into(), json!(platform.architecture));
    fields.insert("os".into(), json!("linux"));
    if let Some(variant) = platform.variant {
        fields.insert("variant".into(), json!(variant));
    }
    fields
}
