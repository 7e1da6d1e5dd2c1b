//! How a run ends, and what comes after it.

use std::time::Duration;

use keelson_control::Level;
use keelson_service::{Kind, Name, RestartPolicy, Signal};

use super::Supervisor;
use crate::action::{Action, Exit, RunId};
use crate::backoff;
use crate::service::{Probe, State, Then};

/// Time the rest of a killed cgroup has to disappear. Only a process stuck in the kernel takes
/// longer, and waiting for that one helps nobody.
const DRAIN_DEADLINE: Duration = Duration::from_secs(5);

impl Supervisor {
    /// Ends a run that does not work; it comes back after the usual delay.
    pub(crate) fn fail(
        &mut self,
        name: &Name,
        level: Level,
        text: String,
        signal: Option<Signal>,
        now: Duration,
    ) {
        self.actions.push_back(Action::Report { level, text });
        let then = Then::Restart {
            delay: self.next_delay(name, now),
        };
        self.tell_to_end_with(name, signal, then, now);
    }

    pub(crate) fn tell_to_end(&mut self, name: &Name, then: Then, now: Duration) {
        self.tell_to_end_with(name, None, then, now);
    }

    fn tell_to_end_with(&mut self, name: &Name, signal: Option<Signal>, then: Then, now: Duration) {
        let Some(service) = self.services.get_mut(name) else {
            return;
        };
        let stop = &service.definition.stop;
        let signal = signal.unwrap_or(stop.signal);
        let kill_at = now + Duration::from_secs(stop.timeout_seconds.into());
        let state = std::mem::replace(&mut service.state, State::Waiting);
        let mut run = match state {
            State::Clearing { run, .. } | State::Ready { run } | State::Starting { run } => run,
            other => {
                service.state = other;
                return;
            }
        };
        let id = run.id;
        if let Probe::Running { .. } = std::mem::replace(&mut run.probe, Probe::None) {
            self.actions.push_back(Action::CancelProbe {
                service: name.clone(),
                run: id,
            });
        }
        if run.pid.is_some() {
            self.actions.push_back(Action::Signal {
                service: name.clone(),
                run: id,
                signal,
            });
        }
        service.state = State::Stopping { run, kill_at, then };
        service.since = now;
        self.changed(name);
    }

    pub(super) fn run_ended(&mut self, name: &Name, run: RunId, exit: Exit, now: Duration) {
        let Some(service) = self.services.get(name) else {
            return;
        };
        let Some(current) = service.run().filter(|current| current.id == run) else {
            return;
        };
        let had_process = current.pid.is_some();
        if let Probe::Running { .. } = current.probe {
            self.actions.push_back(Action::CancelProbe {
                service: name.clone(),
                run,
            });
        }
        let success = exit == Exit::Code(0);
        let then = match &service.state {
            State::Stopping { then, .. } => *then,
            _ if self.shutdown.is_some() => Then::Rest { success },
            _ => self.after_unexpected_end(name, &exit, now),
        };
        let Some(service) = self.services.get_mut(name) else {
            return;
        };
        service.last_exit = Some(exit);
        service.since = now;
        if had_process && service.definition.stop.kill_cgroup {
            service.state = State::Draining {
                give_up_at: now + DRAIN_DEADLINE,
                then,
            };
            self.actions.push_back(Action::KillCgroup {
                service: name.clone(),
            });
            self.changed(name);
        } else {
            self.settle(name, then, now);
        }
    }

    fn after_unexpected_end(&mut self, name: &Name, exit: &Exit, now: Duration) -> Then {
        let success = *exit == Exit::Code(0);
        let Some(service) = self.services.get(name) else {
            return Then::Rest { success };
        };
        let kind = service.definition.kind;
        let again = match service.definition.restart_policy() {
            RestartPolicy::Always => !(kind == Kind::Oneshot && success),
            RestartPolicy::Never => false,
            RestartPolicy::OnFailure => !success,
        };
        if kind == Kind::Oneshot && success {
            return Then::Rest { success };
        }
        let mut text = format!("{name} ended: {exit}");
        let then = if again {
            let delay = self.next_delay(name, now);
            if delay.is_zero() {
                text.push_str("; starting it again");
            } else {
                text.push_str(&format!(
                    "; starting it again in {:.1} s",
                    delay.as_secs_f64()
                ));
            }
            Then::Restart { delay }
        } else {
            Then::Rest { success }
        };
        self.actions.push_back(Action::Report {
            level: Level::Warn,
            text,
        });
        then
    }

    /// Counts a failure and returns the delay it costs.
    fn next_delay(&mut self, name: &Name, now: Duration) -> Duration {
        // xorshift32: spreading restarts needs no better randomness.
        self.jitter ^= self.jitter << 13;
        self.jitter ^= self.jitter >> 17;
        self.jitter ^= self.jitter << 5;
        let Some(service) = self.services.get_mut(name) else {
            return Duration::ZERO;
        };
        let config = &service.definition.restart;
        let stable = Duration::from_secs(config.stable_seconds.into());
        let ran = service
            .run()
            .map_or(Duration::ZERO, |run| now.saturating_sub(run.started_at));
        let failures = if ran >= stable { 0 } else { service.failures };
        let delay = backoff::delay(config, failures, self.jitter);
        service.failures = failures.saturating_add(1);
        delay
    }

    /// Everything of a service has ended.
    pub(crate) fn settle(&mut self, name: &Name, then: Then, now: Duration) {
        let stopping = self.shutdown.is_some();
        let Some(service) = self.services.get_mut(name) else {
            return;
        };
        service.since = now;
        let mut raise = Vec::new();
        service.state = match then {
            _ if stopping => State::Exited { success: false },
            Then::Restart { delay } if delay.is_zero() => State::Waiting,
            Then::Restart { delay } => State::Backoff { until: now + delay },
            Then::Rest { success } => {
                if success && service.definition.kind == Kind::Oneshot {
                    service.was_ready = true;
                    raise = service
                        .definition
                        .provides
                        .iter()
                        .map(Name::to_string)
                        .collect();
                    raise.push(name.to_string());
                }
                State::Exited { success }
            }
        };
        if let Some(own_name) = raise.pop() {
            self.stamp(&own_name);
            for condition in raise {
                self.raise(&condition);
            }
        }
        self.changed(name);
        self.start_what_can(now);
        self.advance_shutdown(now);
    }
}
