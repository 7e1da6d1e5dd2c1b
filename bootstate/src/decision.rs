//! Which slot to start: the same rule for every loader.

use core::fmt;

use crate::record::BootRecord;
use crate::slot::Slot;
use crate::tries::{TRIES_PER_TRIAL, Tries};

/// What a loader does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// Start this slot; nothing is written.
    Default {
        /// The default slot of the record.
        slot: Slot,
        /// Why no trial is started.
        why: WhyDefault,
    },
    /// Write `tries` to the TRIES sector and flush, then start `slot`. When the write fails,
    /// start `default` instead: a try that is not counted could repeat for ever.
    Trial {
        /// The slot on trial.
        slot: Slot,
        /// The slot to start when the trial slot fails its hash.
        default: Slot,
        /// The tries with this one taken.
        tries: Tries,
    },
}

/// Why the default slot is started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhyDefault {
    /// No boot record counts; slot A is what a fresh disk has.
    NoRecord,
    /// Nothing is on trial: the everyday case.
    NoTrial,
    /// The trial was started as often as it may be.
    TriesUsedUp,
    /// The tries are garbage, which counts as used up.
    TriesUnreadable,
}

/// Decides from what was read: the newest valid record, if there is one, and the tries.
///
/// ```
/// use keelson_bootstate::{BuildId, BootRecord, Decision, Slot, Tries, WhyDefault, decide};
///
/// let build = BuildId::from_payload_hash(&[7; 32]);
/// let record = BootRecord::fresh(build);
/// let decision = decide(Some(&record), Tries::FRESH);
/// assert_eq!(decision, Decision::Default { slot: Slot::A, why: WhyDefault::NoTrial });
/// assert_eq!(decision.order(), [Slot::A, Slot::B]);
/// ```
pub fn decide(record: Option<&BootRecord>, tries: Tries) -> Decision {
    let Some(record) = record else {
        return Decision::Default {
            slot: Slot::A,
            why: WhyDefault::NoRecord,
        };
    };
    let default = record.default_slot();
    let Some(trial) = record.trial() else {
        return Decision::Default {
            slot: default,
            why: WhyDefault::NoTrial,
        };
    };
    match (tries, tries.take_one()) {
        (Tries::Unreadable, _) => Decision::Default {
            slot: default,
            why: WhyDefault::TriesUnreadable,
        },
        (Tries::Used(_), None) => Decision::Default {
            slot: default,
            why: WhyDefault::TriesUsedUp,
        },
        (Tries::Used(_), Some(tries)) => Decision::Trial {
            slot: trial,
            default,
            tries,
        },
    }
}

impl Decision {
    /// The slot to start first.
    pub const fn slot(&self) -> Slot {
        match self {
            Self::Default { slot, .. } | Self::Trial { slot, .. } => *slot,
        }
    }

    /// Both slots in the order in which to try them in this same boot: a slot that is blank or
    /// fails its hash is skipped.
    pub const fn order(&self) -> [Slot; 2] {
        [self.slot(), self.slot().other()]
    }
}

impl fmt::Display for WhyDefault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoRecord => f.write_str("no boot record"),
            Self::NoTrial => f.write_str("default"),
            Self::TriesUsedUp => write!(f, "the trial was started {TRIES_PER_TRIAL} times in vain"),
            Self::TriesUnreadable => f.write_str("the tries of the trial cannot be read"),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, prop_assert, prop_assert_eq, proptest};

    use super::*;
    use crate::record::tests::any_record;

    #[test]
    fn a_trial_gets_three_starts_then_the_default_for_ever() {
        let record = BootRecord::new(9, Some(Slot::B), Slot::A, [None; 2]).unwrap();
        let mut tries = Tries::FRESH;
        for _ in 0..3 {
            let Decision::Trial {
                slot: Slot::B,
                default: Slot::A,
                tries: after,
            } = decide(Some(&record), tries)
            else {
                panic!("no trial at {tries}");
            };
            tries = after;
        }
        for _ in 0..2 {
            let expected = Decision::Default {
                slot: Slot::A,
                why: WhyDefault::TriesUsedUp,
            };
            assert_eq!(decide(Some(&record), tries), expected);
        }
    }

    #[test]
    fn nothing_readable_means_slot_a() {
        let expected = Decision::Default {
            slot: Slot::A,
            why: WhyDefault::NoRecord,
        };
        assert_eq!(decide(None, Tries::Unreadable), expected);
        assert_eq!(decide(None, Tries::FRESH), expected);
    }

    proptest! {
        #[test]
        fn a_trial_always_takes_a_try_and_never_replaces_a_known_good_slot_without_one(
            record in any_record(), sector in proptest::collection::vec(any::<u8>(), 512), used in 0u8..5
        ) {
            for tries in [Tries::decode(&sector), Tries::Used(used)] {
                match decide(Some(&record), tries) {
                    Decision::Trial { slot, default, tries: after } => {
                        prop_assert_eq!(Some(slot), record.trial());
                        prop_assert_eq!(default, record.default_slot());
                        prop_assert_eq!(after.used(), tries.used() + 1);
                    }
                    Decision::Default { slot, why } => {
                        prop_assert_eq!(slot, record.default_slot());
                        prop_assert!((why == WhyDefault::NoTrial) == record.trial().is_none());
                    }
                }
            }
        }
    }
}
