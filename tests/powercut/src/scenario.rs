//! What is done to disks: each with the disk before it and everything that is written.

use keelson_bootstate::layout::Partition;
use keelson_bootstate::plan::{self, Step, Stored};
use keelson_bootstate::{BootRecord, COPY_OFFSETS, MAX_SEQUENCE, Slot, TRIES_PER_TRIAL};
use thiserror::Error;

use crate::target::StepError;
use crate::{Build, Image, Loader, NoPlace, Operation, Places, Target, World, choose};

/// One thing that is done to a disk, and how.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// What is done.
    pub name: String,
    /// The disk before it.
    pub before: Image,
    /// Everything that is written, in order.
    pub operations: Vec<Operation>,
    /// What a node does that comes up after a cut, to have it done after all.
    pub again: Again,
    /// The default slot, where a cut may end a trial: while it is begun anew, and when the sector
    /// with the tries is torn, for then nobody knows how many are left.
    pub fallback: Option<Slot>,
}

/// What a node does after a cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Again {
    /// It installs this one of the builds to this slot.
    Install(Slot, usize),
    /// It marks this slot as good.
    MarkGood(Slot),
    /// It only repairs what the cut left.
    Repair,
    /// It puts this one of the builds, which is in this slot, on trial.
    StartTrial(Slot, usize),
    /// It ends the trial.
    Withdraw,
}

