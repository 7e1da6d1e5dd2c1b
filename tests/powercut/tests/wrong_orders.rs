//! The sweep can fail: writes in a wrong order are found.

// Helpers outside of #[test] functions unwrap as the tests do.
#![allow(clippy::unwrap_used)]

use keelson_bootstate::Copy;
use keelson_bootstate::plan::Step;
use keelson_powercut::{Sampling, Scenario, Target, World, scenarios, sweep, trial_before_install};

const SAMPLING: Sampling = Sampling {
    seed: 5,
    subsets: 16,
    tears: 1,
};

/// Plays a scenario with other steps than its plan has; these must leave at least one cut that
/// needs a person or undoes what was done.
fn is_caught(scenario: &str, what: &str, change: impl FnOnce(Vec<Step>) -> Vec<Step>) {
    let world = World::with_own_keys().unwrap();
    let right = right(&world, scenario);
    let mut target = Target::new(right.before.clone()).unwrap();
    let (steps, build) = right.again.plan(&target, &world).unwrap();
    let changed = change(steps.clone());
    assert_ne!(changed, steps);
    target.run(changed, build).unwrap();
    let wrong = Scenario {
        name: format!("{scenario}, {what}"),
        before: right.before.clone(),
        operations: target.into_operations(),
        again: right.again,
        fallback: right.fallback,
    };
    let findings = sweep(&world, &wrong, SAMPLING);
    let faults = findings.faults.len();
    let first = findings.faults.first().map(ToString::to_string);
    println!("{faults} of {} points: {first:?}", findings.points);
    assert!(faults > 0, "{what} was not noticed");
}

#[test]
fn a_header_before_its_content() {
    is_caught("install over the old build", "header first", |mut steps| {
        let header = position(&steps, |step| matches!(step, Step::WriteHeader(_)));
        let step = steps.remove(header);
        let root = position(&steps, |step| matches!(step, Step::WriteRoot(_)));
        steps.insert(root, step);
        steps.retain(|step| !matches!(step, Step::ReadBackContent(_)));
        steps
    });
}

#[test]
fn an_old_header_that_stays_while_its_content_goes() {
    is_caught(
        "install over the old build",
        "old header kept",
        |mut steps| {
            steps.retain(|step| !matches!(step, Step::InvalidateHeader(_)));
            steps
        },
    );
}

#[test]
fn no_flush_between_content_and_header() {
    is_caught("install over the old build", "no flush", |mut steps| {
        let header = position(&steps, |step| matches!(step, Step::WriteHeader(_)));
        let before = steps[..header].iter();
        let flush = before.rev().position(|step| *step == Step::Flush).unwrap();
        steps.remove(header - 1 - flush);
        steps
    });
}

#[test]
fn both_copies_of_a_record_at_once() {
    is_caught("mark good after one try", "both copies", |steps| {
        let both = steps.into_iter().flat_map(|step| match step {
            Step::WriteRecord { record, .. } => [Copy::First, Copy::Second]
                .map(|copy| Step::WriteRecord { copy, record })
                .to_vec(),
            other => vec![other],
        });
        both.collect()
    });
}

#[test]
fn a_trial_of_what_is_not_installed_yet() {
    let world = World::with_own_keys().unwrap();
    let wrong = trial_before_install(&world, &right(&world, "install over the old build")).unwrap();
    let findings = sweep(&world, &wrong, SAMPLING);
    let started = findings.faults.iter();
    let early = started.filter(|fault| fault.what.contains("starts (A, \"1.0.0\")"));
    assert!(early.count() > 0, "{findings:?}");
}

fn right(world: &World, name: &str) -> Scenario {
    let all = scenarios(world, world.disk().unwrap()).unwrap();
    all.into_iter().find(|one| one.name == name).unwrap()
}

fn position(steps: &[Step], is: impl FnMut(&Step) -> bool) -> usize {
    steps.iter().position(is).unwrap()
}
