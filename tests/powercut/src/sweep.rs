//! Cuts the power at every point of a scenario and says where that would need a person.

use std::fmt;

use keelson_bootstate::Slot;
use keelson_bootstate::TRIES_PER_TRIAL;

use crate::{
    Again, CutPoint, Image, Loader, Operation, Places, Replay, Sampling, Scenario, Target, World,
    accepts, choose, plan,
};

/// What a sweep found.
#[derive(Clone, Debug, Default)]
pub struct Findings {
    /// Cut points.
    pub points: usize,
    /// What must not be.
    pub faults: Vec<Fault>,
}

/// A cut that would need a person, or that undoes what was done.
#[derive(Clone, Debug)]
pub struct Fault {
    /// What was done to the disk.
    pub scenario: String,
    /// When the power failed.
    pub point: CutPoint,
    /// What is wrong.
    pub what: String,
}

/// A slot and the version in it.
pub type Named = (Slot, String);

/// Tries every cut point.
pub fn sweep(world: &World, scenario: &Scenario, sampling: Sampling) -> Findings {
    let mut findings = Findings::default();
    let fault = |point: &CutPoint, what| Fault {
        scenario: scenario.name.clone(),
        point: point.clone(),
        what,
    };
    let judge = Judge::new(world, scenario);
    let mut replay = Replay::new(&scenario.before, &scenario.operations);
    for (point, moment) in cuts(scenario, sampling) {
        findings.points += 1;
        let judged = judge
            .as_ref()
            .map_err(Clone::clone)
            .and_then(|judge| judge.judge(&replay.at(&point), moment));
        if let Err(what) = judged {
            findings.faults.push(fault(&point, what));
        }
    }
    findings
}

/// When a disk was cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// Before anything was written.
    Before,
    /// Somewhere between.
    Between,
    /// After everything was written and flushed.
    After,
}

/// Every cut point of a scenario, in the order of its writes.
pub fn cuts(scenario: &Scenario, sampling: Sampling) -> Vec<(CutPoint, Moment)> {
    let shapes: Vec<_> = scenario.operations.iter().map(Operation::shape).collect();
    let points = plan(&shapes, sampling);
    let last = points.len() - 1;
    let moment = |number| match number {
        0 => Moment::Before,
        _ if number == last => Moment::After,
        _ => Moment::Between,
    };
    let numbered = points.into_iter().enumerate();
    numbered
        .map(|(number, point)| (point, moment(number)))
        .collect()
}

/// Knows what a scenario may leave behind.
#[derive(Debug)]
pub struct Judge<'a> {
    world: &'a World,
    again: Again,
    fallback: Option<Slot>,
    expected: [Expected; 2],
}

/// What a loader chose before, and what it chooses afterwards.
#[derive(Clone, Debug)]
struct Expected {
    loader: Loader,
    before: Named,
    after: Named,
}

impl<'a> Judge<'a> {
    /// Looks at the disks before and after a scenario.
    pub fn new(world: &'a World, scenario: &Scenario) -> Result<Self, String> {
        let (before, after) = (&scenario.before, scenario.after());
        let expected = |loader| {
            Ok::<_, String>(Expected {
                loader,
                before: named(loader, world, before)?.0,
                after: named(loader, world, &after)?.0,
            })
        };
        Ok(Self {
            world,
            again: scenario.again,
            fallback: scenario.fallback,
            expected: [expected(Loader::Efi)?, expected(Loader::Grub)?],
        })
    }

    /// What is wrong with a disk that a cut left behind.
    pub fn judge(&self, disk: &Image, moment: Moment) -> Result<(), String> {
        for expected in &self.expected {
            let (first, next) = named(expected.loader, self.world, disk)?;
            self.allow(expected.loader, &first, moment)?;
            self.ends(expected.loader, next)?;
        }
        self.goes_on(disk)
    }

    /// Whether a loader may choose this slot when the power failed at that moment.
    pub fn allow(&self, loader: Loader, named: &Named, moment: Moment) -> Result<(), String> {
        if moment == Moment::Between && self.fallback == Some(named.0) {
            return Ok(());
        }
        let mut expected = self.expected.iter();
        expected
            .find(|expected| expected.loader == loader)
            .map_or(Ok(()), |expected| expected.allow(named, moment))
    }

    /// Nobody marks anything good: the trials end by themselves.
    fn ends(&self, loader: Loader, mut next: Option<Image>) -> Result<(), String> {
        let mut starts = 0;
        while let Some(disk) = next {
            starts += 1;
            if starts > TRIES_PER_TRIAL {
                return Err(format!("{loader:?} starts a trial for ever"));
            }
            next = named(loader, self.world, &disk)?.1;
        }
        Ok(())
    }

    /// The node that comes up repairs the disk and can do again what was cut.
    fn goes_on(&self, disk: &Image) -> Result<(), String> {
        let target = || Target::new(disk.clone()).map_err(|error| error.to_string());
        let mut repaired = target()?;
        Again::Repair
            .run(&mut repaired, self.world)
            .map_err(|error| format!("the node cannot repair it: {error}"))?;
        let whole = repaired.stored().map_err(|error| error.to_string())?;
        if !whole.is_ok_and(|stored| stored.is_whole()) {
            return Err("the node does not repair it".to_owned());
        }
        if self.again == Again::Repair {
            return Ok(());
        }
        let mut again = target()?;
        self.again
            .run(&mut again, self.world)
            .map_err(|error| format!("the node cannot do it again: {error}"))?;
        for expected in &self.expected {
            let done = named(expected.loader, self.world, again.disk())?.0;
            expected
                .allow(&done, Moment::After)
                .map_err(|what| format!("done again: {what}"))?;
        }
        Ok(())
    }
}

impl Expected {
    fn allow(&self, named: &Named, moment: Moment) -> Result<(), String> {
        let Self {
            loader,
            before,
            after,
        } = self;
        let fine = match moment {
            Moment::Before => named == before,
            Moment::Between => named == before || named == after,
            Moment::After => named == after,
        };
        let problem = || {
            format!(
                "{loader:?} starts {named:?} {moment:?}; it was {before:?} and becomes {after:?}"
            )
        };
        fine.then_some(()).ok_or_else(problem)
    }
}

/// The slot that a loader starts, what is in it, and the disk after a try was counted.
pub fn named(
    loader: Loader,
    world: &World,
    disk: &Image,
) -> Result<(Named, Option<Image>), String> {
    let places = Places::find(disk).map_err(|error| error.to_string())?;
    let choice = choose(loader, disk, &places, world)?;
    for slot in Slot::ALL {
        // The other one too: it is what is left when the first one turns out to be damaged.
        if accepts(loader, disk, &places, world, slot)
            && world.build_in(disk, &places, slot).is_none()
        {
            return Err(format!(
                "{loader:?} would start slot {slot}, which is not whole"
            ));
        }
    }
    let build = world.build_in(disk, &places, choice.slot);
    let build = build.ok_or_else(|| format!("slot {} is not whole", choice.slot))?;
    Ok(((choice.slot, build.version.clone()), choice.counted))
}

impl Findings {
    /// Puts others to these.
    pub fn add(&mut self, others: Self) {
        self.points += others.points;
        self.faults.extend(others.faults);
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}; cut {}", self.scenario, self.what, self.point)
    }
}
