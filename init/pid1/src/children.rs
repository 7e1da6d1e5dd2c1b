//! Ends of children: main processes, probes, orphans.

use std::os::fd::AsFd;

use keelson_control::{Level, chain};
use keelson_service::Name;
use keelson_supervisor::{Exit, RunId};
use keelson_sys::boot_clock::since_boot;
use keelson_sys::process::{self, reap};
use keelson_sys::spawn::ExecOutcome;

use crate::node::{Node, Owner, Source};

/// Reads of a dead service's pipe before its end is told: enough for its last words.
const LAST_READS: usize = 8;

const SIGKILL: i32 = 9;

impl Node {
    /// The one place where children are waited for.
    pub(crate) fn reap_all(&mut self) {
        loop {
            match reap() {
                Ok(None) => return,
                Ok(Some((pid, exit))) => match self.owners.remove(&pid) {
                    Some(Owner::Main(name)) => self.main_ended(&name, exit),
                    Some(Owner::Probe(name)) => self.probe_ended(&name, pid, exit),
                    // An orphan: a shim, or what a service left behind. Nobody asks for it.
                    None => {}
                },
                Err(error) => {
                    self.say(Level::Error, &format!("cannot wait for children: {error}"));
                    return;
                }
            }
        }
    }

    fn main_ended(&mut self, name: &Name, exit: process::Exit) {
        self.read_last_words(name);
        let Some(main) = self.mains.remove(name) else {
            return;
        };
        let exit = match (main.exec_status.read(), exit) {
            (Ok(ExecOutcome::Failed(error)), _) => {
                let program = self
                    .supervisor
                    .definition(name.as_str())
                    .map(|d| d.command[0].as_str());
                Exit::CannotStart(format!(
                    "{}: {}",
                    program.unwrap_or_default(),
                    chain(&error)
                ))
            }
            (_, process::Exit::Code(code)) => Exit::Code(code),
            (_, process::Exit::Signal(signal)) => Exit::Signal(signal),
        };
        self.supervisor.exited(name, main.run, exit, since_boot());
    }

    fn probe_ended(&mut self, name: &Name, pid: u32, exit: process::Exit) {
        // A cancelled one has been taken out already.
        if self.probes.get(name).is_some_and(|probe| probe.pid == pid)
            && let Some(probe) = self.probes.remove(name)
        {
            self.supervisor
                .probed(name, probe.run, exit.success(), since_boot());
        }
    }

    fn read_last_words(&mut self, name: &Name) {
        for source in self.sources.values_mut() {
            if let Source::Log(pipe) = source
                && pipe.service == name.as_str()
            {
                for _ in 0..LAST_READS {
                    if !pipe.read(&mut self.logs) {
                        break;
                    }
                }
            }
        }
    }

    pub(crate) fn kill_probe(&mut self, name: &Name, run: RunId) {
        if self.probes.get(name).is_some_and(|probe| probe.run == run)
            && let Some(probe) = self.probes.remove(name)
            && let Err(error) = process::signal(probe.pidfd.as_fd(), SIGKILL)
        {
            self.say(
                Level::Error,
                &format!("cannot kill a check of {name}: {error}"),
            );
        }
        self.unwatch(|source| matches!(source, Source::Connect(n, r, _) if n == name && *r == run));
    }
}
