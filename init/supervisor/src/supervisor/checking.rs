//! Running services that do not work: hung, silent, halted.

use std::time::Duration;

use keelson_control::Level;
use keelson_service::{Liveness, Name};

use super::{KILL_AGAIN, Supervisor};
use crate::action::{Action, ProbeKind, Reason, RunId};
use crate::hangs::{MOST, WINDOW};
use crate::service::{Probe, Service, State, Then};

/// Times as many failures, or as long a silence, that are borne while the machine does not get
/// its work done: then a late answer says little about the service. No more than that, because
/// it can be the hung service that makes the machine slow.
const PATIENCE: u32 = 4;

/// A failed check is repeated sooner than a good one, by this factor.
const REPEAT_SOONER: u32 = 3;

impl Supervisor {
    /// Says whether the machine as a whole does not get its work done at the moment.
    pub fn set_stalled(&mut self, stalled: bool) {
        self.stalled = stalled;
    }

    /// The main process of a run was halted by a signal: it does nothing, and hears nothing but
    /// a kill.
    pub fn suspended(&mut self, name: &Name, run: RunId, signal: &str, now: Duration) {
        let Some(service) = self.services.get_mut(name) else {
            return;
        };
        if service.run().is_none_or(|current| current.id != run) {
            return;
        }
        let reason = Reason::Suspended(signal.to_owned());
        match &mut service.state {
            State::Ready { .. } | State::Starting { .. } if self.shutdown.is_some() => {
                self.kill(name, reason, Then::Rest { success: false }, now);
            }
            State::Ready { .. } | State::Starting { .. } => self.fail(name, reason, now),
            State::Stopping { kill_at, .. } => {
                *kill_at = now + KILL_AGAIN;
                self.push_kill(name, run);
            }
            State::Clearing { .. } => self.push_kill(name, run),
            State::Backoff { .. }
            | State::Disabled
            | State::Draining { .. }
            | State::Exited { .. }
            | State::Stopped
            | State::Waiting => {}
        }
    }

    /// The next check of a run that has just become ready.
    pub(super) fn first_check(service: &Service, now: Duration) -> Probe {
        match &service.definition.liveness {
            Some(Liveness::Exec {
                interval_seconds, ..
            }) => Probe::Due {
                at: now + Duration::from_secs((*interval_seconds).into()),
                kind: ProbeKind::Liveness,
            },
            None => Probe::None,
        }
    }

    /// A liveness check ended, or did not (`late`).
    pub(crate) fn liveness_probed(
        &mut self,
        name: &Name,
        success: bool,
        late: bool,
        now: Duration,
    ) {
        let slow = self.slow_beside(name);
        let Some(service) = self.services.get_mut(name) else {
            return;
        };
        let Some(Liveness::Exec {
            interval_seconds,
            failures,
            ..
        }) = service.definition.liveness
        else {
            return;
        };
        let allowed_at = service.hangs.next_allowed();
        let Some(run) = service.run_mut() else { return };
        run.failed_probes = if success { 0 } else { run.failed_probes + 1 };
        run.late = late;
        let pause = Duration::from_secs(interval_seconds.into());
        let pause = if success {
            pause
        } else {
            pause / REPEAT_SOONER
        };
        run.probe = Probe::Due {
            at: now + pause,
            kind: ProbeKind::Liveness,
        };
        let borne = if slow {
            failures.saturating_mul(PATIENCE)
        } else {
            failures
        };
        let failed = run.failed_probes;
        if success {
            run.spared = false;
        } else if failed >= borne {
            let reason = Reason::Liveness(failed);
            if now < allowed_at {
                self.spare(name, &reason);
            } else {
                self.fail(name, reason, now);
            }
        }
    }

    /// A run did not report in time.
    pub(crate) fn watchdog_expired(&mut self, name: &Name, now: Duration) {
        let slow = self.slow_beside(name);
        let Some(service) = self.services.get_mut(name) else {
            return;
        };
        let period = service.watchdog_period();
        let allowed_at = service.hangs.next_allowed();
        let Some(run) = service.run_mut() else { return };
        let reason = Reason::Watchdog(period.saturating_mul(run.silences + 1));
        if slow && run.silences + 1 < PATIENCE {
            run.silences += 1;
            run.watchdog_at = Some(now + period);
        } else if now < allowed_at {
            run.watchdog_at = Some(allowed_at);
            self.spare(name, &reason);
        } else {
            self.fail(name, reason, now);
        }
    }

    /// A run reported.
    pub(super) fn reported(service: &mut Service, now: Duration) {
        let period = service.watchdog_period();
        // Not while it starts: its main loop may do the starting.
        if let State::Ready { run } = &mut service.state
            && run.watchdog_at.is_some()
        {
            run.watchdog_at = Some(now + period);
            run.silences = 0;
            run.spared = false;
        }
    }

    /// Whether slowness, of the machine or of another service, explains that one is late.
    fn slow_beside(&self, name: &Name) -> bool {
        let other_late = |(other, service): (&Name, &Service)| {
            other != name && service.run().is_some_and(|run| run.late)
        };
        self.stalled || self.services.iter().any(other_late)
    }

    /// Leaves a run that hangs as it is, and says so once.
    fn spare(&mut self, name: &Name, reason: &Reason) {
        let Some(run) = self.services.get_mut(name).and_then(Service::run_mut) else {
            return;
        };
        if !std::mem::replace(&mut run.spared, true) {
            let text = format!(
                "{name}: {reason}, but it was restarted {MOST} times within {} min for that: leaving it for now",
                WINDOW.as_secs() / 60
            );
            self.actions.push_back(Action::Report {
                level: Level::Error,
                text,
            });
        }
    }
}
