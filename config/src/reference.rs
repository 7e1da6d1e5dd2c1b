//! The JSON schema and the reference page, both generated from the types and their documentation.

use std::fmt::Write as _;

use serde_json::{Map, Value};

use crate::model::NodeConfig;

/// The generated files: name inside `docs/reference`, and content.
pub fn files() -> [(&'static str, String); 2] {
    [
        ("node-config.md", page()),
        ("node-config.schema.json", schema_text()),
    ]
}

fn schema_text() -> String {
    format!("{:#}\n", schema())
}

fn schema() -> Value {
    schemars::schema_for!(NodeConfig).to_value()
}

fn page() -> String {
    let schema = schema();
    let empty = Map::new();
    let definitions = schema
        .get("$defs")
        .and_then(Value::as_object)
        .unwrap_or(&empty);
    let mut out = String::from(
        "<!-- Generated from the types in config/ by `cargo run -p keelson-config --features docs \
         --bin keelson-config-docs`; a test compares it. -->\n\n# Node configuration\n\n",
    );
    let _ = writeln!(out, "{}\n", description(&schema));
    out.push_str(INTRODUCTION);
    section(&mut out, "NodeConfig", &schema);
    let (objects, values): (Vec<_>, Vec<_>) = definitions
        .iter()
        .partition(|(_, definition)| definition.get("properties").is_some());
    for (name, definition) in objects {
        section(&mut out, name, definition);
    }
    out.push_str("## Values\n\n");
    for (name, definition) in values {
        let _ = writeln!(out, "### {name}\n\n{}\n", description(definition));
        for (value, text) in choices(definition) {
            let _ = writeln!(out, "- `{value}`: {}", one_line(&text));
        }
        if !choices(definition).is_empty() {
            out.push('\n');
        }
        if let Some(pattern) = definition.get("pattern").and_then(Value::as_str) {
            let _ = writeln!(out, "Form: `{pattern}`\n");
        }
    }
    out.truncate(out.trim_end().len());
    out.push('\n');
    out
}

const INTRODUCTION: &str = "\
A node looks for its configuration on STATE, then for a file `keelson.yaml` on the firmware
partition. When there is neither, it waits in maintenance mode: the console shows the command
that gives it one.

The shortest configuration:

```yaml
apiVersion: keelson.dev/v1alpha1
kind: NodeConfig
```

Editors that know JSON Schema complete and check the file with
[node-config.schema.json](node-config.schema.json).

What is refused, each time with file, line, column, key and what to do:

- keys that are unknown or given twice, and values of the wrong type; booleans are `true` and
  `false` only;
- more than one document, merge keys (`<<`), text that is not UTF-8, control characters;
- files of more than 256 KiB, more than 20,000 values or 32 levels of nesting;
- an interface, address, name server or registry that is listed twice;
- gateways that are not on the link, or not of the family of their route;
- `podCIDR` and `serviceCIDR` that overlap each other or a network of the node, are of two
  families, or are too small or too large.

";

/// One object type: its text and a table of its keys.
fn section(out: &mut String, name: &str, object: &Value) {
    let _ = writeln!(out, "## {name}\n");
    if name != "NodeConfig" {
        let _ = writeln!(out, "{}\n", description(object));
    }
    out.push_str("| key | type | default | meaning |\n| --- | --- | --- | --- |\n");
    let required: Vec<&str> = object
        .get("required")
        .and_then(Value::as_array)
        .map(|keys| keys.iter().filter_map(Value::as_str).collect())
        .unwrap_or_default();
    let properties = object.get("properties").and_then(Value::as_object);
    for (key, property) in properties.into_iter().flatten() {
        let default = match property.get("default") {
            _ if required.contains(&key.as_str()) => "required".to_owned(),
            Some(Value::Object(keys)) if !keys.is_empty() => "see there".to_owned(),
            Some(Value::Null | Value::Object(_)) | None => "none".to_owned(),
            Some(Value::String(text)) => format!("`{text}`"),
            Some(value) => format!("`{value}`"),
        };
        let meaning = one_line(&description(property));
        let _ = writeln!(
            out,
            "| `{key}` | {} | {default} | {meaning} |",
            type_of(property)
        );
    }
    out.push('\n');
}

/// The type in words, with links to the sections of this page.
fn type_of(property: &Value) -> String {
    if let Some(name) = reference_name(property) {
        return format!("[{name}](#{})", name.to_lowercase());
    }
    if let Some(options) = property.get("anyOf").and_then(Value::as_array) {
        let named: Vec<String> = options
            .iter()
            .filter(|o| reference_name(o).is_some())
            .map(type_of)
            .collect();
        return named.join(" or ");
    }
    let name = match property.get("type") {
        Some(Value::String(name)) => name.as_str(),
        _ => "any",
    };
    match (
        name,
        property.get("items"),
        property.get("format").and_then(Value::as_str),
    ) {
        ("array", Some(items), _) => format!("list of {}", type_of(items)),
        ("object", None, _) => match map_value(property) {
            Some(value) => format!("{} by name", type_of(value)),
            None => name.to_owned(),
        },
        ("string", _, Some("ip")) => "IP address".to_owned(),
        _ => name.to_owned(),
    }
}

/// What the values of a map are.
fn map_value(property: &Value) -> Option<&Value> {
    let named = property.get("patternProperties").and_then(Value::as_object);
    named
        .and_then(|patterns| patterns.values().next())
        .or_else(|| property.get("additionalProperties"))
        .filter(|value| value.is_object())
}

fn reference_name(property: &Value) -> Option<&str> {
    property
        .get("$ref")
        .and_then(Value::as_str)
        .and_then(|r| r.strip_prefix("#/$defs/"))
}

/// The values of an enum with their documentation.
fn choices(definition: &Value) -> Vec<(String, String)> {
    let options = definition.get("oneOf").and_then(Value::as_array);
    options
        .into_iter()
        .flatten()
        .filter_map(|option| {
            let value = option.get("const").and_then(Value::as_str)?;
            Some((value.to_owned(), description(option)))
        })
        .collect()
}

fn description(schema: &Value) -> String {
    schema
        .get("description")
        .and_then(Value::as_str)
        .unwrap_or_default()
        .to_owned()
}

fn one_line(text: &str) -> String {
    text.split_whitespace()
        .collect::<Vec<_>>()
        .join(" ")
        .replace('|', "\\|")
}
