//! Carries out what the supervisor decides.

use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use keelson_control::{Level, chain};
use keelson_service::Name;
use keelson_supervisor::{Action, RunId};
use keelson_sys::boot_clock::since_boot;
use keelson_sys::epoll::Interest;
use keelson_sys::process;

use crate::cgroup;
use crate::logs::LogPipe;
use crate::node::{Main, Node, Owner, Source};
use crate::process::Started;

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
            Action::Ended { service, end } => self.keep_end(&service, &end),
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
        let resources = self.resources(name.as_str());
        let started = self
            .launcher
            .start(definition, &resources, self.supervisor.facts());
        let Started {
            child,
            command,
            output,
        } = match started {
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
            command,
            memory_kills: self.memory_kills(name),
        };
        self.mains.insert(name.clone(), main);
        self.protect_services();
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
}
