//! Generates the messages, clients and servers from the .proto files.

use std::path::PathBuf;

use prost::Message;

const FILES: [&str; 8] = [
    "certificates",
    "configuration",
    "files",
    "logs",
    "resources",
    "services",
    "system",
    "upgrades",
];

/// What turns the messages into JSON and YAML for people.
const SERDE: &str =
    "#[cfg_attr(feature = \"serde\", derive(serde::Serialize), serde(rename_all = \"camelCase\"))]";

/// Numbers in the messages that are words for people.
const ENUM_FIELDS: [(&str, &str); 2] = [
    ("ServiceSummary.state", "crate::text::service_state"),
    ("UpgradeStatus.phase", "crate::text::upgrade_phase"),
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let files: Vec<String> = FILES
        .iter()
        .map(|name| format!("keelson/node/v1alpha1/{name}.proto"))
        .collect();
    println!("cargo::rerun-if-changed=proto");
    let descriptors = protox::compile(&files, ["proto"])?;
    let out = PathBuf::from(std::env::var_os("OUT_DIR").ok_or("cargo sets no OUT_DIR")?);
    // For the test that compares them with the table of who may call what.
    std::fs::write(out.join("descriptors.bin"), descriptors.encode_to_vec())?;
    let mut builder = tonic_prost_build::configure()
        .build_transport(false)
        .type_attribute(".", SERDE);
    for (field, with) in ENUM_FIELDS {
        let attribute =
            format!("#[cfg_attr(feature = \"serde\", serde(serialize_with = \"{with}\"))]");
        builder = builder.field_attribute(format!(".keelson.node.v1alpha1.{field}"), attribute);
    }
    builder.compile_fds(descriptors)?;
    Ok(())
}
