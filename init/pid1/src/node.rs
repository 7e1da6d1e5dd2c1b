//! The event loop and everything it holds.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::thread::JoinHandle;
use std::time::Duration;

use keelson_control::{
    BootFacts, BootReport, CONTROL_SOCKET, Level, NOTIFY_SOCKET, Phase, ResourceLimits,
    ServiceState, ShutdownKind,
};
use keelson_service::{Accounts, AccountsError, Name};
use keelson_supervisor::{RunId, Supervisor, problems};
use keelson_sys::boot_clock::since_boot;
use keelson_sys::epoll::{Epoll, Interest};
use keelson_sys::input::PowerButton;
use keelson_sys::notify_socket::NotifySocket;
use keelson_sys::signals::SignalQueue;
use keelson_sys::spawn::ExecStatus;
use keelson_sys::watchdog::{Feed, Watchdog};
use thiserror::Error;

use crate::arguments::Arguments;
use crate::boot_report::millis;
use crate::cgroup::Tree;
use crate::clients::Clients;
use crate::console::Console;
use crate::history::History;
use crate::logs::{LogPipe, Logs};
use crate::pressure::{self, Gauge};
use crate::process::Launcher;
use crate::{definitions, power};

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
    /// The kernel's notice that everything waits for memory.
    MemoryPressure(fs::File),
    Notify,
    Signals,
}

/// A living main process.
#[derive(Debug)]
pub(crate) struct Main {
    pub(crate) run: RunId,
    pub(crate) pidfd: OwnedFd,
    pub(crate) exec_status: ExecStatus,
    /// Program and arguments.
    pub(crate) command: Vec<String>,
    /// Count of its cgroup when it was started.
    pub(crate) memory_kills: u64,
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
    pub(crate) signals: SignalQueue,
    pub(crate) notify: NotifySocket,
    pub(crate) clients: Clients,
    pub(crate) supervisor: Supervisor,
    pub(crate) launcher: Launcher,
    pub(crate) tree: Option<Tree>,
    pub(crate) logs: Logs,
    pub(crate) history: History,
    /// Limits that do not come from definitions, by service.
    pub(crate) limits: BTreeMap<String, ResourceLimits>,
    pub(crate) limit_writer: Option<JoinHandle<()>>,
    pub(crate) log_folder: PathBuf,
    pub(crate) sources: BTreeMap<u64, Source>,
    pub(crate) next_token: u64,
    pub(crate) owners: BTreeMap<u32, Owner>,
    pub(crate) mains: BTreeMap<Name, Main>,
    pub(crate) probes: BTreeMap<Name, ProbeProcess>,
    pub(crate) phases: Vec<Phase>,
    pub(crate) report: Option<BootReport>,
    /// What was last told of each service: its state and since when.
    pub(crate) told: BTreeMap<Name, (ServiceState, u64)>,
    /// Services whose crash loop people were told of.
    pub(crate) crash_loops: BTreeSet<Name>,
    gauge: Gauge,
    /// Until then no further pod is ended for memory.
    pub(crate) memory_quiet_until: Duration,
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
        for loaded in definitions::load(&arguments.services)? {
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
            history: History::default(),
            limits: BTreeMap::new(),
            limit_writer: None,
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
            gauge: Gauge::default(),
            memory_quiet_until: Duration::ZERO,
            ending: None,
            complete: false,
            namespace: arguments.namespace,
        };
        node.stamp_earlier_phases(started_at);
        node.listen().map_err(at("add to the event queue"))?;
        node.watch_memory();
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
            self.tick();
            self.feed_watchdog();
        }
        self.finish()
    }

    /// Does what is due. Whether something is late, or the whole machine, is asked for first.
    fn tick(&mut self) {
        let now = since_boot();
        if self
            .supervisor
            .next_deadline()
            .is_some_and(|due| due <= now)
        {
            let stalled = self.gauge.stalled(Path::new(pressure::FOLDER), now);
            self.supervisor.set_stalled(stalled);
            self.supervisor.tick(now);
        }
        self.execute_all();
    }

    pub(crate) fn say(&mut self, level: Level, text: &str) {
        self.console.line(level, text);
    }

    /// Puts a source that owns its descriptor into the event loop.
    pub(crate) fn watch(&mut self, source: Source, interest: Interest) -> io::Result<()> {
        let token = self.next_token;
        let descriptor = match &source {
            Source::Button(button) => button.as_fd(),
            Source::Clear(_, file) | Source::Drain(_, file) | Source::MemoryPressure(file) => {
                file.as_fd()
            }
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
