//! The committed reference page is what the command line generates.

use std::path::Path;

use keelsonctl::reference;

#[test]
fn reference_page_is_current() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/reference");
    let found = std::fs::read_to_string(folder.join(reference::FILE)).unwrap_or_default();
    assert!(
        found == reference::page(),
        "docs/reference/{} is outdated; run \
         `cargo run -p keelsonctl --features docs --bin keelsonctl-docs` and commit it",
        reference::FILE
    );
}
