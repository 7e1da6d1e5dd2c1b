//! Machines without UEFI: SeaBIOS, then GRUB.

// Helpers outside of #[test] functions unwrap as the tests do.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use keelson_bootstate::grub_env::RECORD_OFFSET;
use keelson_bootstate::layout::{MIB, Partition};
use keelson_bootstate::{Guid, Slot};
use keelson_images::SectorSize;
use keelson_images::bios::CoreRecipe;
use keelson_images::disk::{Content, DiskPlan, PlannedEsp, PlannedPartition, RawWrite};
use keelson_tests::grub::{
    Counter, Facts, Grub, Point, facts, install, launch, record, slot, slot_bytes,
};
use keelson_tests::{Boot, Environment, FirmwareKind, Node, report};

#[test]
fn the_same_image_becomes_ready_where_there_is_no_uefi() {
    let boot = Boot {
        firmware: FirmwareKind::Bios,
        ..Boot::default()
    };
    Node::with_booted("bios", &boot, |node| {
        node.ready()?;
        node.vm()?.look(|seen| {
            let chosen = format!("keelson: slot {} (default), SHA-256 good", Slot::A);
            let before: Vec<_> = seen
                .serial
                .lines()
                .take_while(|line| !line.contains(&chosen))
                .collect();
            assert_ne!(before.len(), seen.serial.lines().count(), "{}", seen.serial);
            // GRUB had nothing to say about record, tries or table.
            let wrong = before.iter().any(|line| line.contains("error"));
            assert!(!wrong, "{before:?}");
        });
        Ok(())
    });
}

/// The scripts of an image from the first line to the last, on a disk with its partitions.
#[test]
fn the_disk_it_was_started_from_is_found_even_without_a_partition_table() {
    /// A second, as a rule.
    const CHOICE: Duration = Duration::from_secs(30);
    /// Tells what it was given and loads nothing, so that the other slot is tried too.
    const TELL: &str = "for fact in $facts; do echo \"POINT 0 $fact\"; done\n";
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let environment = Environment::prepare().unwrap();
    let tools = &environment.tools;
    let mut plan = image(&slot_bytes(&[0x5a; 3000], TELL).unwrap());
    let recipe = CoreRecipe::new(&plan).unwrap();
    install(tools, &mut plan, &recipe, folder).unwrap();
    let disk = folder.join("disk.raw");
    plan.write_raw(&disk).unwrap();

    let guid = plan.partition(Partition::BootB).unwrap().id.to_string();
    let expected = [
        ("loader", "grub"),
        ("slot", "b"),
        ("part", &guid),
        ("why", "default"),
        ("first", "1"),
        ("second", "2,3"),
    ];
    let expected: Facts = expected
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    for about in ["whole", "destroyed"] {
        let vm = launch(tools, &disk, folder, &["first=1", "second=2,3"]).unwrap();
        vm.wait_for_serial("no slot of this disk starts", CHOICE)
            .unwrap();
        let (seen, serial) = vm.look(|seen| (facts(seen.serial, 0), seen.serial.to_owned()));
        assert_eq!(seen, expected, "table {about}: {serial}");
        assert!(serial.contains("slot A cannot be started"), "{serial}");
        vm.power_cut().unwrap();
        // The header of the first copy of the table, which is the only one that GRUB reads.
        let file = File::options().write(true).open(&disk).unwrap();
        file.write_all_at(&[0xa5; 512], 512).unwrap();
    }
}

#[test]
fn hashing_ten_mebibytes_takes_seconds() {
    /// More than today's slot.
    const SIZE: usize = 10 << 20;
    /// Stands for the kernel.
    const LOADED: &str = "set loaded=1\n";
    /// Under emulation it takes one; with a slot of six times the size a person still waits.
    const MOST: Duration = Duration::from_secs(20);
    let folder = tempfile::tempdir().unwrap();
    let environment = Environment::prepare().unwrap();
    let slots = BTreeMap::from([("large", slot_bytes(&vec![0x5a; SIZE], LOADED).unwrap())]);
    let point = Point {
        records: [record(1, None, Slot::A), record(2, None, Slot::A)],
        tries: Counter::Missing,
        slots: ["large", "large"],
    };
    let grub = Grub::start(&environment.tools, folder.path(), &slots, &[point]).unwrap();
    grub.vm.wait_for_serial("5+3: OK", MOST).unwrap();
    let start = Instant::now();
    grub.vm.wait_for_serial("SHA-256 good", MOST).unwrap();
    let took = start.elapsed();
    let chosen = grub.finish().unwrap();
    assert_eq!(slot(&chosen.facts[0]), Some(Slot::A));
    println!("GRUB hashed {} MiB in {} ms", SIZE >> 20, took.as_millis());
    let milliseconds = u64::try_from(took.as_millis()).unwrap();
    report::record(
        &environment.out,
        "grub_hash_10_mib_ms",
        serde_json::json!(milliseconds),
    )
    .unwrap();
}

/// A disk like an image's, with this slot as B, which is the default, and nothing in A.
fn image(slot: &[u8]) -> DiskPlan {
    let kinds = [
        Partition::Bios,
        Partition::GrubEnv,
        Partition::BootState,
        Partition::BootA,
        Partition::BootB,
    ];
    let mut end = MIB;
    let partitions: Vec<_> = kinds
        .into_iter()
        .map(|kind| {
            let (start, size) = (end, kind.size().unwrap());
            end += size;
            PlannedPartition {
                kind,
                id: Guid::from_u128((0xfeed << 64) + u128::from(start)),
                start,
                size,
            }
        })
        .collect();
    let start = |kind| {
        let found = partitions.iter().find(|one| one.kind == kind);
        found.unwrap().start
    };
    let text = record(1, None, Slot::B).to_vec();
    let writes = [
        (start(Partition::BootState) + RECORD_OFFSET, text),
        (start(Partition::BootB), slot.to_vec()),
    ];
    DiskPlan {
        id: Guid::from_u128(0xfeed),
        sector_size: SectorSize::Bytes512,
        size: end + MIB,
        writes: writes
            .into_iter()
            .map(|(offset, bytes)| RawWrite {
                offset,
                content: Content::Bytes(bytes),
            })
            .collect(),
        partitions,
        // Not written: the disk has no such partition.
        esp: PlannedEsp {
            volume_id: 0,
            loader_path: String::new(),
            loader: vec![],
        },
    }
}
