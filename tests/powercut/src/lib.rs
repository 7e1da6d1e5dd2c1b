//! Power cuts: every disk that recorded writes can leave behind, and what the loaders make of it.

#![forbid(unsafe_code)]

mod asked;
mod build;
mod choice;
mod image;
mod log;
mod operation;
mod places;
mod points;
mod real;
mod recorded;
mod replay;
mod sample;
mod scenario;
mod sweep;
mod target;
mod world;

pub use asked::ask_all;
pub use build::{Build, BuildError};
pub use choice::{Choice, Loader, accepts, choose};
pub use image::{Image, Unreadable};
pub use log::{LogError, WriteLog};
pub use operation::{Operation, Shape};
pub use places::{NoPlace, Places};
pub use points::{CutPoint, Part, Sampling, Tear, TornSector, plan};
pub use real::{Answer, AskError, RealLoader};
pub use recorded::{PlayError, random_cut};
pub use replay::Replay;
pub use sample::{Sample, sample};
pub use scenario::{Again, Scenario, ScenarioError, scenarios, trial_before_install};
pub use sweep::{Fault, Findings, Judge, Moment, Named, cuts, named, sweep};
pub use target::{StepError, Target};
pub use world::{World, WorldError};

/// Bytes that a disk writes at once; what is larger can be torn between two of them.
pub const SECTOR: u64 = 512;
