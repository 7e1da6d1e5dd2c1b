//! Damage: bytes on the disk, no space on it.

use std::io::{BufRead, BufReader};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use keelson_bootstate::layout::Partition;
use keelson_qemu::{DiskFormat, find_partition, read_region, write_region};
use keelson_tests::{Boot, Kubectl, Node, eventually, saved};

const EARLY: Duration = Duration::from_secs(90);

const SOON: Duration = Duration::from_secs(120);

/// How long nothing can be written.
const FULL: Duration = Duration::from_secs(20);

/// The longest pause before PID 1 tries again is 30 s, and then the datastore and all who use it
/// start under emulation.
const LATER: Duration = Duration::from_secs(240);

/// Where erofs has its superblock; nothing boots without reading that block.
const SUPERBLOCK: u64 = 1024;

#[test]
fn a_flipped_byte_in_the_root_stops_the_boot() {
    let boot = Boot::default();
    Node::with_created("flipped-byte", &boot, |node| {
        let tools = &node.environment().tools;
        let disk = node.folder().disk();
        let root = find_partition(tools, &disk, DiskFormat::Qcow2, Partition::RootA)?;
        let mut block = read_region(tools, &disk, DiskFormat::Qcow2, root.start, 4096)?;
        // In the volume's name, which no program looks at.
        let place = usize::try_from(SUPERBLOCK)? + 64;
        block[place] ^= 1;
        write_region(tools, &disk, DiskFormat::Qcow2, root.start, &block)?;

        node.start(&boot)?;
        let vm = node.vm()?;
        vm.wait_for_serial("Kernel panic", EARLY)?;
        vm.wait("a reset", EARLY, |seen| seen.qmp_event("RESET").map(drop))?;
        vm.look(|seen| {
            assert!(seen.serial_line("verity").is_some(), "{}", seen.serial);
            assert!(
                seen.messages.is_empty(),
                "the node ran: {:?}",
                seen.messages
            );
        });
        Ok(())
    });
}

/// What the node's own writers may use stays free: the datastore serves on while kubelet finds the
/// pod and evicts it.
#[test]
fn a_pod_that_fills_the_disk_is_evicted_and_the_datastore_serves_on() {
    saved::with_node("disk-full", |node, cluster| {
        let taken = cluster.exec("client", &["fill", "/scratch/filled-by-a-test"])?;
        assert!(taken.trim().parse::<u64>()? > 1 << 30, "{taken}");
        cluster.run(&["create", "configmap", "while-full", "--from-literal=a=b"])?;
        eventually("DiskPressure", SOON, || {
            let pressure = disk_pressure(cluster)?;
            ensure!(pressure == "True", "DiskPressure is {pressure}");
            Ok(())
        })?;
        eventually("the pod to be evicted", SOON, || {
            let status = cluster.json(&["get", "pod", "client"])?["status"].clone();
            ensure!(status["reason"] == "Evicted", "its status is {status}");
            Ok(())
        })?;
        cluster.run(&["create", "configmap", "after", "--from-literal=a=b"])?;
        node.vm()?.look(|seen| {
            let end = seen.serial_line("ended");
            assert!(end.is_none(), "a service died of it: {end:?}");
        });
        Ok(())
    });
}

/// A privileged program takes the reserve too. Nothing can be written, so the datastore may end;
/// with the space everything comes back by itself.
#[test]
fn a_disk_full_to_the_last_block_hurts_nobody_for_good() {
    saved::with_node("disk-full-privileged", |node, cluster| {
        let mut filler = cluster.spawn(&[
            "exec",
            "inside",
            "--",
            "/keelson-workload",
            "fill",
            "/host/var/filled-by-a-test",
            &FULL.as_secs().to_string(),
        ])?;
        let mut taken = String::new();
        let output = filler.stdout.take().context("no output")?;
        BufReader::new(output).read_line(&mut taken)?;
        assert!(taken.trim().parse::<u64>()? > 1 << 30, "{taken}");
        // Whatever becomes of them: they make the datastore ask for space.
        let large = format!("--from-literal=a={}", "x".repeat(100_000));
        let start = Instant::now();
        let mut number = 0;
        while start.elapsed() < FULL {
            number += 1;
            let name = format!("while-full-{number}");
            let _ = cluster.run(&["create", "configmap", &name, &large]);
        }
        eventually("a write after there is space again", LATER, || {
            Ok(cluster.run(&["create", "configmap", "after", "--from-literal=a=b"])?)
        })?;
        // The stream may have ended with the API's troubles.
        let _ = filler.kill();
        filler.wait()?;
        node.vm()?.look(|seen| {
            assert!(
                seen.serial_line("Kernel panic").is_none(),
                "{}",
                seen.serial
            );
        });
        Ok(())
    });
}

fn disk_pressure(cluster: &Kubectl) -> anyhow::Result<String> {
    let nodes = cluster.json(&["get", "nodes"])?;
    let conditions = nodes["items"][0]["status"]["conditions"].as_array();
    conditions
        .into_iter()
        .flatten()
        .find(|one| one["type"] == "DiskPressure")
        .and_then(|one| one["status"].as_str().map(str::to_owned))
        .context("the node says nothing about DiskPressure")
}
