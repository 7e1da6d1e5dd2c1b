//! One boot: which slot starts, counted if it is on trial, and what is told about it.

use alloc::vec;
use alloc::vec::Vec;
use core::fmt;

use keelson_bootstate::gpt::Entry;
use keelson_bootstate::signature::Trust;
use keelson_bootstate::{Decision, Slot, WhyDefault, decide};

use crate::disk::Disk;
use crate::report::Report;
use crate::slot::Verified;
use crate::state;
use crate::table::{self, TableError};

/// Why a slot is started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// It is the default, or the disk has no boot record.
    Default,
    /// The other one cannot be started.
    Other,
    /// It is on trial; the try is counted.
    Trial,
}

/// A boot under way: slots are taken from it until one starts.
#[derive(Debug)]
pub struct Boot {
    trust: Trust,
    partitions: Vec<Entry>,
    decision: Decision,
    left: Vec<(Slot, Why)>,
    report: Report,
}

/// A slot that may be started.
#[derive(Debug)]
pub struct Chosen {
    /// Which.
    pub slot: Slot,
    /// Why this one.
    pub why: Why,
    /// What is in it.
    pub verified: Verified,
}

/// What a boot comes to, as far as the disk decides it.
#[derive(Debug)]
pub struct Outcome {
    /// The slot to start; `None` when neither can be.
    pub chosen: Option<Chosen>,
    /// What is told about it.
    pub report: Report,
}

/// Does everything of a boot but starting the slot: reads, decides, verifies, counts.
pub fn choose(disk: &mut impl Disk, trust: &Trust) -> Result<Outcome, TableError> {
    let mut boot = Boot::begin(disk, trust)?;
    let chosen = boot.next(disk);
    let report = boot.report;
    Ok(Outcome { chosen, report })
}

impl Boot {
    /// Reads the disk's partition table, boot record and tries, and decides.
    pub fn begin(disk: &mut impl Disk, trust: &Trust) -> Result<Self, TableError> {
        let partitions = table::read(disk)?;
        let mut report = Report::default();
        let record = state::read_record(disk, &partitions);
        if let Err(error) = &record {
            report.add(format_args!("{error}"));
        }
        let tries = state::read_tries(disk, &partitions);
        let decision = decide(record.as_ref().ok(), tries);
        let left = match decision {
            Decision::Default { slot, why } => {
                if matches!(why, WhyDefault::TriesUsedUp | WhyDefault::TriesUnreadable) {
                    report.add(format_args!("slot {} not tried: {why}", slot.other()));
                }
                vec![(slot, Why::Default), (slot.other(), Why::Other)]
            }
            Decision::Trial { slot, default, .. } => {
                vec![(slot, Why::Trial), (default, Why::Default)]
            }
        };
        Ok(Self {
            trust: *trust,
            partitions,
            decision,
            left,
            report,
        })
    }

    /// The next slot that may be started. Nothing is counted or given back that did not verify.
    pub fn next(&mut self, disk: &mut impl Disk) -> Option<Chosen> {
        while !self.left.is_empty() {
            let (slot, why) = self.left.remove(0);
            let verified = match Verified::read(disk, &self.partitions, slot, &self.trust) {
                Ok(verified) => verified,
                Err(error) => {
                    self.report.skipped(slot, &error);
                    continue;
                }
            };
            if let (Why::Trial, Decision::Trial { tries, .. }) = (why, self.decision)
                && let Err(error) = state::count(disk, &self.partitions, tries)
            {
                self.report.add(format_args!(
                    "slot {slot} not tried: the try cannot be counted: {error}"
                ));
                // Still better than no slot at all.
                self.left.push((slot, Why::Other));
                continue;
            }
            return Some(Chosen {
                slot,
                why,
                verified,
            });
        }
        None
    }

    /// Notes why a chosen slot did not start.
    pub fn failed(&mut self, slot: Slot, reason: &dyn fmt::Display) {
        self.report.skipped(slot, reason);
    }

    /// What is told about this boot so far.
    pub const fn report(&self) -> &Report {
        &self.report
    }
}

impl Why {
    /// How boot facts and kernel arguments write it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Default => "default",
            Self::Other => "other",
            Self::Trial => "trial",
        }
    }
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod vectors;
