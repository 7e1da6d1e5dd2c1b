//! Carries out what the supervisor decides.

use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use keelson_control::{BootReport, Event, Level, Phase, ServiceState, chain, encode};
use keelson_service::{Liveness, Name, Readiness, ServiceDefinition};
use keelson_supervisor::{Action, ProbeKind, RunId};
use keelson_sys::boot_clock::since_boot;
use keelson_sys::epoll::Interest;
use keelson_sys::process;

use crate::boot_report::{self, READY_CONDITION, millis};
use crate::logs::LogPipe;
use crate::node::{Main, Node, Owner, ProbeProcess, Source};
use crate::probe::{self, Attempt};
use crate::{cgroup, clock, directories};

/// Condition after which log files can be written.
const STORAGE_CONDITION: &str = "storage";

const SIGKILL: i32 = 9;

impl Node {
    /// Empties the supervisor's queue.
    pub(crate) fn execute_all(&mut self) {
        while let Some(action) = self.supervisor.next_action() {
            self.execute(action);
        }
    }

    fn execute(&mut self, action: Action) {
        match action {
            Action::CancelProbe { service, run } => self.kill_probe(&service, run),
            Action::ClearCgroups { service } => self.clear_cgroups(&service),
            Action::ConditionChanged { name, raised } => self.condition_changed(name, raised),
            Action::KillCgroup { service } => self.kill_cgroup(&service),
            Action::KillCleared { service } => {
                for group in self.cleared_groups(&service) {
                    self.kill_group(&group);
                }
                self.unwatch(|source| matches!(source, Source::Clear(name, _) if *name == service));
            }
            Action::KillMain { service, run } => self.signal_main(&service, run, SIGKILL),
            Action::Phase { name } => self.stamp(name),
            Action::Probe { service, run, kind } => self.probe(&service, run, kind),
            Action::Report { level, text } => self.say(level, &text),
            Action::ShutdownComplete => self.complete = true,
            Action::Signal {
                service,
                run,
                signal,
            } => {
                self.signal_main(&service, run, signal.number());
            }
            Action::Start { service, run } => self.start(&service, run),
            Action::StateChanged { service } => self.state_changed(&service),
        }
    }

    fn start(&mut self, name: &Name, run: RunId) {
        let Some(definition) = self.supervisor.definition(name.as_str()) else {
            return;
        };
        let started = self.launcher.start(definition, self.supervisor.facts());
        let (child, output) = match started {
            Ok(started) => started,
            Err(error) => {
                self.supervisor
                    .start_failed(name, run, chain(&error), since_boot());
                return;
            }
        };
        let pipe = LogPipe::new(name.to_string(), output);
        if let Err(error) = self.watch(Source::Log(pipe), Interest::Read) {
            // It runs; only its output is lost.
            self.say(
                Level::Error,
                &format!("cannot read the output of {name}: {error}"),
            );
        }
        self.owners.insert(child.pid, Owner::Main(name.clone()));
        let pid = child.pid;
        let main = Main {
            run,
            pidfd: child.pidfd,
            exec_status: child.exec_status,
        };
        self.mains.insert(name.clone(), main);
        self.supervisor.spawned(name, run, pid, since_boot());
    }

    fn signal_main(&mut self, name: &Name, run: RunId, signal: i32) {
        let Some(main) = self.mains.get(name).filter(|main| main.run == run) else {
            return;
        };
        if let Err(error) = process::signal(main.pidfd.as_fd(), signal) {
            self.say(
                Level::Error,
                &format!("cannot send signal {signal} to {name}: {error}"),
            );
        }
    }

    fn kill_cgroup(&mut self, name: &Name) {
        let Some(tree) = &self.tree else {
            // Without cgroups (a test's namespace) only the main process can be killed.
            if let Some(run) = self.mains.get(name).map(|main| main.run) {
                self.signal_main(name, run, SIGKILL);
            } else {
                self.supervisor.drained(name, since_boot());
            }
            return;
        };
        let group = tree.leaf(name.as_str());
        self.kill_group(&group);
        match cgroup::events_file(&group) {
            Ok(file) => {
                let source = Source::Drain(name.clone(), file);
                if let Err(error) = self.watch(source, Interest::Notice) {
                    self.say(
                        Level::Error,
                        &format!("cannot watch the cgroup of {name}: {error}"),
                    );
                }
                // It may have become empty before it was watched.
                self.check_drained(name);
            }
            Err(_) => self.supervisor.drained(name, since_boot()),
        }
    }

    fn kill_group(&mut self, group: &Path) {
        if let Err(error) = cgroup::kill(group) {
            self.say(
                Level::Error,
                &format!("cannot kill cgroup {}: {error}", group.display()),
            );
        }
    }

    /// Tells the supervisor when a killed cgroup is empty. While the main process has not been
    /// waited for, its end comes first.
    pub(crate) fn check_drained(&mut self, name: &Name) {
        let Some(tree) = &self.tree else { return };
        let empty = !cgroup::populated(&tree.leaf(name.as_str())).unwrap_or(false);
        if empty && !self.mains.contains_key(name) {
            self.unwatch(|source| matches!(source, Source::Drain(n, _) if n == name));
            self.supervisor.drained(name, since_boot());
        }
    }

