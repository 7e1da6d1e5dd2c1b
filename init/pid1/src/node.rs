//! The event loop and everything it holds.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use keelson_control::{
    BootFacts, BootReport, CONTROL_SOCKET, Level, NOTIFY_SOCKET, Phase, ServiceState, ShutdownKind,
    chain,
};
use keelson_service::{Accounts, AccountsError, Name, ServiceDefinition};
use keelson_supervisor::{RunId, Supervisor, problems};
use keelson_sys::boot_clock::since_boot;
use keelson_sys::epoll::{Epoll, Interest, Readiness};
use keelson_sys::input::PowerButton;
use keelson_sys::notify_socket::NotifySocket;
use keelson_sys::signals::{Caught, SignalQueue};
use keelson_sys::spawn::ExecStatus;
use keelson_sys::watchdog::{Feed, Watchdog};
use thiserror::Error;

use crate::arguments::Arguments;
use crate::boot_report::millis;
use crate::cgroup::Tree;
use crate::clients::{Clients, Received};
use crate::console::Console;
use crate::logs::{LogPipe, Logs};
use crate::notify::notices;
use crate::process::Launcher;
use crate::{power, probe};

/// Where the sockets live.
const RUN_DIR: &str = "/run/keelson";

/// A third of the shortest countdown a watchdog has here: two feeds may be late.
const FEED_INTERVAL: Duration = Duration::from_secs(10);

/// How soon a console that took only a part is tried again.
const CONSOLE_RETRY: Duration = Duration::from_millis(20);

/// What a token of the event loop stands for.
#[derive(Debug)]
pub(crate) enum Source {
    Button(PowerButton),
    /// Notice that one of a service's `clearFirst` cgroups changed.
    Clear(Name, fs::File),
    Client,
    /// A connection attempt of a readiness check.
    Connect(Name, RunId, OwnedFd),
    /// Notice that a killed cgroup changed.
    Drain(Name, fs::File),
    Listener,
    Log(LogPipe),
    Notify,
    Signals,
}

/// A living main process.
#[derive(Debug)]
pub(crate) struct Main {
    pub(crate) run: RunId,
    pub(crate) pidfd: OwnedFd,
    pub(crate) exec_status: ExecStatus,
}

/// A living check.
#[derive(Debug)]
pub(crate) struct ProbeProcess {
    pub(crate) run: RunId,
    pub(crate) pid: u32,
    pub(crate) pidfd: OwnedFd,
}

/// Whose process a number is.
#[derive(Clone, Debug)]
pub(crate) enum Owner {
    Main(Name),
    Probe(Name),
}

/// PID 1.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) console: Console,
    watchdog: Option<Watchdog>,
    pub(crate) fed_at: Duration,
    pub(crate) epoll: Epoll,
    signals: SignalQueue,
    notify: NotifySocket,
    pub(crate) clients: Clients,
    pub(crate) supervisor: Supervisor,
    pub(crate) launcher: Launcher,
    pub(crate) tree: Option<Tree>,
    pub(crate) logs: Logs,
    pub(crate) log_folder: PathBuf,
    pub(crate) sources: BTreeMap<u64, Source>,
    next_token: u64,
    pub(crate) owners: BTreeMap<u32, Owner>,
    pub(crate) mains: BTreeMap<Name, Main>,
    pub(crate) probes: BTreeMap<Name, ProbeProcess>,
    pub(crate) phases: Vec<Phase>,
    pub(crate) report: Option<BootReport>,
    /// What was last told of each service: its state and since when.
    pub(crate) told: BTreeMap<Name, (ServiceState, u64)>,
    /// Services whose crash loop people were told of.
    pub(crate) crash_loops: BTreeSet<Name>,
    pub(crate) ending: Option<ShutdownKind>,
    pub(crate) complete: bool,
    pub(crate) namespace: bool,
}

