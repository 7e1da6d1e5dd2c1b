//! A node without a configuration: what it says on the console is enough to make it a cluster.

use std::fs;
use std::time::Duration;

use anyhow::{Context, ensure};
use keelson_tests::{Boot, Node, READY, usual_config};

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

        for allowed in [vec!["version"], vec!["get", "disks"]] {
            keelsonctl.run(&[&allowed[..], &trust].concat())?;
        }
        let refused = keelsonctl.fails(&[&["get", "services"][..], &trust].concat(), 4)?;
        ensure!(refused.contains("certificate"), "{refused}");

        let file = node.folder().path().join("first.yaml");
        fs::write(&file, usual_config(""))?;
        let file = file.to_string_lossy().into_owned();
        let apply = |code: &str| {
            [
                vec!["apply", "-f", &file, "--code"],
                vec![code, "--person", "ada", "--save-as", "first"],
                trust.to_vec(),
            ]
            .concat()
            .into_iter()
            .map(str::to_owned)
            .collect::<Vec<_>>()
        };
        let run = |arguments: &[String]| -> Vec<String> { arguments.to_vec() };
        let wrong = run(&apply("0000-0000"));
        let wrong: Vec<&str> = wrong.iter().map(String::as_str).collect();
        let words = keelsonctl.fails(&wrong, 4)?;
        ensure!(words.contains("code"), "{words}");
        let right = run(&apply(&code));
        let right: Vec<&str> = right.iter().map(String::as_str).collect();
        keelsonctl.run(&right)?;

        node.vm()?.wait_for_condition("node-ready", READY)?;
        keelsonctl.run(&["get", "services"])?;
        // The code has done its work.
        keelsonctl.fails(&right, 4)?;
        Ok(())
    });
}