    fn clear_cgroups(&mut self, name: &Name) {
        for group in self.cleared_groups(name) {
            if let Err(error) = cgroup::terminate_all(&group) {
                self.say(
                    Level::Warn,
                    &format!("cannot end {}: {error}", group.display()),
                );
            }
            if let Ok(file) = cgroup::events_file(&group) {
                let source = Source::Clear(name.clone(), file);
                if let Err(error) = self.watch(source, Interest::Notice) {
                    self.say(
                        Level::Error,
                        &format!("cannot watch {}: {error}", group.display()),
                    );
                }
            }
        }
        self.check_cleared(name);
    }

    /// Tells the supervisor when a service's `clearFirst` cgroups are empty.
    pub(crate) fn check_cleared(&mut self, name: &Name) {
        let groups = self.cleared_groups(name);
        if !groups
            .iter()
            .any(|group| cgroup::populated(group).unwrap_or(false))
        {
            self.unwatch(|source| matches!(source, Source::Clear(n, _) if n == name));
            self.supervisor.cleared(name, since_boot());
        }
    }

    fn cleared_groups(&self, name: &Name) -> Vec<PathBuf> {
        let definition = self.supervisor.definition(name.as_str());
        match (&self.tree, definition) {
            (Some(tree), Some(definition)) => definition
                .stop
                .clear_first
                .iter()
                .map(|path| tree.below(path))
                .collect(),
            _ => Vec::new(),
        }
    }

    fn probe(&mut self, name: &Name, run: RunId, kind: ProbeKind) {
        let Some(definition) = self.supervisor.definition(name.as_str()) else {
            return;
        };
        let command = match (kind, &definition.liveness, definition.readiness()) {
            (ProbeKind::Liveness, Some(Liveness::Exec { command, .. }), _) => command.clone(),
            (ProbeKind::Readiness, _, Readiness::Exec(exec)) => exec.command,
            (ProbeKind::Readiness, _, readiness) => {
                self.connect(name, run, &readiness);
                return;
            }
            (ProbeKind::Liveness, None, _) => return,
        };
        match self
            .launcher
            .start_probe(definition, &command, self.supervisor.facts())
        {
            Ok(child) => {
                self.owners.insert(child.pid, Owner::Probe(name.clone()));
                let probe = ProbeProcess {
                    run,
                    pid: child.pid,
                    pidfd: child.pidfd,
                };
                self.probes.insert(name.clone(), probe);
            }
            Err(error) => {
                self.say(
                    Level::Error,
                    &format!("cannot check {name}: {}", chain(&error)),
                );
                self.supervisor.probed(name, run, false, since_boot());
            }
        }
    }

    fn connect(&mut self, name: &Name, run: RunId, readiness: &Readiness) {
        let attempt = match readiness {
            Readiness::Tcp { address } => probe::tcp(address),
            Readiness::Unix {
                path,
                owner: Some(_),
            } if !probe::is_private(Path::new(path)) => Ok(Attempt::Refused),
            Readiness::Unix { path, .. } => probe::unix(Path::new(path)),
            Readiness::Exec(_)
            | Readiness::Exited {}
            | Readiness::Notify {}
            | Readiness::Started {} => return,
        };
        let accepted = match attempt {
            Ok(Attempt::Accepted) => true,
            Ok(Attempt::Refused) => false,
            Ok(Attempt::Pending(socket)) => {
                let source = Source::Connect(name.clone(), run, socket);
                if self.watch(source, Interest::Write).is_ok() {
                    return;
                }
                false
            }
            Err(error) => {
                self.say(Level::Error, &format!("cannot check {name}: {error}"));
                false
            }
        };
        self.connection_checked(name, run, accepted);
    }

    /// A connection check is decided. A socket that must change its owner does so before
    /// anyone is told that it is there.
    pub(crate) fn connection_checked(&mut self, name: &Name, run: RunId, accepted: bool) {
        let given = !accepted
            || match self
                .supervisor
                .definition(name.as_str())
                .map(ServiceDefinition::readiness)
            {
                Some(Readiness::Unix {
                    path,
                    owner: Some(owner),
                }) => self.give_socket(name, &path, &owner),
                _ => true,
            };
        self.supervisor
            .probed(name, run, accepted && given, since_boot());
    }

    fn give_socket(&mut self, name: &Name, path: &str, owner: &str) -> bool {
        let Some(uid) = self.launcher.uid(owner) else {
            self.say(
                Level::Error,
                &format!("{name}: user {owner} does not exist in /etc/passwd"),
            );
            return false;
        };
        match directories::give_socket(Path::new(path), uid) {
            Ok(()) => true,
            Err(error) => {
                self.say(
                    Level::Error,
                    &format!("{name}: cannot give {path} to {owner}: {error}"),
                );
                false
            }
        }
    }

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

    fn condition_changed(&mut self, name: String, raised: bool) {
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

    fn state_changed(&mut self, name: &Name) {
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