/// Why PID 1 cannot begin.
#[derive(Debug, Error)]
pub(crate) enum NodeError {
    #[error("cannot read the accounts")]
    Accounts(#[source] AccountsError),
    #[error("cannot {what}")]
    Io {
        what: &'static str,
        source: io::Error,
    },
    #[error("cannot list the service definitions in {}", path.display())]
    Services { path: PathBuf, source: io::Error },
}

fn at(what: &'static str) -> impl FnOnce(io::Error) -> NodeError {
    move |source| NodeError::Io { what, source }
}

impl Node {
    /// Opens the sockets and reads the definitions.
    pub(crate) fn new(
        arguments: &Arguments,
        mut console: Console,
        watchdog: Option<Watchdog>,
        started_at: Duration,
    ) -> Result<Self, NodeError> {
        let mut definitions = Vec::new();
        for loaded in load_definitions(&arguments.services)? {
            match loaded {
                Ok(definition) => definitions.push(definition),
                // The others may still make a node that can be reached and repaired.
                Err(problem) => console.line(Level::Error, &problem),
            }
        }
        for problem in problems(&definitions) {
            console.line(Level::Error, &problem);
        }
        fs::create_dir_all(RUN_DIR).map_err(at("make /run/keelson"))?;
        let tree = Some(Tree::new(&arguments.cgroup_root))
            .filter(|_| !arguments.namespace || !arguments.cgroup_root.as_os_str().is_empty());
        if let (Some(tree), true) = (&tree, arguments.namespace) {
            tree.set_up().map_err(at("set up the cgroup tree"))?;
        }
        let accounts = Accounts::read(Path::new("/")).map_err(NodeError::Accounts)?;
        let mut node = Self {
            console,
            watchdog,
            fed_at: started_at,
            epoll: Epoll::open().map_err(at("open the event queue"))?,
            signals: SignalQueue::open().map_err(at("listen for signals"))?,
            notify: NotifySocket::bind(Path::new(NOTIFY_SOCKET))
                .and_then(|socket| open_to_all(NOTIFY_SOCKET).map(|()| socket))
                .map_err(at("bind the notify socket"))?,
            clients: Clients::listen(Path::new(CONTROL_SOCKET))
                .map_err(at("bind the control socket"))?,
            supervisor: Supervisor::new(definitions, started_at.subsec_nanos()),
            launcher: Launcher::new(accounts, tree.clone()).map_err(at("open /dev/null"))?,
            tree,
            logs: Logs::default(),
            log_folder: arguments.logs.clone(),
            sources: BTreeMap::new(),
            next_token: 0,
            owners: BTreeMap::new(),
            mains: BTreeMap::new(),
            probes: BTreeMap::new(),
            phases: Vec::new(),
            report: None,
            told: BTreeMap::new(),
            crash_loops: BTreeSet::new(),
            ending: None,
            complete: false,
            namespace: arguments.namespace,
        };
        node.stamp_earlier_phases(started_at);
        node.listen().map_err(at("add to the event queue"))?;
        Ok(node)
    }

    /// Runs until the machine ends.
    pub(crate) fn run(mut self) -> ExitCode {
        self.supervisor.begin(since_boot());
        self.execute_all();
        while !self.complete {
            let timeout = self.timeout();
            match self.epoll.wait(timeout) {
                Ok(ready) => {
                    for event in ready {
                        self.handle(event);
                        self.execute_all();
                    }
                }
                Err(error) => {
                    // Not seen in practice; without a pause it would fill the console.
                    self.say(Level::Error, &format!("waiting for events failed: {error}"));
                    std::thread::sleep(CONSOLE_RETRY);
                }
            }
            self.supervisor.tick(since_boot());
            self.execute_all();
            self.feed_watchdog();
        }
        self.finish()
    }

    pub(crate) fn say(&mut self, level: Level, text: &str) {
        self.console.line(level, text);
    }

    /// Puts a source that owns its descriptor into the event loop.
    pub(crate) fn watch(&mut self, source: Source, interest: Interest) -> io::Result<()> {
        let token = self.next_token;
        let descriptor = match &source {
            Source::Button(button) => button.as_fd(),
            Source::Clear(_, file) | Source::Drain(_, file) => file.as_fd(),
            Source::Connect(_, _, socket) => socket.as_fd(),
            Source::Log(pipe) => pipe.as_fd(),
            Source::Listener => self.clients.listener(),
            Source::Notify => self.notify.as_fd(),
            Source::Signals => self.signals.as_fd(),
            // Added where it is accepted.
            Source::Client => return Ok(()),
        };
        self.epoll.add(descriptor, token, interest)?;
        self.next_token += 1;
        self.sources.insert(token, source);
        Ok(())
    }

    /// Takes a source out; dropping its descriptor ends its events.
    pub(crate) fn unwatch(&mut self, matches: impl Fn(&Source) -> bool) {
        self.sources.retain(|_, source| !matches(source));
    }

    /// Begins the end of the machine, or hurries it.
    pub(crate) fn shut_down(&mut self, kind: ShutdownKind, reason: &str) {
        let text = match (self.ending, kind) {
            (Some(_), _) => format!("asked again ({reason}), hurrying"),
            (None, ShutdownKind::Halt) => format!("halting: {reason}"),
            (None, ShutdownKind::PowerOff) => format!("powering off: {reason}"),
            (None, ShutdownKind::Reboot) => format!("rebooting: {reason}"),
        };
        self.say(Level::Info, &text);
        let kind = *self.ending.get_or_insert(kind);
        self.publish(&keelson_control::Event::Shutdown {
            kind,
            reason: reason.to_owned(),
        });
        self.supervisor.shut_down(since_boot());
    }

