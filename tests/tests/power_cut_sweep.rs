//! The power fails at any write of an upgrade, of a first boot and of a change of configuration: the
//! real loaders start a whole slot all the same, and nobody has to help.
//!
//! Which cuts there are and what must come of them is in `keelson-powercut`, whose own tests try all
//! of them without a machine; here are as many as there is time for with the loaders of the image.

// Helpers outside of #[test] functions unwrap as the tests do.
#![allow(clippy::unwrap_used)]

use std::fs::{self, File};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use keelson_bootstate::layout::Partition;
use keelson_control::ServiceState;
use keelson_images::keys::{self, Keys};
use keelson_images::sparse;
use keelson_powercut::{
    Again, Fault, Findings, Image, Loader, Operation, Places, RealLoader, Sampling, Scenario,
    Shape, World, WriteLog, ask_all, random_cut, sample, scenarios, sweep, trial_before_install,
};
use keelson_qemu::{DiskFormat, Durability, create_overlay, run_within};
use keelson_tests::{Boot, Environment, Node, number_in, report, usual_config};
use serde_json::json;

/// Cuts for each loader, 0.3 s each on an idle host. `make test-long` sets 2000.
const POINTS: u64 = 48;

/// Cuts of a recorded first boot with each loader. UEFI starts anew for most of them, for they
/// concern the partition table: 2 s each.
const RECORDED_POINTS: usize = 12;

/// Whole machines started from a cut disk, a minute each. `make test-long` sets 10.
const BOOTS: u64 = 1;

/// A wrong order shows in more than one of ten cuts.
const WRONG_POINTS: usize = 30;

const SAMPLING: Sampling = Sampling {
    seed: 11,
    subsets: 32,
    tears: 2,
};

/// From power on to the datastore, with storage to be made.
const DATASTORE: Duration = Duration::from_secs(150);

/// `qemu-img convert` of an image with a few hundred megabytes.
const CONVERT: Duration = Duration::from_secs(120);

#[test]
fn the_efi_loader_starts_a_whole_slot_after_any_cut() {
    asks(Loader::Efi).unwrap();
}

#[test]
fn grub_starts_a_whole_slot_after_any_cut() {
    asks(Loader::Grub).unwrap();
}

fn asks(loader: Loader) -> anyhow::Result<()> {
    let environment = Environment::prepare()?;
    let (world, fresh) = world(&environment)?;
    let all = scenarios(&world, fresh.clone())?;
    let count = usize::try_from(number_in("KEELSON_POWER_CUT_POINTS").unwrap_or(POINTS))?;
    let chosen = sample(&all, count, SAMPLING);
    let folder = tempfile::tempdir()?;
    let mut real = RealLoader::start(&environment.tools, loader, folder.path(), &fresh)?;

    let begin = Instant::now();
    let findings = ask_all(&mut real, &world, &all, &chosen)?;
    let seconds = begin.elapsed().as_secs_f64();
    println!("{loader:?}: {} cuts in {seconds:.1} s", findings.points);
    ensure!(findings.faults.is_empty(), "{}", shown(&findings));
    ensure!(
        findings.points == count,
        "{} of {count} cuts",
        findings.points
    );

    // And it would have been noticed.
    let over_the_old = all
        .iter()
        .find(|one| matches!(one.again, Again::Install(_, 2)));
    let right = over_the_old.context("no build is replaced")?;
    let wrong = [trial_before_install(&world, right)?];
    let chosen = sample(&wrong, WRONG_POINTS, SAMPLING);
    let noticed = ask_all(&mut real, &world, &wrong, &chosen)?;
    ensure!(
        !noticed.faults.is_empty(),
        "a wrong order of writes goes unnoticed"
    );

    let figures = json!({
        "points": findings.points,
        "seconds": seconds,
        "faults": findings.faults.len(),
        "wrong_order": { "points": noticed.points, "faults": noticed.faults.len() },
    });
    report::record(
        &environment.out,
        &format!("power_cuts_{}", name(loader)),
        figures,
    )
}

#[test]
fn a_first_boot_and_a_change_of_configuration_leave_a_disk_that_starts() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("writes.log");
    let boot = Boot {
        durability: Durability::Flushed,
        write_log: Some(log.clone()),
        ..Boot::default()
    };
    Node::with_created("power-cut-recorded", &boot, |node| {
        let start = folder.path().join("start.raw");
        convert(node, &start)?;
        record(node, &boot)?;
        let log = WriteLog::open(&log)?;
        loaders_start(node.environment(), &start, &log)?;
        for seed in 0..number_in("KEELSON_POWER_CUT_BOOTS").unwrap_or(BOOTS) {
            node_starts(node, folder.path(), &start, &log, seed)?;
        }
        Ok(())
    });
}

/// A first boot up to the datastore, then another configuration.
fn record(node: &mut Node, boot: &Boot) -> anyhow::Result<()> {
    node.start(boot)?;
    serves(node)?;
    let changed = node.folder().path().join("next.yaml");
    let domain = "network:\n  searchDomains: [cut.example.org]\n";
    fs::write(&changed, usual_config("").replace("network:\n", domain))?;
    let keelsonctl = node.keelsonctl()?;
    keelsonctl.run(&["apply", "-f", &changed.to_string_lossy()])?;
    node.take_vm()?.power_cut()?;
    Ok(())
}