/// Why a scenario was not played.
#[derive(Debug, Error)]
pub enum ScenarioError {
    /// A loader chooses nothing where it must.
    #[error("a loader has no choice: {0}")]
    Choice(String),
    /// A partition.
    #[error(transparent)]
    Place(#[from] NoPlace),
    /// The plan was refused.
    #[error("no plan: {0}")]
    Plan(String),
    /// A step was not done.
    #[error(transparent)]
    Step(#[from] StepError),
}

impl Scenario {
    /// Plays what a node does and writes it down.
    pub fn play(
        name: &str,
        before: Image,
        world: &World,
        again: Again,
    ) -> Result<Self, ScenarioError> {
        let mut target = Target::new(before.clone())?;
        again.run(&mut target, world)?;
        Ok(Self {
            name: name.to_owned(),
            before,
            operations: target.into_operations(),
            again,
            fallback: None,
        })
    }

    /// The disk after it.
    pub fn after(&self) -> Image {
        let mut disk = self.before.clone();
        for operation in &self.operations {
            operation.apply(&mut disk);
        }
        disk
    }
}

const ANEW: &str = "start the same trial anew";

/// Everything that is done to a disk from its first upgrade on.
pub fn scenarios(world: &World, fresh: Image) -> Result<Vec<Scenario>, ScenarioError> {
    let mut all: Vec<Scenario> = Vec::new();
    let mut play = |name: &str, before: &Image, again: Again| {
        let scenario = Scenario::play(name, before.clone(), world, again)?;
        let after = scenario.after();
        all.push(scenario);
        Ok::<_, ScenarioError>(after)
    };
    let installed = play(
        "install to an empty slot",
        &fresh,
        Again::Install(Slot::B, 1),
    )?;
    let trial = play("start a trial", &installed, Again::StartTrial(Slot::B, 1))?;
    let tried = with_tries(&trial, world, 1)?;
    let used_up = with_tries(&trial, world, TRIES_PER_TRIAL)?;
    let good = play("mark good after one try", &tried, Again::MarkGood(Slot::B))?;
    play(
        "mark good after the last try",
        &used_up,
        Again::MarkGood(Slot::B),
    )?;
    play("withdraw a trial", &tried, Again::Withdraw)?;
    play("withdraw a trial that failed", &used_up, Again::Withdraw)?;
    let third = play(
        "install over the old build",
        &good,
        Again::Install(Slot::A, 2),
    )?;
    play(
        "start a trial in slot A",
        &third,
        Again::StartTrial(Slot::A, 2),
    )?;
    play(
        "replace a build on trial",
        &tried,
        Again::Install(Slot::B, 2),
    )?;
    play(ANEW, &tried, Again::StartTrial(Slot::B, 1))?;
    let torn = text_left_behind(&trial, &installed)?;
    play("repair one form of one copy", &torn, Again::Repair)?;
    let last = with_sequence(&trial, MAX_SEQUENCE)?;
    play(
        "mark good after the highest sequence",
        &last,
        Again::MarkGood(Slot::B),
    )?;
    let anew = all.iter_mut().filter(|one| one.name == ANEW);
    anew.for_each(|scenario| scenario.fallback = Some(Slot::A));
    for loader in Loader::ALL {
        for used in 0..TRIES_PER_TRIAL {
            let before = with_tries(&trial, world, used)?;
            all.push(a_try(loader, before, world)?);
        }
    }
    Ok(all)
}

/// A trial of a build that is written to its slot only afterwards. No node does that: it shows
/// that a wrong order is noticed.
pub fn trial_before_install(world: &World, right: &Scenario) -> Result<Scenario, ScenarioError> {
    let Again::Install(slot, build) = right.again else {
        return Err(ScenarioError::Plan("nothing is installed".to_owned()));
    };
    let mut target = Target::new(right.before.clone())?;
    let (install, content) = right.again.plan(&target, world)?;
    let (trial, _) = Again::StartTrial(slot, build).plan(&target, world)?;
    // What an installation starts with would end the trial.
    let record = |step: &Step| !matches!(step, Step::InvalidateHeader(_));
    let install = install.into_iter().skip_while(record);
    target.run(trial.into_iter().chain(install), content)?;
    Ok(Scenario {
        name: format!("{}, but after the trial began", right.name),
        before: right.before.clone(),
        operations: target.into_operations(),
        again: Again::Repair,
        fallback: None,
    })
}

impl Again {
    /// Does it, from whatever is on the disk.
    pub fn run(self, target: &mut Target, world: &World) -> Result<(), ScenarioError> {
        let (steps, build) = self.plan(target, world)?;
        Ok(target.run(steps, build)?)
    }

    /// What it writes in which order.
    pub fn plan<'a>(
        self,
        target: &Target,
        world: &'a World,
    ) -> Result<(Vec<Step>, Option<&'a Build>), ScenarioError> {
        let stored = match target.stored()? {
            Ok(stored) => stored,
            Err(reason) => return Err(ScenarioError::Plan(reason.to_string())),
        };
        let refused = |error: plan::PlanError| ScenarioError::Plan(error.to_string());
        let build = match self {
            Self::Install(_, build) | Self::StartTrial(_, build) => world.builds.get(build),
            Self::MarkGood(_) | Self::Repair | Self::Withdraw => None,
        };
        let steps = match self {
            Self::Install(slot, _) => plan::install(&stored, slot).map_err(refused)?.collect(),
            Self::MarkGood(slot) => plan::mark_good(&stored, slot).collect(),
            Self::Repair => plan::heal(&stored).collect(),
            Self::StartTrial(slot, _) => {
                let id = build.map_or_else(|| world.builds[0].id, |build| build.id);
                let steps = plan::start_trial(&stored, slot, id, true);
                steps.map_err(refused)?.collect()
            }
            Self::Withdraw => plan::withdraw(&stored).collect(),
        };
        Ok((steps, build))
    }
}

/// Plays the loader that counts a try.
fn a_try(loader: Loader, before: Image, world: &World) -> Result<Scenario, ScenarioError> {
    let places = Places::find(&before)?;
    let choice = choose(loader, &before, &places, world).map_err(ScenarioError::Choice)?;
    let after = choice.counted.unwrap_or_else(|| before.clone());
    let mut operations: Vec<Operation> = written(&before, &after);
    operations.push(Operation::Flush);
    Ok(Scenario {
        name: format!("{loader:?} counts a try"),
        before,
        operations,
        again: Again::Repair,
        fallback: Some(Slot::A),
    })
}

/// Sectors that differ, as writes; neighbours are one write.
fn written(before: &Image, after: &Image) -> Vec<Operation> {
    let mut writes: Vec<(u64, Vec<u8>)> = Vec::new();
    for (at, page) in after.changes(before) {
        for (offset, sector) in (at..).step_by(512).zip(page.chunks(512)) {
            let mut old = [0; 512];
            if before.read(offset, &mut old).is_ok() && old == sector {
                continue;
            }
            match writes.last_mut() {
                Some((start, bytes)) if *start + length(bytes) == offset => bytes.extend(sector),
                _ => writes.push((offset, sector.to_vec())),
            }
        }
    }
    let writes = writes.into_iter();
    writes
        .map(|(at, bytes)| Operation::write(at, &bytes))
        .collect()
}

/// The same disk after both loaders counted so many tries.
fn with_tries(disk: &Image, world: &World, used: u8) -> Result<Image, ScenarioError> {
    let mut disk = disk.clone();
    let places = Places::find(&disk)?;
    for loader in Loader::ALL {
        for _ in 0..used {
            let choice = choose(loader, &disk, &places, world).map_err(ScenarioError::Choice)?;
            disk = choice.counted.unwrap_or(disk);
        }
    }
    Ok(disk)
}

/// The same disk with this sequence in both copies.
fn with_sequence(disk: &Image, sequence: u32) -> Result<Image, ScenarioError> {
    let mut target = Target::new(disk.clone())?;
    let stored = stored(&target)?;
    let record = stored.record();
    let builds = Slot::ALL.map(|slot| record.build(slot));
    let record = BootRecord::new(sequence, record.trial(), record.default_slot(), builds)
        .ok_or_else(|| ScenarioError::Plan("no such record".to_owned()))?;
    for copy in [
        keelson_bootstate::Copy::First,
        keelson_bootstate::Copy::Second,
    ] {
        let steps = [
            Step::WriteRecord { copy, record },
            Step::WriteGrubRecord { copy, record },
        ];
        target.run(steps, None)?;
    }
    Ok(target.disk().clone())
}

/// The disk of a cut between a record and its text: `newer` where only one sector is new.
fn text_left_behind(newer: &Image, older: &Image) -> Result<Image, ScenarioError> {
    let target = Target::new(newer.clone())?;
    let state = target.places().of(Partition::BootState)?.start;
    let mut disk = older.clone();
    for copy in COPY_OFFSETS {
        let mut sector = [0; 512];
        // Both disks are whole.
        let _ = newer.read(state + copy, &mut sector);
        disk.write(state + copy, &sector);
    }
    Ok(disk)
}

fn stored(target: &Target) -> Result<Stored, ScenarioError> {
    target
        .stored()?
        .map_err(|reason| ScenarioError::Plan(reason.to_string()))
}

fn length(bytes: &[u8]) -> u64 {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX)
}
