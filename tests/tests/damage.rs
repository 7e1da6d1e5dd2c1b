//! Damage: bytes on the disk, no space on it.

use std::time::Duration;

use anyhow::ensure;
use keelson_bootstate::layout::Partition;
use keelson_qemu::{DiskFormat, find_partition, read_region, write_region};
use keelson_tests::{Boot, Node, eventually, saved};

const EARLY: Duration = Duration::from_secs(90);

const SOON: Duration = Duration::from_secs(120);

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

#[test]
fn a_full_data_partition_hurts_nobody_for_good() {
    saved::with_node("disk-full", |node, cluster| {
        let taken = cluster.exec("inside", &["fill", "/host/var/filled-by-a-test"])?;
        assert!(taken.trim().parse::<u64>()? > 1 << 30, "{taken}");
        // Nobody dies of it: who is there answers, and PID 1 says what is wrong.
        eventually("an answer with a full disk", SOON, || {
            Ok(cluster.run(&["get", "nodes", "--request-timeout=20s"])?)
        })?;
        eventually("the node's own word on it", SOON, || {
            let node = cluster.json(&["get", "nodes"])?;
            let conditions = node["items"][0]["status"]["conditions"].clone();
            let pressure = conditions
                .as_array()
                .and_then(|all| all.iter().find(|one| one["type"] == "DiskPressure"))
                .map(|one| one["status"] == "True");
            ensure!(pressure == Some(true), "conditions are {conditions}");
            Ok(())
        })?;
        cluster.exec("inside", &["remove", "/host/var/filled-by-a-test"])?;
        eventually("a write after there is space again", SOON, || {
            Ok(cluster.run(&["create", "configmap", "after", "--from-literal=a=b"])?)
        })?;
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
