//! What holds for every key of the schema: what a change of it takes is known, and secrets have
//! the type that hides them. The service names are those of the image.

#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests: without the repository's files the test has to fail"
)]

use std::collections::BTreeSet;
use std::path::Path;

use keelson_config::{EFFECTS, SERVICES};
use serde_json::{Value, json};

fn schema() -> Value {
    let files = keelson_config::reference::files();
    let (_, text) = files
        .iter()
        .find(|(name, _)| name.ends_with(".schema.json"))
        .unwrap();
    serde_json::from_str(text).unwrap()
}

/// Calls `visit` with every key path and its schema, references resolved.
fn walk(root: &Value, schema: &Value, path: &str, visit: &mut dyn FnMut(&str, &Value)) {
    if let Some(name) = schema["$ref"].as_str() {
        let target = root.pointer(name.trim_start_matches('#')).unwrap();
        return walk(root, target, path, visit);
    }
    // An optional value: the alternative that is not null.
    if let Some(options) = schema["anyOf"].as_array() {
        let some = options.iter().find(|o| o["type"] != "null").unwrap();
        return walk(root, some, path, visit);
    }
    visit(path, schema);
    for (key, property) in schema["properties"].as_object().into_iter().flatten() {
        let dot = if path.is_empty() { "" } else { "." };
        walk(root, property, &format!("{path}{dot}{key}"), visit);
    }
    if schema["items"].is_object() {
        walk(root, &schema["items"], &format!("{path}[]"), visit);
    }
    let named = schema["patternProperties"].as_object();
    let others = Some(&schema["additionalProperties"]).filter(|others| others.is_object());
    for value in named.into_iter().flat_map(|map| map.values()).chain(others) {
        walk(root, value, &format!("{path}.*"), visit);
    }
}

fn leaves(root: &Value) -> BTreeSet<String> {
    let mut leaves = BTreeSet::new();
    walk(root, root, "", &mut |path, schema| {
        if !matches!(schema["type"].as_str(), Some("object" | "array")) {
            leaves.insert(path.to_owned());
        }
    });
    leaves
}

/// Keys that should hold a secret, going by their names, but would be shown.
fn shown_secrets(root: &Value) -> Vec<String> {
    let words = [
        "password",
        "passphrase",
        "secret",
        "token",
        "credential",
        "key",
    ];
    let mut shown = Vec::new();
    walk(root, root, "", &mut |path, schema| {
        let name = path.rsplit('.').next().unwrap_or_default().to_lowercase();
        let text = schema["type"] == "string" || schema["oneOf"].is_array();
        if text && words.iter().any(|word| name.contains(word)) && schema["writeOnly"] != true {
            shown.push(path.to_owned());
        }
    });
    shown
}

#[test]
fn what_a_change_takes_is_known_for_every_key() {
    let table: BTreeSet<_> = EFFECTS.iter().map(|(key, _)| (*key).to_owned()).collect();
    assert_eq!(table.len(), EFFECTS.len(), "a key is listed twice");
    assert_eq!(table, leaves(&schema()), "config/src/effect.rs");
}

#[test]
fn keys_that_look_like_secrets_have_the_type_that_hides_them() {
    assert_eq!(shown_secrets(&schema()), [""; 0]);
    let careless = json!({"type": "object", "properties": {
        "pullToken": {"type": "string"},
        "password": {"type": "string", "writeOnly": true},
        "keys": {"type": "array", "items": {"type": "string"}},
        "name": {"type": "string"},
    }});
    assert_eq!(shown_secrets(&careless), ["keys[]", "pullToken"]);
}

#[test]
fn the_service_names_are_those_of_the_image() {
    let folder =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../rootfs/tree/usr/share/keelson/services");
    let mut defined: Vec<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| {
            let name = entry.unwrap().file_name().into_string().unwrap();
            name.strip_suffix(".yaml").unwrap().to_owned()
        })
        .collect();
    defined.sort();
    assert_eq!(defined, SERVICES, "config/src/limits.rs");
}

#[test]
fn editors_know_the_service_names() {
    let patterns = &schema()["properties"]["services"]["patternProperties"];
    let known = format!("^({})$", SERVICES.join("|"));
    let patterns: Vec<_> = patterns.as_object().unwrap().keys().cloned().collect();
    assert_eq!(patterns, [known]);
}
