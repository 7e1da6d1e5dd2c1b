//! Ends of children: main processes, probes, orphans.

use std::os::fd::AsFd;

use keelson_control::{Level, chain};
use keelson_service::Name;
use keelson_supervisor::{Exit, RunId};
use keelson_sys::boot_clock::since_boot;
use keelson_sys::process::{self, Change};
use keelson_sys::spawn::ExecOutcome;

use crate::cgroup;
use crate::node::{Node, Owner, Source};

/// Reads of a dead service's pipe before its end is told: enough for its last words.
const LAST_READS: usize = 8;

const SIGKILL: i32 = 9;

impl Node {
    /// The one place where children are waited for.
    pub(crate) fn wait_for_children(&mut self) {
        loop {
            match process::next_change() {
                Ok(None) => return,
                Ok(Some((pid, Change::Ended(exit)))) => match self.owners.remove(&pid) {
                    Some(Owner::Main(name)) => self.main_ended(&name, exit),
                    Some(Owner::Probe(name)) => self.probe_ended(&name, pid, exit),
                    // An orphan: a shim, or what a service left behind. Nobody asks for it.
                    None => {}
                },
                Ok(Some((pid, Change::Halted(signal)))) => {
                    // A halted check runs into its timeout.
                    if let Some(Owner::Main(name)) = self.owners.get(&pid).cloned() {
                        self.main_halted(&name, signal);
                    }
                }
                Err(error) => {
                    self.say(Level::Error, &format!("cannot wait for children: {error}"));
                    return;
                }
            }
        }
    }

    fn main_halted(&mut self, name: &Name, signal: i32) {
        if let Some(run) = self.mains.get(name).map(|main| main.run) {
            let signal = process::signal_name(signal);
            self.supervisor.suspended(name, run, &signal, since_boot());
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
        let out_of_memory = self.memory_kills(name) > main.memory_kills;
        self.supervisor
            .exited(name, main.run, exit, out_of_memory, since_boot());
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

    /// Processes of a service that the kernel has killed because memory ran out.
    pub(crate) fn memory_kills(&self, name: &Name) -> u64 {
        let tree = self.tree.as_ref();
        tree.map_or(0, |tree| cgroup::memory_kills(&tree.leaf(name.as_str())))
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
