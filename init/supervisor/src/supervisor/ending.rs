//! How a run ends, and what comes after it.

use std::time::Duration;

use keelson_control::Level;
use keelson_service::{Kind, Name, RestartPolicy, Signal};

use super::Supervisor;
use crate::action::{Action, End, Exit, Reason, RunId};
use crate::backoff;
use crate::service::{Probe, State, Then};

/// Time the rest of a killed cgroup has to disappear. Only a process stuck in the kernel takes
/// longer, and waiting for that one helps nobody.
const DRAIN_DEADLINE: Duration = Duration::from_secs(5);

/// Pause between two kills of a process that does not go.
pub(crate) const KILL_AGAIN: Duration = Duration::from_secs(5);

/// A run that lasted this long and was then killed or halted by somebody else counts neither for
/// nor against the service: it comes back at once, however often that happens.
const INNOCENT: Duration = Duration::from_secs(1);

const SIGKILL: i32 = 9;

/// Whose fault an end is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// It hung. That shows late by its nature, so a long run is no new beginning.
    Hang,
    /// Somebody killed or halted it.
    Outside,
    /// It ended by itself, was never ready, or took too much memory.
    Own,
}

impl Fault {
    fn of(reason: &Reason) -> Self {
        match reason {
            Reason::Liveness(_) | Reason::Watchdog(_) => Self::Hang,
            Reason::RestartRequested
            | Reason::Shutdown
            | Reason::StopRequested
            | Reason::Suspended(_) => Self::Outside,
            Reason::OutOfMemory | Reason::Unready(_) => Self::Own,
        }
    }
}

impl Supervisor {
    /// Ends a run that does not work; it comes back after the usual delay.
    pub(crate) fn fail(&mut self, name: &Name, reason: Reason, now: Duration) {
        self.actions.push_back(Action::Report {
            level: Level::Error,
            text: format!("{name}: {reason}, restarting it"),
        });
        let then = Then::Restart {
            delay: self.next_delay(name, Fault::of(&reason), now),
        };
        match reason {
            Reason::Suspended(_) => self.kill(name, reason, then, now),
            // A Go program prints its stacks at SIGABRT: that tells why it hung.
            Reason::Watchdog(_) => {
                self.signal_to_end(name, Some(Signal::SIGABRT), reason, then, now);
            }
            _ => self.tell_to_end(name, reason, then, now),
        }
    }

    /// Sends the stop signal, and sets the time after which it is killed.
    pub(crate) fn tell_to_end(&mut self, name: &Name, reason: Reason, then: Then, now: Duration) {
        self.signal_to_end(name, None, reason, then, now);
    }

    fn signal_to_end(
        &mut self,
        name: &Name,
        signal: Option<Signal>,
        reason: Reason,
        then: Then,
        now: Duration,
    ) {
        let Some(service) = self.services.get(name) else {
            return;
        };
        let stop = &service.definition.stop;
        let signal = signal.unwrap_or(stop.signal);
        let kill_at = now + Duration::from_secs(stop.timeout_seconds.into());
        let told = self.begin_end(name, kill_at, reason, then, now);
        if let Some(run) = told {
            self.actions.push_back(Action::Signal {
                service: name.clone(),
                run,
                signal,
            });
        }
    }

    /// Ends a run that could not hear a signal.
    pub(super) fn kill(&mut self, name: &Name, reason: Reason, then: Then, now: Duration) {
        let killed = self.begin_end(name, now + KILL_AGAIN, reason, then, now);
        if let Some(run) = killed {
            self.push_kill(name, run);
        }
    }

    /// Kills what the definition says: the whole cgroup, or the main process.
    pub(crate) fn push_kill(&mut self, name: &Name, run: RunId) {
        let whole = self
            .services
            .get(name)
            .is_some_and(|service| service.definition.stop.kill_cgroup);
        let service = name.clone();
        self.actions.push_back(if whole {
            Action::KillCgroup { service }
        } else {
            Action::KillMain { service, run }
        });
    }

