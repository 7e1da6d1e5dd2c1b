//! The committed reference files are what the types generate.

use std::path::Path;

#[test]
fn reference_files_are_current() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/reference");
    for (name, wanted) in keelson_config::reference::files() {
        let found = std::fs::read_to_string(folder.join(name)).unwrap_or_default();
        assert!(
            found == wanted,
            "docs/reference/{name} is outdated; run \
             `cargo run -p keelson-config --features docs --bin keelson-config-docs` and commit it"
        );
    }
}
