//! Finds the sources of the mozim that the node is built with, and points src/lib.rs at them.

use std::env::var;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=../Cargo.lock");
    let source = source().join("src/lib.rs");
    println!("cargo:rerun-if-changed={}", source.display());
    let out = env::var_os("OUT_DIR").expect("cargo says where to write");
    // Modules within an included file are looked for beside that file.
    let line = format!(
        "include!({:?});\n",
        source.to_str().expect("the path is text")
    );
    fs::write(Path::new(&out).join("mozim.rs"), line).expect("OUT_DIR can be written");
}

fn source() -> PathBuf {
    let output = Command::new(var("CARGO").expect("cargo says where it is"))
        .args(["metadata", "--format-version", "1", "--offline", "--locked"])
        .args([
            "--filter-platform",
            &var("TARGET").expect("cargo says for what it builds"),
        ])
        .output()
        .expect("cargo can be started");
    assert!(
        output.status.success(),
        "cargo metadata failed: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let metadata: serde_json::Value =
        serde_json::from_slice(&output.stdout).expect("cargo writes JSON");
    let manifest = metadata["packages"]
        .as_array()
        .into_iter()
        .flatten()
        .find(|package| package["name"] == "mozim")
        .and_then(|package| package["manifest_path"].as_str())
        .expect("mozim is a dependency");
    Path::new(manifest)
        .parent()
        .expect("a manifest is in a folder")
        .to_owned()
}