    /// Enters `Stopping`; returns the run when it has a process.
    fn begin_end(
        &mut self,
        name: &Name,
        kill_at: Duration,
        reason: Reason,
        then: Then,
        now: Duration,
    ) -> Option<RunId> {
        let service = self.services.get_mut(name)?;
        let state = std::mem::replace(&mut service.state, State::Waiting);
        let mut run = match state {
            State::Clearing { run, .. } | State::Ready { run } | State::Starting { run } => run,
            other => {
                service.state = other;
                return None;
            }
        };
        let (id, has_process) = (run.id, run.pid.is_some());
        run.reason.get_or_insert(reason);
        if let Probe::Running { .. } = std::mem::replace(&mut run.probe, Probe::None) {
            self.actions.push_back(Action::CancelProbe {
                service: name.clone(),
                run: id,
            });
        }
        service.state = State::Stopping { run, kill_at, then };
        service.since = now;
        self.changed(name);
        has_process.then_some(id)
    }

    pub(super) fn run_ended(
        &mut self,
        name: &Name,
        run: RunId,
        exit: Exit,
        out_of_memory: bool,
        now: Duration,
    ) {
        let Some(service) = self.services.get(name) else {
            return;
        };
        let Some(current) = service.run().filter(|current| current.id == run) else {
            return;
        };
        let had_process = current.pid.is_some();
        let end = End {
            at: now,
            ran: now.saturating_sub(current.started_at),
            exit: exit.clone(),
            reason: current
                .reason
                .clone()
                .or(out_of_memory.then_some(Reason::OutOfMemory)),
        };
        if let Probe::Running { .. } = current.probe {
            self.actions.push_back(Action::CancelProbe {
                service: name.clone(),
                run,
            });
        }
        self.actions.push_back(Action::Ended {
            service: name.clone(),
            end,
        });
        let success = exit == Exit::Code(0);
        let then = match &service.state {
            State::Stopping { then, .. } => *then,
            _ if self.shutdown.is_some() => Then::Rest { success },
            _ => self.after_unexpected_end(name, &exit, out_of_memory, now),
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

    fn after_unexpected_end(
        &mut self,
        name: &Name,
        exit: &Exit,
        out_of_memory: bool,
        now: Duration,
    ) -> Then {
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
        let fault = match exit {
            Exit::Signal(SIGKILL) if !out_of_memory => Fault::Outside,
            _ => Fault::Own,
        };
        let mut text = format!("{name} ended: {exit}");
        let then = if again {
            let delay = self.next_delay(name, fault, now);
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

    /// Counts a failure and returns the delay it costs. A run that was ready for long is a new
    /// beginning.
    fn next_delay(&mut self, name: &Name, fault: Fault, now: Duration) -> Duration {
        // xorshift32: spreading restarts needs no better randomness.
        self.jitter ^= self.jitter << 13;
        self.jitter ^= self.jitter >> 17;
        self.jitter ^= self.jitter << 5;
        let Some(service) = self.services.get_mut(name) else {
            return Duration::ZERO;
        };
        let config = &service.definition.restart;
        let stable = Duration::from_secs(config.stable_seconds.into());
        let since =
            |time: Option<Duration>| time.map_or(Duration::ZERO, |time| now.saturating_sub(time));
        let run = service.run();
        let ready_for = since(run.and_then(|run| run.ready_at));
        let ran_for = since(run.map(|run| run.started_at));
        let anew = match fault {
            Fault::Outside if ran_for >= INNOCENT => {
                return Duration::from_millis(config.initial_delay_ms.into());
            }
            Fault::Hang => service.hangs.is_empty(now),
            Fault::Outside | Fault::Own => ready_for >= stable,
        };
        let failures = if anew { 0 } else { service.failures };
        let delay = backoff::delay(config, failures, self.jitter);
        service.failures = failures.saturating_add(1);
        if fault == Fault::Hang {
            service.hangs.add(now);
        }
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
            Then::Stop => State::Stopped,
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