    fn stamp_earlier_phases(&mut self, started_at: Duration) {
        if let Ok(facts) = BootFacts::read() {
            self.phases = facts.phases;
        } else if !self.namespace {
            self.say(Level::Warn, "stage 1 left no readable boot facts");
        }
        self.phases.push(Phase {
            name: "stage2".to_owned(),
            at_ms: millis(started_at),
        });
    }

    fn listen(&mut self) -> io::Result<()> {
        for source in [Source::Signals, Source::Notify, Source::Listener] {
            self.watch(source, Interest::Read)?;
        }
        if !self.namespace {
            for button in power::buttons() {
                self.watch(Source::Button(button), Interest::Read)?;
            }
        }
        Ok(())
    }

    fn timeout(&mut self) -> Option<Duration> {
        if self.console.flush() {
            return Some(CONSOLE_RETRY);
        }
        let now = since_boot();
        let feed = self.watchdog.as_ref().map(|_| self.fed_at + FEED_INTERVAL);
        let next = [self.supervisor.next_deadline(), feed]
            .into_iter()
            .flatten()
            .min()?;
        Some(next.saturating_sub(now))
    }

    fn handle(&mut self, event: Readiness) {
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
            Source::Notify => self.read_notifications(),
            Source::Signals => self.read_signals(),
        }
    }

    fn read_signals(&mut self) {
        loop {
            match self.signals.next() {
                Ok(Some(Caught::Child)) => self.reap_all(),
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

    fn accept(&mut self) {
        loop {
            let token = self.next_token;
            match self.clients.accept(token) {
                Ok(None) => return,
                Ok(Some(stream)) => {
                    if self.epoll.add(stream, token, Interest::Read).is_ok() {
                        self.next_token += 1;
                        self.sources.insert(token, Source::Client);
                    } else {
                        self.clients.close(token);
                    }
                }
                Err(error) => {
                    self.say(
                        Level::Error,
                        &format!("cannot accept a connection: {error}"),
                    );
                    return;
                }
            }
        }
    }

    fn client_ready(&mut self, token: u64, event: Readiness) {
        if event.writable && !self.clients.flush(token) {
            self.close_client(token);
            return;
        }
        if event.readable {
            match self.clients.receive(token) {
                Received::Closed => {
                    self.close_client(token);
                    return;
                }
                Received::Lines(lines) => {
                    for line in lines {
                        self.answer(token, &line);
                    }
                }
            }
        }
        self.adjust_interest(token);
    }

    /// Waits for room to write only while something is to be written.
    pub(crate) fn adjust_interest(&mut self, token: u64) {
        let interest = if self.clients.wants_to_write(token) {
            Interest::ReadWrite
        } else {
            Interest::Read
        };
        if let Some(stream) = self.clients.stream(token) {
            // Fails only for a descriptor that is not in the queue, and this one is.
            let _ = self.epoll.modify(stream, token, interest);
        }
    }

    pub(crate) fn close_client(&mut self, token: u64) {
        self.clients.close(token);
        self.sources.remove(&token);
    }

    pub(crate) fn feed_watchdog(&mut self) {
        let now = since_boot();
        let Some(watchdog) = &mut self.watchdog else {
            return;
        };
        if now < self.fed_at + FEED_INTERVAL {
            return;
        }
        self.fed_at = now;
        if let Err(error) = watchdog.feed() {
            self.say(Level::Error, &format!("cannot feed the watchdog: {error}"));
        }
    }
}

/// Any process may send; who is listened to is decided by the sender's identity.
fn open_to_all(path: &str) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(0o666))
}

fn load_definitions(folder: &Path) -> Result<Vec<Result<ServiceDefinition, String>>, NodeError> {
    let error = |source| NodeError::Services {
        path: folder.to_owned(),
        source,
    };
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).map_err(error)? {
        names.push(entry.map_err(error)?.file_name());
    }
    names.sort();
    Ok(names
        .iter()
        .filter_map(|name| name.to_str())
        .filter(|name| name.ends_with(".yaml"))
        .map(|name| {
            let text = fs::read_to_string(folder.join(name))
                .map_err(|error| format!("cannot read service definition {name}: {error}"))?;
            keelson_service::parse(name, &text).map_err(|error| chain(&error))
        })
        .collect())
}
