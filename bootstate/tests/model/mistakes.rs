//! Plans and loaders with a mistake: each must be found.

use keelson_bootstate::Slot;
use keelson_bootstate::plan::{self, Step, Stored};

use crate::disk::build_id;
use crate::loader::Loader;
use crate::node::Operation;

/// One thing done wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mistake {
    /// Both copies of a record are written before either is flushed.
    BothCopiesAtOnce,
    /// Tries that are garbage count as none used.
    GarbageTriesAreFresh,
    /// The header is written before root part and payload.
    HeaderFirst,
    /// Healing starts with the copy that does not count.
    HealOtherCopyFirst,
    /// The loader starts a trial without counting.
    LoaderDoesNotCount,
    /// The last flush of marking good is left out.
    MarkGoodUnflushed,
    /// Header and content are written without a flush between them.
    NoFlushBeforeHeader,
    /// Content is written under the header of what was there before.
    NoInvalidation,
    /// No flush between the binary record and its text.
    NoFlushBeforeText,
    /// The record with the trial is written before the slot.
    RecordFirst,
    /// The tries of a trial under way are cleared.
    TriesClearedDuringTrial,
    /// The tries of the last trial stay.
    TriesNotCleared,
}

impl Mistake {
    pub(crate) const ALL: [Self; 12] = [
        Self::BothCopiesAtOnce,
        Self::GarbageTriesAreFresh,
        Self::HeaderFirst,
        Self::HealOtherCopyFirst,
        Self::LoaderDoesNotCount,
        Self::MarkGoodUnflushed,
        Self::NoFlushBeforeHeader,
        Self::NoInvalidation,
        Self::NoFlushBeforeText,
        Self::RecordFirst,
        Self::TriesClearedDuringTrial,
        Self::TriesNotCleared,
    ];

    /// The loaders with which it does harm.
    pub(crate) const fn seen_by(self) -> &'static [Loader] {
        match self {
            // Both concern the text only.
            Self::HealOtherCopyFirst | Self::MarkGoodUnflushed => &[Loader::Grub],
            _ => &[Loader::Efi, Loader::Grub],
        }
    }

    /// How what it does is called.
    pub(crate) const fn violation(self) -> &'static str {
        match self {
            Self::BothCopiesAtOnce => "no boot record is left",
            Self::GarbageTriesAreFresh
            | Self::LoaderDoesNotCount
            | Self::TriesClearedDuringTrial => "a trial is started 4 times",
            Self::HeaderFirst | Self::NoFlushBeforeHeader | Self::NoInvalidation => {
                "with slot A damaged, slot B is started but not complete"
            }
            Self::HealOtherCopyFirst | Self::MarkGoodUnflushed => {
                "slot A is started, which is neither the default nor on trial"
            }
            Self::NoFlushBeforeText => "GRUB's text is ahead of the record",
            Self::RecordFirst => "slot B is started but not complete",
            Self::TriesNotCleared => "a trial gets no start",
        }
    }

    /// The steps of an operation with the mistake in them.
    pub(crate) fn applied(
        self,
        stored: &Stored,
        operation: Operation,
        steps: Vec<Step>,
    ) -> Vec<Step> {
        match (self, operation) {
            (Self::BothCopiesAtOnce, _) => both_copies_at_once(&steps),
            (Self::HeaderFirst, Operation::Install(slot, _)) => {
                let mut steps = steps;
                steps.retain(|step| *step != Step::WriteHeader(slot));
                let root = position(&steps, Step::WriteRoot(slot));
                steps.insert(root, Step::WriteHeader(slot));
                steps
            }
            (Self::HealOtherCopyFirst, _) => {
                let healing = plan::heal(stored).count();
                let (heal, rest) = steps.split_at(healing);
                // The text of the copy that counts and its flush come first.
                let wrong = match heal {
                    [text @ Step::WriteGrubRecord { .. }, flush, other @ ..] => {
                        [other, &[*text, *flush]].concat()
                    }
                    _ => heal.to_vec(),
                };
                [&wrong, rest].concat()
            }
            (Self::MarkGoodUnflushed, Operation::MarkGood(_)) => without_flush_before(steps, None),
            (Self::NoFlushBeforeHeader, Operation::Install(slot, _)) => {
                let mut steps = steps;
                steps.retain(|step| *step != Step::ReadBackContent(slot));
                without_flush_before(steps, Some(Step::WriteHeader(slot)))
            }
            (Self::NoInvalidation, Operation::Install(slot, _)) => {
                let mut steps = steps;
                steps.retain(|step| *step != Step::InvalidateHeader(slot));
                steps
            }
            (Self::NoFlushBeforeText, _) => {
                let text = |step: &Step| matches!(step, Step::WriteGrubRecord { .. });
                let next = steps.iter().skip(1).map(Some).chain([None]);
                let keep = |step: &Step, next: Option<&Step>| {
                    *step != Step::Flush || !next.is_some_and(text)
                };
                let kept = steps
                    .iter()
                    .zip(next)
                    .filter(|(step, next)| keep(step, *next));
                kept.map(|(step, _)| *step).collect()
            }
            (Self::RecordFirst, Operation::Install(slot, build)) => {
                record_first(stored, slot, build, &steps)
            }
            (Self::TriesClearedDuringTrial, Operation::StartTrial(_)) => {
                let healing = plan::heal(stored).count();
                let clear = position(&steps, Step::ClearTries);
                [&steps[..healing], &steps[clear..]].concat()
            }
            (Self::TriesNotCleared, _) => {
                let mut steps = steps;
                steps.retain(|step| !matches!(step, Step::ClearTries | Step::ClearGrubTries));
                steps
            }
            _ => steps,
        }
    }
}

/// Every record goes to both copies, in one go.
fn both_copies_at_once(steps: &[Step]) -> Vec<Step> {
    steps
        .iter()
        .flat_map(|step| match *step {
            Step::WriteRecord { copy, record } => [copy, copy.other()]
                .map(|copy| Step::WriteRecord { copy, record })
                .to_vec(),
            Step::WriteGrubRecord { copy, record } => [copy, copy.other()]
                .map(|copy| Step::WriteGrubRecord { copy, record })
                .to_vec(),
            other => vec![other],
        })
        .collect()
}

/// Starts the trial, then writes the slot over what was there.
fn record_first(stored: &Stored, slot: Slot, build: u8, steps: &[Step]) -> Vec<Step> {
    let trial = plan::start_trial(stored, slot, build_id(build), true).unwrap();
    let content = &steps[position(steps, Step::WriteRoot(slot))..];
    trial.chain(content.iter().copied()).collect()
}

/// The last flush before a step, or of all, is left out.
fn without_flush_before(mut steps: Vec<Step>, step: Option<Step>) -> Vec<Step> {
    let end = step.map_or(steps.len(), |step| position(&steps, step));
    if let Some(flush) = steps[..end].iter().rposition(|step| *step == Step::Flush) {
        steps.remove(flush);
    }
    steps
}

fn position(steps: &[Step], step: Step) -> usize {
    steps.iter().position(|other| *other == step).unwrap()
}
