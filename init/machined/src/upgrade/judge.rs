//! What this boot says about an upgrade: a pure decision over what the loader said, what the boot
//! record says, and what was remembered.

use keelson_bootstate::{BootRecord, Slot, TRIES_PER_TRIAL, Tries};
use keelson_control::{LoaderFacts, StartReason};

use super::memory::{Memory, Trial};

/// What is judged.
#[derive(Debug)]
pub(crate) struct Scene<'a> {
    /// The slot this boot came from.
    pub(crate) running: Slot,
    /// The build in it, by its header.
    pub(crate) running_build: Option<&'a str>,
    pub(crate) boot_id: &'a str,
    pub(crate) loader: &'a LoaderFacts,
    /// The boot record that counts, if one does.
    pub(crate) record: Option<BootRecord>,
    /// Tries of the loader that was used.
    pub(crate) tries: Tries,
    pub(crate) memory: &'a Memory,
}

/// What this boot is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The trial was decided on in this very boot: only the reboot is missing.
    Armed,
    /// The record calls the running slot good; the memory does not know yet.
    Confirmed,
    /// Nothing is on trial.
    Everyday,
    /// The slot that is not the default runs, for the loader could not start the default one.
    Fallback { reason: String },
    /// The running slot is on trial, but it was given up already.
    GivenUp { reason: String },
    /// A trial was decided on, but a power cut came before the record.
    NeverBegan,
    /// There is no record; the running slot is all that is known.
    NoRecord,
    /// The running slot has to prove itself.
    OnTrial,
    /// The other slot did not prove itself.
    TrialFailed { slot: Slot, reason: String },
}

/// Judges.
pub(crate) fn judge(scene: &Scene<'_>) -> Verdict {
    let Some(record) = scene.record else {
        return Verdict::NoRecord;
    };
    if record.trial() == Some(scene.running) {
        return match given_up(scene) {
            Some(reason) => Verdict::GivenUp { reason },
            None => Verdict::OnTrial,
        };
    }
    if record.default_slot() != scene.running {
        return Verdict::Fallback {
            reason: skipped(scene, record.default_slot()).unwrap_or_else(|| {
                format!(
                    "the loader did not start the default slot {}",
                    record.default_slot()
                )
            }),
        };
    }
    let remembered = scene.memory.trial.as_ref();
    match (record.trial(), remembered) {
        (Some(_), Some(trial)) if trial.boot_id == scene.boot_id => Verdict::Armed,
        (Some(slot), _) => Verdict::TrialFailed {
            slot,
            reason: failure(scene, slot),
        },
        (None, Some(trial)) if trial.target.slot == scene.running => Verdict::Confirmed,
        (None, Some(_)) => Verdict::NeverBegan,
        (None, None) => Verdict::Everyday,
    }
}

/// The gate wrote down that the running build failed, and was cut off before the record.
fn given_up(scene: &Scene<'_>) -> Option<String> {
    if scene.memory.trial.is_some() {
        return None;
    }
    let failed = scene.memory.failure(scene.running_build?)?;
    Some(failed.reason.clone())
}

/// Why the loader did not start a slot whose turn it was.
fn skipped(scene: &Scene<'_>, slot: Slot) -> Option<String> {
    if scene.loader.why != Some(StartReason::Other) || slot == scene.running {
        return None;
    }
    Some(match &scene.loader.report[..] {
        [] => format!("the loader found slot {slot} damaged and skipped it"),
        lines => format!("the loader says: {}", lines.join("; ")),
    })
}

/// Why a trial failed, as far as anybody knows.
fn failure(scene: &Scene<'_>, slot: Slot) -> String {
    if let Some(reason) = skipped(scene, slot) {
        return reason;
    }
    // The reason was found in an earlier boot, and a power cut came before the record.
    if scene.memory.trial.is_none()
        && let Some(last) = &scene.memory.last
        && last.target.slot == slot
        && let Some(failed) = scene.memory.failure(&last.target.build)
    {
        return failed.reason.clone();
    }
    let starts = scene
        .memory
        .trial
        .as_ref()
        .filter(|trial| trial.target.slot == slot)
        .map_or_else(String::new, last_words);
    match scene.tries {
        Tries::Used(TRIES_PER_TRIAL) => {
            format!("it was started {TRIES_PER_TRIAL} times and {starts}")
        }
        Tries::Used(0) => "the loader did not start it, and did not say why".to_owned(),
        Tries::Used(used) => format!(
            "it was started {used} of {TRIES_PER_TRIAL} times and {starts}; the loader then \
             started the default slot"
        ),
        Tries::Unreadable => {
            format!("its tries cannot be read, which counts as used up; it {starts}")
        }
    }
}

