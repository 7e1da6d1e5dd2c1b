//! What the passing of time brings about.

use std::time::Duration;

use keelson_control::Level;
use keelson_service::{Liveness, Name};

use crate::action::{Action, ProbeKind, Reason};
use crate::service::{Probe, Service, State, Then};
use crate::supervisor::{KILL_AGAIN, Supervisor};

impl Supervisor {
    /// Does what is due by now.
    pub fn tick(&mut self, now: Duration) {
        let due: Vec<Name> = self
            .services
            .iter()
            .filter(|(_, service)| service.deadline().is_some_and(|deadline| deadline <= now))
            .map(|(name, _)| name.clone())
            .collect();
        for name in due {
            self.service_due(&name, now);
        }
        self.shutdown_due(now);
    }

    /// When [`Self::tick`] has something to do next.
    pub fn next_deadline(&self) -> Option<Duration> {
        let services = self.services.values().filter_map(Service::deadline);
        services.chain(self.shutdown_deadline()).min()
    }

    fn service_due(&mut self, name: &Name, now: Duration) {
        let Some(service) = self.services.get_mut(name) else {
            return;
        };
        let readiness_timeout = service.readiness_timeout();
        match &mut service.state {
            State::Backoff { .. } => {
                service.state = State::Waiting;
                service.since = now;
                self.changed(name);
                self.start_what_can(now);
            }
            State::Clearing { .. } => {
                self.actions.push_back(Action::KillCleared {
                    service: name.clone(),
                });
                self.tell_to_end(name, Reason::Shutdown, Then::Rest { success: false }, now);
            }
            State::Draining { then, .. } => {
                let then = *then;
                let text = format!("processes of {name} are stuck in the kernel after a kill");
                self.actions.push_back(Action::Report {
                    level: Level::Error,
                    text,
                });
                self.settle(name, then, now);
            }
            State::Stopping { run, kill_at, .. } => {
                let text = format!("{name} did not end when it was told to, killing it");
                self.actions.push_back(Action::Report {
                    level: Level::Warn,
                    text,
                });
                *kill_at = now + KILL_AGAIN;
                let run = run.id;
                self.push_kill(name, run);
            }
            State::Starting { run } if run.ready_by.is_some_and(|by| by <= now) => {
                let reason = Reason::Unready(now.saturating_sub(run.started_at));
                self.fail(name, reason, now);
            }
            State::Ready { run } if run.watchdog_at.is_some_and(|at| at <= now) => {
                self.watchdog_expired(name, now);
            }
            State::Ready { run } | State::Starting { run } => {
                let id = run.id;
                match run.probe {
                    Probe::Due { at, kind } if at <= now => {
                        let timeout = match (kind, &service.definition.liveness) {
                            (
                                ProbeKind::Liveness,
                                Some(Liveness::Exec {
                                    timeout_seconds, ..
                                }),
                            ) => Duration::from_secs((*timeout_seconds).into()),
                            _ => readiness_timeout,
                        };
                        run.probe = Probe::Running {
                            until: now + timeout,
                            kind,
                        };
                        let service = name.clone();
                        self.actions.push_back(Action::Probe {
                            service,
                            run: id,
                            kind,
                        });
                    }
                    Probe::Running { until, kind } if until <= now => {
                        let service = name.clone();
                        self.actions
                            .push_back(Action::CancelProbe { service, run: id });
                        match kind {
                            ProbeKind::Liveness => self.liveness_probed(name, false, true, now),
                            ProbeKind::Readiness => self.probed(name, id, false, now),
                        }
                    }
                    _ => {}
                }
            }
            State::Disabled | State::Exited { .. } | State::Stopped | State::Waiting => {}
        }
    }
}
