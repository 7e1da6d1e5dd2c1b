//! Cuts the power at every point of everything that is done to a disk, and asks both loaders.

// Helpers outside of #[test] functions unwrap as the tests do.
#![allow(clippy::unwrap_used)]

use std::panic::resume_unwind;
use std::thread;

use keelson_powercut::{
    Again, Findings, Replay, Sampling, Scenario, World, cuts, scenarios, sweep,
};

/// What takes seconds; `KEELSON_POWER_CUT_TEARS=32` makes even the pages in front of slots
/// exhaustive, which takes minutes.
fn sampling() -> Sampling {
    let tears = std::env::var("KEELSON_POWER_CUT_TEARS");
    Sampling {
        seed: 5,
        subsets: 64,
        tears: tears.map_or(1, |number| number.parse().unwrap()),
    }
}

#[test]
fn no_cut_needs_a_person() {
    let world = World::with_own_keys().unwrap();
    let all = scenarios(&world, world.disk().unwrap()).unwrap();
    let findings = sweep_all(&world, &all);
    assert!(findings.faults.is_empty(), "{}", shown(&findings));
    assert!(findings.points > 4_000, "{} points only", findings.points);
    println!("{} scenarios, {} points", all.len(), findings.points);
}

/// The node comes up after a cut and repairs the disk, and the power fails again.
#[test]
fn no_cut_of_a_repair_needs_a_person() {
    let world = World::with_own_keys().unwrap();
    let all = scenarios(&world, world.disk().unwrap()).unwrap();
    let repairs: Vec<Scenario> = all
        .iter()
        .filter(|scenario| !matches!(scenario.again, Again::Install(..) | Again::Repair))
        .flat_map(|scenario| repairs_of(&world, scenario))
        .collect();
    assert!(repairs.len() > 50, "{} repairs only", repairs.len());
    let findings = sweep_all(&world, &repairs);
    assert!(findings.faults.is_empty(), "{}", shown(&findings));
    println!("{} repairs, {} points", repairs.len(), findings.points);
}

/// What is written after each cut that leaves something to repair.
fn repairs_of(world: &World, scenario: &Scenario) -> Vec<Scenario> {
    let mut replay = Replay::new(&scenario.before, &scenario.operations);
    let whole_sectors = cuts(scenario, sampling())
        .into_iter()
        .filter(|(point, _)| point.torn.is_none());
    whole_sectors
        .map(|(point, _)| {
            let name = format!("repair after a cut of: {}", scenario.name);
            Scenario::play(&name, replay.at(&point), world, Again::Repair).unwrap()
        })
        .filter(|repair| !repair.operations.is_empty())
        .collect()
}

fn sweep_all(world: &World, scenarios: &[Scenario]) -> Findings {
    let next = std::sync::atomic::AtomicUsize::new(0);
    let take = || {
        let mut findings = Findings::default();
        loop {
            let number = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            let Some(scenario) = scenarios.get(number) else {
                return findings;
            };
            findings.add(sweep(world, scenario, sampling()));
        }
    };
    let mut all = Findings::default();
    let cores = thread::available_parallelism().map_or(2, usize::from);
    thread::scope(|scope| {
        let workers: Vec<_> = (0..cores).map(|_| scope.spawn(take)).collect();
        for worker in workers {
            match worker.join() {
                Ok(findings) => all.add(findings),
                Err(panic) => resume_unwind(panic),
            }
        }
    });
    all
}

fn shown(findings: &Findings) -> String {
    let faults = findings.faults.iter().map(ToString::to_string);
    format!(
        "{} of {} points:\n{}",
        findings.faults.len(),
        findings.points,
        faults.take(20).collect::<Vec<_>>().join("\n")
    )
}
