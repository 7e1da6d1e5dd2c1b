//! Which cut points are worth a machine: some of every window, so that the many of a large one do
//! not crowd out those of a record.

use crate::points::Random;
use crate::sweep::cuts;
use crate::{CutPoint, Moment, Sampling, Scenario, Tear};

/// A cut to try with the real loader.
#[derive(Clone, Debug)]
pub struct Sample {
    /// Number of its scenario.
    pub scenario: usize,
    /// The cut.
    pub point: CutPoint,
    /// When it happens.
    pub moment: Moment,
}

/// Chooses `count` cuts from all scenarios, or all there are; others for another seed. Sectors that
/// cannot be read are left out: a machine would need a broken disk for them.
pub fn sample(scenarios: &[Scenario], count: usize, sampling: Sampling) -> Vec<Sample> {
    let mut random = Random(sampling.seed);
    let mut chosen = Vec::new();
    let mut windows: Vec<Vec<(usize, Sample)>> = Vec::new();
    let mut order = 0;
    for (scenario, played) in scenarios.iter().enumerate() {
        let mut window = None;
        for (point, moment) in cuts(played, sampling) {
            if window != Some(point.durable) {
                window = Some(point.durable);
                windows.push(Vec::new());
            }
            let torn = point.torn.as_ref();
            if torn.is_some_and(|torn| torn.tear == Tear::ReadError) {
                continue;
            }
            order += 1;
            let sample = Sample {
                scenario,
                point,
                moment,
            };
            match windows.last_mut() {
                Some(window) if moment == Moment::Between => window.push((order, sample)),
                // What is right at the ends is known exactly.
                _ => chosen.push((order, sample)),
            }
        }
    }
    windows.retain(|window| !window.is_empty());
    while chosen.len() < count && !windows.is_empty() {
        for window in &mut windows {
            chosen.push(window.swap_remove(random.below(window.len())));
        }
        windows.retain(|window| !window.is_empty());
    }
    chosen.truncate(count);
    // A replay goes forward.
    chosen.sort_by_key(|(order, _)| *order);
    chosen.into_iter().map(|(_, sample)| sample).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::{World, scenarios};

    const SAMPLING: Sampling = Sampling {
        seed: 1,
        subsets: 4,
        tears: 1,
    };

    #[test]
    fn every_window_has_its_share() {
        let world = World::with_own_keys().unwrap();
        let all = scenarios(&world, world.disk().unwrap()).unwrap();
        let windows = |count| -> BTreeSet<(usize, usize)> {
            sample(&all, count, SAMPLING)
                .iter()
                .map(|sample| (sample.scenario, sample.point.durable))
                .collect()
        };
        let flushes: usize = all
            .iter()
            .map(|scenario| {
                let shapes = scenario.operations.iter();
                shapes
                    .filter(|operation| **operation == crate::Operation::Flush)
                    .count()
            })
            .sum();
        assert_eq!(windows(400).len(), flushes);
        assert_eq!(sample(&all, 400, SAMPLING).len(), 400);
        let few = sample(&all, 60, SAMPLING);
        assert_eq!(few.len(), 60);
        let scenarios: BTreeSet<usize> = few.iter().map(|sample| sample.scenario).collect();
        assert_eq!(scenarios.len(), all.len());
    }
}
