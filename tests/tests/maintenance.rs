//! A node without a configuration: what it says on the console is enough to make it a cluster.

use std::fs;
use std::time::Duration;

use anyhow::{Context, ensure};
use keelson_tests::{Boot, Node, READY, eventually, usual_config};

/// Firmware, kernel and the first services.
const EARLY: Duration = Duration::from_secs(120);

#[test]
fn a_code_from_the_console_makes_a_node_of_it() {
    let boot = Boot {
        config: None,
        ..Boot::default()
    };
    Node::with_booted("maintenance", &boot, |node| {
        let line = node.vm()?.wait_for_serial("keelsonctl apply", EARLY)?;
        let word_after = |option: &str| -> anyhow::Result<String> {
            line.split_whitespace()
                .skip_while(|word| *word != option)
                .nth(1)
                .map(str::to_owned)
                .with_context(|| format!("no {option} in {line:?}"))
        };
        let (code, fingerprint) = (word_after("--code")?, word_after("--fingerprint")?);
        let address = format!("127.0.0.1:{}", node.node_api_port()?);
        let keelsonctl = node.keelsonctl_without_context()?;
        let trust = ["-n", &address, "--fingerprint", &fingerprint];

        // The line comes as soon as the keys are there, a moment before apid is.
        eventually("the node API", EARLY, || {
            keelsonctl.run(&[&["version"][..], &trust].concat())
        })?;
        keelsonctl.run(&[&["get", "disks"][..], &trust].concat())?;
        let refused = keelsonctl.fails(&[&["get", "services"][..], &trust].concat(), 4)?;
        ensure!(refused.contains("certificate"), "{refused}");

        let file = node.folder().path().join("first.yaml");
        fs::write(&file, usual_config(""))?;
        let file = file.to_string_lossy().into_owned();
        let apply = [&["apply", "-f", &file, "--person", "ada"][..], &trust].concat();
        let apply = [&apply[..], &["--save-as", "first", "--code"]].concat();
        let words = keelsonctl.fails(&[&apply[..], &["0000-0000"]].concat(), 4)?;
        ensure!(words.contains("code"), "{words}");
        let right = [&apply[..], &[code.as_str()]].concat();
        keelsonctl.run(&right)?;

        node.vm()?.wait_for_condition("node-ready", READY)?;
        keelsonctl.run(&["get", "services"])?;
        // The code has done its work.
        let again: Vec<&str> = right
            .iter()
            .map(|word| if *word == "first" { "again" } else { word })
            .collect();
        keelsonctl.fails(&again, 4)?;
        Ok(())
    });
}
