//! Whether a version on trial may stay: a pure state machine over what is seen every few seconds.
//!
//! Good is a version under which everything was well for a while without a break. Who is well when
//! the deadline passes may finish; the first break after it ends the trial. [`evidence`] gathers
//! what is seen, [`api_probe`] and
//! [`user_checks`] ask what answers over the network.

pub(crate) mod api_probe;
pub(crate) mod evidence;
pub(crate) mod user_checks;

use std::fmt;
use std::time::Duration;

use keelson_api::v1alpha1::Check;

/// What is seen at one moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Sight {
    /// In the order of [`Reached`]: each says more than the one before it.
    pub(crate) checks: Vec<Check>,
    /// Starts of services again, so that one that flaps between two looks is noticed.
    pub(crate) restarts: u64,
}

/// Names of the checks.
pub(crate) const CONFIGURED: &str = "configured";
pub(crate) const SERVICES: &str = "services";
pub(crate) const API: &str = "api";
pub(crate) const CLUSTER: &str = "cluster";
pub(crate) const USER: &str = "checks";

/// How far a trial has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Reached {
    /// machined runs.
    Started,
    /// The configuration is in use.
    Configured,
    /// All services are ready.
    Services,
    /// The node API answers.
    Api,
    /// Kubernetes calls the node Ready.
    Cluster,
    /// What the configuration names answers.
    Checks,
    /// For long enough.
    Stable,
}

impl fmt::Display for Reached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Started => "started",
            Self::Configured => CONFIGURED,
            Self::Services => SERVICES,
            Self::Api => API,
            Self::Cluster => CLUSTER,
            Self::Checks => USER,
            Self::Stable => "stable",
        })
    }
}

/// The gate.
#[derive(Clone, Debug)]
pub(crate) struct Gate {
    /// Time since the kernel started until everything must be well; none for a version that
    /// cannot be given up.
    deadline: Option<Duration>,
    stable_for: Duration,
    /// Since when everything is well.
    well_since: Option<Duration>,
    restarts: Option<u64>,
}

/// What follows from a look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    /// It stays.
    Good,
    /// It goes.
    GiveUp { reason: String },
    /// Nobody can tell yet.
    Wait(Standing),
}

/// How a trial stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Standing {
    pub(crate) reached: Reached,
    /// What is missing, in words; empty when everything is well.
    pub(crate) missing: String,
    /// How long everything has been well.
    pub(crate) well_for: Duration,
}

impl Gate {
    pub(crate) fn new(deadline: Option<Duration>, stable_for: Duration) -> Self {
        Self {
            deadline,
            stable_for,
            well_since: None,
            restarts: None,
        }
    }

    pub(crate) fn stable_for(&self) -> Duration {
        self.stable_for
    }

    /// Looks. `now` is the time since the kernel started.
    pub(crate) fn look(&mut self, now: Duration, sight: &Sight) -> Decision {
        let restarted = self.restarts.replace(sight.restarts) != Some(sight.restarts);
        let missing = missing(&sight.checks);
        if !missing.is_empty() || restarted {
            self.well_since = None;
        }
        if missing.is_empty() {
            let since = *self.well_since.get_or_insert(now);
            let well_for = now.saturating_sub(since);
            if well_for >= self.stable_for {
                return Decision::Good;
            }
            // What has just come back may be gone again: only an unbroken time counts.
            if well_for.is_zero() && self.is_over(now) && restarted {
                return self.give_up("a service was started again after the deadline");
            }
            return Decision::Wait(Standing {
                reached: Reached::Checks,
                missing: String::new(),
                well_for,
            });
        }
        if self.is_over(now) {
            return self.give_up(&missing);
        }
        Decision::Wait(Standing {
            reached: reached(&sight.checks),
            missing,
            well_for: Duration::ZERO,
        })
    }

    fn is_over(&self, now: Duration) -> bool {
        self.deadline.is_some_and(|deadline| now >= deadline)
    }

    fn give_up(&self, missing: &str) -> Decision {
        let limit = self.deadline.unwrap_or_default().as_secs();
        Decision::GiveUp {
            reason: format!("it was not healthy {limit} s after its start: {missing}"),
        }
    }
}

/// The checks before the first one that has not passed.
fn reached(checks: &[Check]) -> Reached {
    checks
        .iter()
        .take_while(|check| check.passed)
        .map(|check| match check.name.as_str() {
            CONFIGURED => Reached::Configured,
            SERVICES => Reached::Services,
            API => Reached::Api,
            CLUSTER => Reached::Cluster,
            _ => Reached::Checks,
        })
        .max()
        .unwrap_or(Reached::Started)
}

