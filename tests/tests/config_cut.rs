//! The power fails while a configuration is applied: the node comes back with the old one or the
//! new one, whole.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use keelson_qemu::Durability;
use keelson_tests::{Boot, Keelsonctl, Node, eventually, saved, usual_config};

/// Firmware, kernel, keys and apid take 8 s; the time before somebody looks is no matter.
const BACK: Duration = Duration::from_secs(120);

/// When the power fails, in quarters of what a change takes on a node at rest. The node that
/// carries out most of these has just booted and is slower.
const QUARTERS: [u32; 4] = [2, 4, 6, 12];

/// Exit code of keelsonctl.
const UNREACHABLE: i32 = 3;

/// A long file takes more than one block on the disk, so half of it could be there.
const LINES: usize = 3000;

#[test]
fn a_configuration_that_is_cut_short_is_the_old_or_the_new_one() {
    let boot = Boot {
        durability: Durability::Flushed,
        ..Boot::default()
    };
    saved::with_operated_boot("config-cut", &boot, |node, _, keelsonctl| {
        let begin = Instant::now();
        let mut holding = write(node, 0)?;
        keelsonctl.run(&["apply", "-f", &path(node)])?;
        let whole = begin.elapsed();
        println!("a change takes {whole:?}");
        eventually("the node API with another search domain", BACK, || {
            let shown = keelsonctl.run(&["config", "show", "--timeout", "5s"])?;
            ensure!(shown == holding, "applied, and shown as:\n{shown}");
            Ok(())
        })?;

        let mut keelsonctl = keelsonctl.clone();
        for (index, quarters) in QUARTERS.into_iter().enumerate() {
            let new = write(node, index + 1)?;
            let answered = cut(node, &keelsonctl, whole / 4 * quarters)?;
            node.start(&boot)?;
            keelsonctl = node.keelsonctl()?;
            let shown = eventually("the node API", BACK, || {
                keelsonctl.run(&["config", "show", "--timeout", "5s"])
            })?;
            let status = keelsonctl.json(&["status"])?;
            let stage = status["stage"].as_str().unwrap_or_default();
            ensure!(["starting", "running"].contains(&stage), "{status}");
            let which = match shown {
                text if text == new => "new",
                text if text == holding => "old",
                text => anyhow::bail!("neither the old nor the new one, but:\n{text}"),
            };
            println!("cut after {quarters} quarters, answered: {answered}, then the {which} one");
            ensure!(
                which == "new" || !answered,
                "the node said that it is in use, and came back with the old one"
            );
            if which == "new" {
                holding = new;
            }
        }
        Ok(())
    });
}

/// Lets the power fail so long after the start of a change; says whether the node had answered.
fn cut(node: &mut Node, keelsonctl: &Keelsonctl, after: Duration) -> anyhow::Result<bool> {
    let mut apply = keelsonctl.spawn(&["apply", "-f", &path(node)])?;
    thread::sleep(after);
    let ended = apply.try_wait();
    let cut = node.take_vm()?.power_cut();
    // Nobody answers it any more.
    let _ = apply.kill();
    let _ = apply.wait();
    cut?;
    match ended? {
        None => Ok(false),
        Some(status) if status.success() => Ok(true),
        // The network may still be busy with the change before this one.
        Some(status) if status.code() == Some(UNREACHABLE) => Ok(false),
        Some(status) => Err(anyhow::anyhow!("keelsonctl apply ended with {status}")),
    }
}

/// Writes a configuration of which every part names its number.
fn write(node: &Node, number: usize) -> anyhow::Result<String> {
    let network = format!("network:\n  searchDomains: [n{number}.example.org]\n");
    let mut text = usual_config("").replace("network:\n", &network);
    for line in 0..LINES {
        text.push_str(&format!("# {number}: line {line}\n"));
    }
    fs::write(path(node), &text).context("cannot write the configuration")?;
    Ok(text)
}

fn path(node: &Node) -> String {
    let path = node.folder().path().join("next.yaml");
    path.display().to_string()
}
