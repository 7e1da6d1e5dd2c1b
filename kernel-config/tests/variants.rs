//! Every amd64 kernel configures with all its fragments' lines, also those that are seldom built.
//!
//! Uses the machine's own cache, where the build of the image has put the build root already.

// Helpers outside of #[test] functions unwrap as the tests do.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;

use keelson_cache::Cache;
use keelson_kernel::{KernelError, Target, check, variants};

#[test]
fn no_line_of_any_variant_gets_lost() {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let cache = Cache::from_environment().unwrap();
    let root = keelson_buildroot::ensure(&cache, &repository, &|_| ()).unwrap();
    let targets: Vec<Target> = variants(&repository, "amd64").unwrap();
    assert!(targets.len() >= 3);
    check(&cache, &root, &repository, &targets, &|_| ()).unwrap();

    // The same with a line that cannot survive: an option that does not exist.
    let copy = tempfile::tempdir().unwrap();
    for folder in ["kernel-config/fragments", "kernel-config/architectures"] {
        copy_folder(&repository.join(folder), &copy.path().join(folder));
    }
    let fragment = copy.path().join("kernel-config/fragments/amd64-vm.config");
    let text = fs::read_to_string(&fragment).unwrap();
    fs::write(&fragment, text + "CONFIG_NO_SUCH_OPTION=y\n").unwrap();
    let target = [Target::new("amd64", "vm")];
    let error = check(&cache, &root, copy.path(), &target, &|_| ()).unwrap_err();
    let KernelError::Configure { source, .. } = error else {
        panic!("expected the configuration to be refused: {error:?}");
    };
    let text = source.to_string();
    assert!(
        text.contains("CONFIG_NO_SUCH_OPTION=y (fragment amd64-vm line"),
        "{text}"
    );
}

fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}