fn missing(checks: &[Check]) -> String {
    let missing: Vec<String> = checks
        .iter()
        .filter(|check| !check.passed)
        .map(|check| format!("{}: {}", check.name, check.reason))
        .collect();
    missing.join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn sight(passed: &[(&str, bool)], restarts: u64) -> Sight {
        Sight {
            checks: passed
                .iter()
                .map(|(name, passed)| Check {
                    name: (*name).to_owned(),
                    passed: *passed,
                    reason: "why".to_owned(),
                })
                .collect(),
            restarts,
        }
    }

    fn well() -> Sight {
        sight(
            &[
                (CONFIGURED, true),
                (SERVICES, true),
                (API, true),
                (CLUSTER, true),
            ],
            3,
        )
    }

    fn ill() -> Sight {
        sight(
            &[
                (CONFIGURED, true),
                (SERVICES, true),
                (API, true),
                (CLUSTER, false),
            ],
            3,
        )
    }

    fn at(second: u64) -> Duration {
        Duration::from_secs(second)
    }

    fn waits(decision: Decision) -> Standing {
        match decision {
            Decision::Wait(standing) => standing,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_minute_without_a_break_is_enough() {
        let mut gate = Gate::new(Some(10 * MINUTE), MINUTE);
        let standing = waits(gate.look(at(5), &ill()));
        assert_eq!(standing.reached, Reached::Api);
        assert_eq!(standing.missing, "cluster: why");
        for second in 10..70 {
            let standing = waits(gate.look(at(second), &well()));
            assert_eq!(standing.well_for, at(second - 10));
        }
        assert_eq!(gate.look(at(70), &well()), Decision::Good);
    }

    #[test]
    fn every_break_begins_the_time_anew() {
        let mut gate = Gate::new(Some(10 * MINUTE), MINUTE);
        waits(gate.look(at(0), &well()));
        waits(gate.look(at(50), &ill()));
        waits(gate.look(at(51), &well()));
        waits(gate.look(at(110), &well()));
        // A service that was started again between two looks, and is ready at both.
        let mut restarted = well();
        restarted.restarts += 1;
        let standing = waits(gate.look(at(111), &restarted));
        assert_eq!(standing.well_for, Duration::ZERO);
        waits(gate.look(at(170), &restarted));
        assert_eq!(gate.look(at(171), &restarted), Decision::Good);
    }

    #[test]
    fn the_deadline_ends_what_is_not_well() {
        let mut gate = Gate::new(Some(10 * MINUTE), MINUTE);
        waits(gate.look(at(599), &ill()));
        assert_eq!(
            gate.look(at(600), &ill()),
            Decision::GiveUp {
                reason: "it was not healthy 600 s after its start: cluster: why".to_owned()
            }
        );
    }

    #[test]
    fn who_is_well_at_the_deadline_may_finish_but_not_break() {
        let mut gate = Gate::new(Some(10 * MINUTE), MINUTE);
        waits(gate.look(at(590), &well()));
        waits(gate.look(at(601), &well()));
        let mut flaps = gate.clone();
        assert_eq!(gate.look(at(650), &well()), Decision::Good);
        assert!(matches!(
            flaps.clone().look(at(602), &ill()),
            Decision::GiveUp { .. }
        ));
        let mut restarted = well();
        restarted.restarts += 1;
        assert!(matches!(
            flaps.look(at(602), &restarted),
            Decision::GiveUp { .. }
        ));
    }

    #[test]
    fn without_a_deadline_nothing_is_given_up() {
        let mut gate = Gate::new(None, MINUTE);
        waits(gate.look(at(1_000_000), &ill()));
        waits(gate.look(at(1_000_001), &well()));
        assert_eq!(gate.look(at(1_000_061), &well()), Decision::Good);
    }

    #[test]
    fn how_far_it_came_is_what_passed_before_the_first_failure() {
        for (checks, expected) in [
            (sight(&[], 0), Reached::Started),
            (
                sight(&[(CONFIGURED, false), (SERVICES, true)], 0),
                Reached::Started,
            ),
            (
                sight(&[(CONFIGURED, true), (SERVICES, false), (API, true)], 0),
                Reached::Configured,
            ),
            (
                sight(&[(SERVICES, true), (API, false)], 0),
                Reached::Services,
            ),
            (ill(), Reached::Api),
            (
                sight(&[(CLUSTER, true), (USER, false)], 0),
                Reached::Cluster,
            ),
        ] {
            assert_eq!(reached(&checks.checks), expected);
        }
    }
}