/// How far the last start came.
fn last_words(trial: &Trial) -> String {
    let Some(start) = trial.starts.last() else {
        return "never came as far as machined: the kernel panicked, or init did not start; its \
                console shows more"
            .to_owned();
    };
    let reached = match start.reached.as_str() {
        "" => "machined".to_owned(),
        word => format!("{word:?}"),
    };
    let missing = match start.missing.as_str() {
        "" => String::new(),
        missing => format!(" (missing: {missing})"),
    };
    format!("came as far as {reached}{missing}, then it ended without a word: power, panic or hang")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upgrade::memory::tests::{target, trial};
    use crate::upgrade::memory::{Ending, Outcome, Start};

    fn record(default: Slot, trial: bool) -> Option<BootRecord> {
        BootRecord::new(7, trial.then(|| default.other()), default, [None; 2])
    }

    struct Case {
        running: Slot,
        record: Option<BootRecord>,
        tries: Tries,
        loader: LoaderFacts,
        memory: Memory,
    }

    impl Default for Case {
        fn default() -> Self {
            Self {
                running: Slot::A,
                record: record(Slot::A, false),
                tries: Tries::FRESH,
                loader: LoaderFacts::default(),
                memory: Memory::default(),
            }
        }
    }

    impl Case {
        fn judge(&self) -> Verdict {
            judge(&Scene {
                running: self.running,
                running_build: Some("new"),
                boot_id: "boot-2",
                loader: &self.loader,
                record: self.record,
                tries: self.tries,
                memory: &self.memory,
            })
        }
    }

    fn remembering(boot_id: &str, slot: Slot) -> Memory {
        Memory {
            trial: Some(trial(slot, "new", boot_id)),
            ..Memory::default()
        }
    }

    #[test]
    fn boots_without_a_trial() {
        let everyday = Case::default();
        assert_eq!(everyday.judge(), Verdict::Everyday);
        let none = Case {
            record: None,
            ..Case::default()
        };
        assert_eq!(none.judge(), Verdict::NoRecord);
        // The power failed between the memory and the record.
        let never = Case {
            memory: remembering("boot-1", Slot::B),
            ..Case::default()
        };
        assert_eq!(never.judge(), Verdict::NeverBegan);
        // And between the record that calls it good and the memory.
        let confirmed = Case {
            memory: remembering("boot-0", Slot::A),
            ..Case::default()
        };
        assert_eq!(confirmed.judge(), Verdict::Confirmed);
    }

    #[test]
    fn the_trial_itself() {
        let on_trial = |memory| Case {
            running: Slot::B,
            record: record(Slot::A, true),
            tries: Tries::Used(1),
            memory,
            ..Case::default()
        };
        assert_eq!(
            on_trial(remembering("boot-1", Slot::B)).judge(),
            Verdict::OnTrial
        );
        // STATE lost its memory: the version has to prove itself all the same.
        assert_eq!(on_trial(Memory::default()).judge(), Verdict::OnTrial);
        let mut failed = Memory::default();
        failed.refuse(&target(Slot::B, "new"), "", "kubelet is not ready");
        assert_eq!(
            on_trial(failed.clone()).judge(),
            Verdict::GivenUp {
                reason: "kubelet is not ready".to_owned()
            }
        );
        // A person gave it another chance.
        failed.trial = Some(trial(Slot::B, "new", "boot-1"));
        assert_eq!(on_trial(failed).judge(), Verdict::OnTrial);
        // The daemon was started again before the reboot.
        let armed = Case {
            record: record(Slot::A, true),
            memory: remembering("boot-2", Slot::B),
            ..Case::default()
        };
        assert_eq!(armed.judge(), Verdict::Armed);
    }

    fn why(case: &Case) -> String {
        match case.judge() {
            Verdict::TrialFailed {
                slot: Slot::B,
                reason,
            } => reason,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_failed_trial_says_all_that_is_known() {
        let failed = |tries, memory| Case {
            record: record(Slot::A, true),
            tries,
            memory,
            ..Case::default()
        };
        let used_up = Tries::Used(TRIES_PER_TRIAL);
        let silent = failed(used_up, remembering("boot-1", Slot::B));
        assert!(why(&silent).contains("started 3 times and never came as far as machined"));
        let mut memory = remembering("boot-1", Slot::B);
        memory.trial.as_mut().unwrap().starts.push(Start {
            boot_id: "boot-x".to_owned(),
            time: String::new(),
            reached: "services".to_owned(),
            missing: "cluster: not Ready".to_owned(),
        });
        let known = failed(used_up, memory.clone());
        assert!(
            why(&known).contains("as far as \"services\" (missing: cluster: not Ready)"),
            "{}",
            why(&known)
        );
        assert!(why(&failed(Tries::Used(0), Memory::default())).contains("did not start it"));
        assert!(why(&failed(Tries::Used(2), memory.clone())).contains("2 of 3 times"));
        assert!(why(&failed(Tries::Unreadable, memory.clone())).contains("cannot be read"));
        let mut skipped = failed(Tries::Used(1), memory);
        skipped.loader = LoaderFacts {
            why: Some(StartReason::Other),
            report: vec!["slot B skipped: wrong hash".to_owned()],
            ..LoaderFacts::default()
        };
        assert_eq!(why(&skipped), "the loader says: slot B skipped: wrong hash");
    }

    #[test]
    fn a_reason_that_was_found_before_a_power_cut_stays() {
        let mut memory = Memory::default();
        memory.refuse(&target(Slot::B, "new"), "", "kubelet is not ready");
        memory.last = Some(Outcome {
            result: Ending::RolledBack,
            target: target(Slot::B, "new"),
            time: String::new(),
            reason: "kubelet is not ready".to_owned(),
            starts: Vec::new(),
        });
        let case = Case {
            record: record(Slot::A, true),
            tries: Tries::Used(1),
            memory,
            ..Case::default()
        };
        assert_eq!(why(&case), "kubelet is not ready");
    }

    #[test]
    fn a_default_slot_that_was_not_started_is_noticed() {
        let case = Case {
            running: Slot::B,
            loader: LoaderFacts {
                why: Some(StartReason::Other),
                ..LoaderFacts::default()
            },
            ..Case::default()
        };
        assert_eq!(
            case.judge(),
            Verdict::Fallback {
                reason: "the loader found slot A damaged and skipped it".to_owned()
            }
        );
    }
}