/// Both loaders start slot A whatever is lost, without a machine and with one.
fn loaders_start(environment: &Environment, start: &Path, log: &WriteLog) -> anyhow::Result<()> {
    let (world, _) = world(environment)?;
    let disk = Image::load(&File::open(start)?)?;
    let places = Places::find(&disk)?;
    let operations = log.operations_in(&places.of_loaders(&disk))?;
    for kind in [Partition::Esp, Partition::BootA, Partition::BootB] {
        let place = places.of(kind)?;
        let written = operations.iter().find(|operation| {
            matches!(operation.shape(), Shape::Change { offset, .. } if place.contains(&offset))
        });
        ensure!(
            written.is_none(),
            "{} is written to: {written:?}",
            kind.name()
        );
    }
    let writes = operations.iter().filter(|one| **one != Operation::Flush);
    ensure!(writes.count() > 0, "nothing was recorded");
    // The slots are not written to, so small builds stand in for the real one.
    let scenario = Scenario {
        name: "first boot and a change of configuration".to_owned(),
        before: world.put_on(without_state(disk)?)?,
        operations,
        again: Again::Repair,
        fallback: None,
    };
    let findings = sweep(&world, &scenario, SAMPLING);
    println!("recorded: {} cuts without a machine", findings.points);
    ensure!(findings.faults.is_empty(), "{}", shown(&findings));

    let all = [scenario];
    let chosen = sample(&all, RECORDED_POINTS, SAMPLING);
    for loader in [Loader::Efi, Loader::Grub] {
        let folder = tempfile::tempdir()?;
        let before = &all[0].before;
        let mut real = RealLoader::start(&environment.tools, loader, folder.path(), before)?;
        let begin = Instant::now();
        let findings = ask_all(&mut real, &world, &all, &chosen)?;
        println!(
            "recorded: {} cuts with {loader:?} in {:.1?}",
            findings.points,
            begin.elapsed()
        );
        ensure!(findings.faults.is_empty(), "{}", shown(&findings));
    }
    Ok(())
}

/// A whole machine comes up from a disk that a cut left behind.
fn node_starts(
    node: &mut Node,
    folder: &Path,
    start: &Path,
    log: &WriteLog,
    seed: u64,
) -> anyhow::Result<()> {
    let cut = random_cut(&log.shapes(), seed);
    println!(
        "power cut {seed}: {} operations are on the disk, and some more",
        cut.durable
    );
    let raw = folder.join("cut.raw");
    sparse::copy(start, &raw)?;
    log.play(&cut, &File::options().write(true).open(&raw)?)?;
    let disk = node.folder().disk();
    fs::remove_file(&disk)?;
    let tools = &node.environment().tools;
    create_overlay(tools, &raw, DiskFormat::Raw, &disk, None)?;
    node.start(&Boot::default())?;
    serves(node).with_context(|| format!("after the cut with seed {seed}: {cut}"))?;
    node.take_vm()?.power_cut()?;
    Ok(())
}

/// Disk, configuration and keys are whole: the datastore serves.
fn serves(node: &mut Node) -> anyhow::Result<()> {
    node.vm()?
        .wait("a datastore that serves", DATASTORE, |seen| {
            let state = seen.service("etcd").map(|status| status.state);
            (state == Some(ServiceState::Ready)).then_some(())
        })?;
    Ok(())
}

/// The disk of the image with small builds, signed by the builder's keys: the image's loader takes
/// them.
fn world(environment: &Environment) -> anyhow::Result<(World, Image)> {
    let keys = Keys::load(&keys::folder()?)?;
    let release = keys.release();
    let key = release.first().context("the builder has no release key")?;
    let world = World::new(key, *keys.trust())?;
    let image = Image::load(&File::open(environment.image()?)?)?;
    let fresh = world.put_on(without_state(image)?)?;
    Ok((world, fresh))
}

/// What is on it is nothing to loaders, and there is much of it.
fn without_state(mut disk: Image) -> anyhow::Result<Image> {
    let place = Places::find(&disk)?.of(Partition::State)?;
    disk.discard(place.start, place.end - place.start);
    Ok(disk)
}

fn convert(node: &Node, raw: &Path) -> anyhow::Result<()> {
    let mut convert = node.environment().tools.command("qemu-img");
    convert.args(["convert", "-f", "qcow2", "-O", "raw"]);
    convert.arg(node.folder().disk()).arg(raw);
    run_within(&mut convert, CONVERT)?;
    Ok(())
}

fn shown(findings: &Findings) -> String {
    let faults: Vec<_> = findings
        .faults
        .iter()
        .take(5)
        .map(Fault::to_string)
        .collect();
    format!(
        "{} of {} cuts need a person:\n{}",
        findings.faults.len(),
        findings.points,
        faults.join("\n")
    )
}

fn name(loader: Loader) -> &'static str {
    match loader {
        Loader::Efi => "efi",
        Loader::Grub => "grub",
    }
}
