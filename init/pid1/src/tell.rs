//! Tells people and subscribers what happens.

use std::path::Path;

use keelson_control::{BootReport, Event, Level, Phase, ServiceState, encode};
use keelson_service::Name;
use keelson_sys::boot_clock::since_boot;

use crate::boot_report::{self, READY_CONDITION, millis};
use crate::clock;
use crate::node::Node;

/// Condition after which log files can be written.
const STORAGE_CONDITION: &str = "storage";

impl Node {
    /// Stamps a phase once.
    pub(crate) fn stamp(&mut self, name: String) {
        if self.phases.iter().any(|phase| phase.name == name) {
            return;
        }
        let phase = Phase {
            name,
            at_ms: millis(since_boot()),
        };
        self.say(Level::Info, &boot_report::phase_line(&phase));
        self.publish(&Event::Phase(phase.clone()));
        self.phases.push(phase);
    }

    /// A condition holds, or holds no longer.
    pub(crate) fn condition_changed(&mut self, name: String, raised: bool) {
        if raised && name == STORAGE_CONDITION && !self.logs.has_files() {
            self.start_log_files();
        }
        let ready = raised && name == READY_CONDITION;
        self.publish(&Event::Condition { name, raised });
        if ready && self.report.is_none() {
            self.make_report();
        }
    }

    fn start_log_files(&mut self) {
        let folder = self.log_folder.clone();
        // A board without a battery: at least not before its last boot.
        if let Some(text) = clock::correct_by_newest_in(&folder) {
            self.say(Level::Warn, &text);
        }
        if let Err(error) = self.logs.start_files(&folder) {
            let text = format!("cannot write logs to {}: {error}", folder.display());
            self.say(Level::Error, &text);
        }
    }

    fn make_report(&mut self) {
        let report = BootReport {
            ready_ms: millis(since_boot()),
            phases: self.phases.clone(),
        };
        for line in boot_report::lines(&report) {
            self.say(Level::Info, &line);
        }
        if let Err(error) = boot_report::write(&report, Path::new(boot_report::PATH)) {
            self.say(
                Level::Error,
                &format!("cannot write {}: {error}", boot_report::PATH),
            );
        }
        self.publish(&Event::BootReport(report.clone()));
        self.report = Some(report);
    }

    /// A service is in another state.
    pub(crate) fn state_changed(&mut self, name: &Name) {
        let Some(mut status) = self.supervisor.status(name.as_str()) else {
            return;
        };
        // Several changes may have been decided before the first could be told.
        let now = (status.state, status.since_ms);
        if self.told.insert(name.clone(), now) == Some(now) {
            return;
        }
        match status.state {
            ServiceState::Backoff => {
                self.crash_loops.remove(name);
                status.last_lines = self.logs.last_lines(name.as_str());
            }
            ServiceState::CrashLoop => {
                status.last_lines = self.logs.last_lines(name.as_str());
                if self.crash_loops.insert(name.clone()) {
                    self.tell_crash_loop(name, &status.last_lines);
                }
            }
            _ => {}
        }
        self.publish(&Event::Service(status));
    }

    fn tell_crash_loop(&mut self, name: &Name, last_lines: &[String]) {
        self.say(
            Level::Error,
            &format!("{name} keeps ending; its last lines:"),
        );
        for line in last_lines {
            self.say(Level::Error, &format!("  {name}: {line}"));
        }
    }

    /// Tells all subscribers; those that do not keep up are dropped.
    pub(crate) fn publish(&mut self, event: &Event) {
        let subscribers = self.clients.subscribers();
        if subscribers.is_empty() {
            return;
        }
        let line = match encode(event) {
            Ok(line) => line,
            Err(error) => {
                self.say(Level::Error, &format!("cannot publish an event: {error}"));
                return;
            }
        };
        for token in subscribers {
            if self.clients.send(token, &line) {
                self.adjust_interest(token);
            } else {
                self.close_client(token);
            }
        }
    }
}
