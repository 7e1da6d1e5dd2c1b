//! Carries out checks of services: programs, and connections.

use std::path::Path;

use keelson_control::{Level, chain};
use keelson_service::{Liveness, Name, Readiness, ServiceDefinition};
use keelson_supervisor::{ProbeKind, RunId};
use keelson_sys::boot_clock::since_boot;
use keelson_sys::epoll::Interest;

use crate::directories;
use crate::node::{Node, Owner, ProbeProcess, Source};
use crate::probe::{self, Attempt};

impl Node {
    /// Begins a check; its result comes later.
    pub(crate) fn probe(&mut self, name: &Name, run: RunId, kind: ProbeKind) {
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
}
