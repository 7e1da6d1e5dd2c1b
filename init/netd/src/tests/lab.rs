//! A pair of network namespaces: one for the daemon, one for the other end of its cable.

use std::fs::{self, File};
use std::future::Future;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::Command;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use keelson_control::Level;
use nix::sched::{CloneFlags, setns, unshare};
use tempfile::TempDir;
use tokio::sync::mpsc::Receiver;
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use crate::clock::TimeSources;
use crate::daemon::{Daemon, Parts};
use crate::netlink::{Monitor, RouterOptions, Rtnetlink};
use crate::outbox::{Letter, Outbox};
use crate::progress::{ADDRESS_DEADLINE, Progress};
use crate::settings::Settings;

/// Generous: two other compilers may be running.
const PATIENCE: Duration = Duration::from_secs(60);

/// Runs a test on a thread of its own, in a fresh network namespace.
pub(super) fn run_in_namespace(test: impl Future<Output = ()> + Send + 'static) {
    let thread = thread::spawn(|| {
        if unshare(CloneFlags::CLONE_NEWNET).is_err() {
            eprintln!("skipped: making a network namespace needs root");
            return;
        }
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            tokio::time::timeout(PATIENCE, test)
                .await
                .expect("the test hangs")
        });
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

/// The other end's namespace.
#[derive(Clone)]
pub(super) struct Peer {
    namespace: PathBuf,
}

impl Peer {
    /// Runs `work` on a thread inside the namespace.
    pub(super) fn spawn<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> thread::JoinHandle<T> {
        let namespace = File::open(&self.namespace).unwrap();
        thread::spawn(move || {
            setns(namespace.as_fd(), CloneFlags::CLONE_NEWNET).unwrap();
            work()
        })
    }
}

/// The daemon's surroundings.
pub(super) struct Lab {
    peer: Peer,
    /// Ends the thread that keeps the other namespace alive.
    _keep: mpsc::Sender<()>,
    folder: TempDir,
    started: Instant,
    daemon: Option<AbortHandle>,
    letters: Option<Receiver<Letter>>,
    _watch: Option<watch::Receiver<TimeSources>>,
}

impl Lab {
    pub(super) async fn new() -> Self {
        let (tell, told) = mpsc::channel();
        let (keep, end) = mpsc::channel::<()>();
        thread::spawn(move || {
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            tell.send(nix::unistd::gettid()).unwrap();
            let _ = end.recv();
        });
        let tid = told.recv().unwrap();
        let peer = Peer {
            namespace: format!("/proc/{}/task/{tid}/ns/net", std::process::id()).into(),
        };
        let lab = Self {
            peer,
            _keep: keep,
            folder: tempfile::tempdir().unwrap(),
            started: Instant::now(),
            daemon: None,
            letters: None,
            _watch: None,
        };
        lab.ip(&format!(
            "link add uplink type veth peer name uplink-peer netns {tid}"
        ));
        lab.peer_ip("addr add 10.9.0.1/24 dev uplink-peer");
        lab.plug_in();
        lab
    }

    /// Gives the cable a carrier, and the server a way to send broadcasts.
    pub(super) fn plug_in(&self) {
        self.peer_ip("link set dev uplink-peer up");
        self.peer_ip("route add default dev uplink-peer");
    }

    pub(super) fn peer(&self) -> Peer {
        self.peer.clone()
    }

    /// Starts the daemon with this `network:` part of a configuration.
    pub(super) fn start(&mut self, network: &str) {
        self.launch(network, ADDRESS_DEADLINE);
    }

    /// The same, but it waits for an address no longer than a test should.
    pub(super) fn start_impatiently(&mut self, network: &str) {
        self.launch(network, Duration::from_secs(3));
    }

    fn launch(&mut self, network: &str, deadline: Duration) {
        let text = format!(
            "apiVersion: keelson.dev/v1alpha1\nkind: NodeConfig\nhostname: lab\nnetwork:{network}"
        );
        let config = keelson_config::NodeConfig::parse(text, "lab").unwrap();
        let (outbox, letters) = Outbox::new();
        let (sources, watch) = watch::channel(TimeSources::Undecided);
        let daemon = Daemon::new(Parts {
            settings: Settings::new(&config),
            monitor: Monitor::open().unwrap(),
            router_options: RouterOptions::open().unwrap(),
            kernel: Rtnetlink::open().unwrap(),
            outbox,
            sources,
            resolv_conf: self.resolv_path(),
            progress: Progress::new(None, deadline),
        });
        self.started = Instant::now();
        self.letters = Some(letters);
        self._watch = Some(watch);
        let running = tokio::spawn(async { daemon.run().await.unwrap() });
        self.daemon = Some(running.abort_handle());
    }

    /// As SIGKILL does.
    pub(super) fn kill(&mut self) {
        if let Some(daemon) = self.daemon.take() {
            daemon.abort();
        }
    }

    /// Reads what the daemon tells PID 1 until `wanted` finds something.
    pub(super) async fn wait_for<T>(&mut self, wanted: impl Fn(&Letter) -> Option<T>) -> T {
        let letters = self.letters.as_mut().expect("the daemon was started");
        loop {
            let letter = letters.recv().await.expect("the daemon lives");
            if let Some(found) = wanted(&letter) {
                return found;
            }
        }
    }

    /// Waits for the next message of this weight.
    pub(super) async fn told(&mut self, wanted: Level) -> String {
        self.wait_for(|letter| match letter {
            Letter::Message { level, text } if *level == wanted => Some(text.clone()),
            _ => None,
        })
        .await
    }

    /// Waits until something holds; the whole test has the deadline.
    pub(super) async fn until(&self, holds: impl Fn(&Self) -> bool) {
        while !holds(self) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    pub(super) fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    pub(super) fn resolv_conf(&self) -> String {
        fs::read_to_string(self.resolv_path()).unwrap_or_default()
    }

    pub(super) fn accept_ra(&self, link: &str) -> String {
        fs::read_to_string(format!("/proc/sys/net/ipv6/conf/{link}/accept_ra"))
            .unwrap()
            .trim()
            .to_owned()
    }

    /// Runs `ip` in the daemon's namespace: a child belongs to its thread's.
    pub(super) fn ip(&self, arguments: &str) -> String {
        ip(arguments)
    }

    pub(super) fn peer_ip(&self, arguments: &str) -> String {
        let arguments = arguments.to_owned();
        self.peer.spawn(move || ip(&arguments)).join().unwrap()
    }

    fn resolv_path(&self) -> PathBuf {
        self.folder.path().join("resolv.conf")
    }
}

fn ip(arguments: &str) -> String {
    let output = Command::new("ip")
        .args(arguments.split_whitespace())
        .output()
        .expect("the program ip");
    String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap()
}
