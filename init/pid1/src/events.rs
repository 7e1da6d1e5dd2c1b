//! What each ready descriptor leads to.

use keelson_control::{Level, ShutdownKind};
use keelson_sys::boot_clock::since_boot;
use keelson_sys::epoll::Readiness;
use keelson_sys::signals::Caught;

use crate::node::{Node, Owner, Source};
use crate::notify::notices;
use crate::probe;

impl Node {
    /// Deals with one descriptor.
    pub(crate) fn handle(&mut self, event: Readiness) {
        let token = event.token;
        // Gone since the kernel reported it.
        let Some(source) = self.sources.get_mut(&token) else {
            return;
        };
        match source {
            Source::Button(button) => match button.pressed() {
                Ok(true) => self.shut_down(ShutdownKind::PowerOff, "power button"),
                Ok(false) => {}
                Err(_) => drop(self.sources.remove(&token)),
            },
            Source::Clear(name, _) => {
                let name = name.clone();
                self.check_cleared(&name);
            }
            Source::Client => self.client_ready(token, event),
            Source::Connect(name, run, socket) => {
                let (name, run, accepted) = (name.clone(), *run, probe::accepted(socket));
                self.sources.remove(&token);
                self.connection_checked(&name, run, accepted);
            }
            Source::Drain(name, _) => {
                let name = name.clone();
                self.check_drained(&name);
            }
            Source::Listener => self.accept(),
            Source::Log(pipe) => {
                if !pipe.read(&mut self.logs) {
                    self.sources.remove(&token);
                }
            }
            Source::MemoryPressure(_) => self.memory_stalled(),
            Source::Notify => self.read_notifications(),
            Source::Signals => self.read_signals(),
        }
    }

    fn read_signals(&mut self) {
        loop {
            match self.signals.next() {
                Ok(Some(Caught::Child)) => self.wait_for_children(),
                Ok(Some(Caught::Interrupt)) => {
                    self.shut_down(ShutdownKind::Reboot, "Ctrl-Alt-Del");
                }
                Ok(Some(Caught::Terminate)) => self.shut_down(ShutdownKind::PowerOff, "SIGTERM"),
                Ok(None) => return,
                Err(error) => {
                    self.say(Level::Error, &format!("cannot read signals: {error}"));
                    return;
                }
            }
        }
    }

    fn read_notifications(&mut self) {
        loop {
            let notification = match self.notify.next() {
                Ok(Some(notification)) => notification,
                Ok(None) => return,
                Err(error) => {
                    self.say(Level::Error, &format!("cannot read notifications: {error}"));
                    return;
                }
            };
            // Only from main processes: shims and their children have the variable as well.
            if let Some(Owner::Main(name)) = self.owners.get(&notification.pid).cloned() {
                for notice in notices(&notification.text) {
                    self.supervisor.notified(&name, notice, since_boot());
                }
            }
        }
    }
}
