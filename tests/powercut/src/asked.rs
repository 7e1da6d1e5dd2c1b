//! Compares the real loaders with what they must do after a cut.

use std::ops::Range;

use keelson_bootstate::layout::{MIB, Partition};
use keelson_bootstate::{Tries, grub_env};

use crate::target::read_what_is_there;
use crate::{
    Answer, AskError, Fault, Findings, Image, Judge, Loader, Named, Places, RealLoader, Replay,
    SECTOR, Sample, Scenario, World, named,
};

/// Asks a real loader about cuts, which are in the order of [`crate::sample`].
pub fn ask_all(
    real: &mut RealLoader,
    world: &World,
    scenarios: &[Scenario],
    samples: &[Sample],
) -> Result<Findings, AskError> {
    let mut findings = Findings::default();
    for (number, scenario) in scenarios.iter().enumerate() {
        let mut replay = Replay::new(&scenario.before, &scenario.operations);
        let judge = Judge::new(world, scenario);
        for sample in samples.iter().filter(|sample| sample.scenario == number) {
            let disk = replay.at(&sample.point);
            let answer = real.ask(&disk, world)?;
            findings.points += 1;
            let checked = judge.as_ref().map_err(Clone::clone).and_then(|judge| {
                let started = answer.named.as_ref().ok_or("it starts no slot")?;
                judge.allow(real.loader(), started, sample.moment)?;
                check(real.loader(), world, &disk, started, &answer)
            });
            if let Err(what) = checked {
                findings.faults.push(Fault {
                    scenario: scenario.name.clone(),
                    point: sample.point.clone(),
                    what: format!("{what}; the console shows:\n{}", answer.console),
                });
            }
        }
    }
    Ok(findings)
}

/// It does what was foreseen without a machine, and has written its tries and nothing else.
fn check(
    loader: Loader,
    world: &World,
    disk: &Image,
    started: &Named,
    answer: &Answer,
) -> Result<(), String> {
    let places = Places::find(disk).map_err(|error| error.to_string())?;
    let whole = world.build_in(&answer.disk, &places, started.0);
    if whole.is_none_or(|build| build.version != started.1) {
        return Err(format!("{started:?} is not whole"));
    }
    let (foreseen, counted) = named(loader, world, disk)?;
    if foreseen != *started {
        return Err(format!("it starts {started:?}, foreseen was {foreseen:?}"));
    }
    let after = counted.as_ref().unwrap_or(disk);
    let may_write = match loader {
        Loader::Efi => Partition::Tries,
        Loader::Grub => Partition::GrubEnv,
    };
    let place = places.of(may_write).map_err(|error| error.to_string())?;
    let tables = mended_by_firmware(loader, disk);
    let mut changes = answer.disk.changes(disk);
    if let Some((at, _)) =
        changes.find(|(at, _)| !place.contains(at) && !tables.iter().any(|t| t.contains(at)))
    {
        return Err(format!("it has written at {at:#x}, outside of its tries"));
    }
    let tries = |disk: &Image| {
        let bytes = read_what_is_there(disk, place.clone());
        match loader {
            Loader::Efi => Tries::decode(&bytes),
            Loader::Grub => grub_env::find(&bytes)
                .map_or(Tries::Unreadable, |at| grub_env::decode_tries(&bytes[at..])),
        }
    };
    let (has, must) = (tries(&answer.disk), tries(after));
    if has != must {
        return Err(format!("it leaves {has}, foreseen were {must}"));
    }
    Ok(())
}

/// UEFI writes a torn copy of the partition table anew from the other one before it starts anything
/// (EDK II, PartitionDxe/Gpt.c); a BIOS knows no such table.
fn mended_by_firmware(loader: Loader, disk: &Image) -> Vec<Range<u64>> {
    match loader {
        Loader::Efi => vec![SECTOR..MIB, disk.size() - MIB..disk.size()],
        Loader::Grub => Vec::new(),
    }
}
