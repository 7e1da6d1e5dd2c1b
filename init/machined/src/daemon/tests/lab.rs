//! A PID 1, a netd and a machine of the test's own, in a folder instead of `/`.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use keelson_config::NodeConfig;
use keelson_control::{
    AsyncClient, Event, Reply, Request, ResourceLimits, ServiceDetail, ServiceState, ServiceStatus,
    Status, chain, decode, encode,
};
use time::OffsetDateTime;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::unix::OwnedWriteHalf;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Notify, watch};
use tokio::task::{JoinHandle, LocalSet};
use tokio::time::{Instant, timeout};

use crate::api::events::Hub;
use crate::configuration::Firmware;
use crate::configuration::programs::Programs;
use crate::daemon::{self, Handle, Machine, Parts, channel};
use crate::facts::Facts;
use crate::paths::Paths;

/// The address that DHCP gives in the lab.
pub(super) const LEASE: &str = "192.0.2.7";

/// A static address in the configuration that leads nowhere.
pub(super) const NOWHERE: &str = "203.0.113.99";

/// What PID 1 and netd know.
#[derive(Default)]
pub(super) struct World {
    pub(super) facts: Facts,
    pub(super) conditions: Vec<String>,
    pub(super) messages: Vec<String>,
    /// In the order in which they were asked for.
    pub(super) restarts: Vec<String>,
    pub(super) limits: BTreeMap<String, ResourceLimits>,
    /// Running services with the command line they were started with.
    pub(super) services: BTreeMap<String, Vec<String>>,
    /// The settings netd was started with.
    netd: Option<NodeConfig>,
    /// It reports the network once after each start.
    netd_has_reported: bool,
    /// Requests that are still answered.
    pub(super) answers_left: Option<usize>,
    /// Whether the one that is not answered is carried out.
    pub(super) last_is_done: bool,
    pub(super) cut: bool,
}

impl World {
    pub(super) fn has(&self, condition: &str) -> bool {
        self.conditions.iter().any(|known| known == condition)
    }

    pub(super) fn clear(&mut self, condition: &str) {
        self.conditions.retain(|known| known != condition);
    }

    fn raise(&mut self, condition: &str) {
        if !self.has(condition) {
            self.conditions.push(condition.to_owned());
        }
    }

    /// The network that netd was started with.
    pub(super) fn network_in_force(&self) -> Option<&keelson_config::Network> {
        self.netd.as_ref().map(|config| &config.network)
    }
}

/// The machine.
pub(super) struct LabMachine {
    pub(super) now: Cell<OffsetDateTime>,
    begun: Instant,
    pub(super) addresses: RefCell<BTreeSet<IpAddr>>,
    pub(super) news: Notify,
    pub(super) host_name: RefCell<String>,
}

impl Machine for Rc<LabMachine> {
    fn now(&self) -> OffsetDateTime {
        self.now.get()
    }

    fn since_boot(&self) -> Duration {
        self.begun.elapsed()
    }

    fn addresses(&self) -> BTreeSet<IpAddr> {
        self.addresses.borrow().clone()
    }

    fn set_host_name(&self, name: &str) -> std::io::Result<()> {
        name.clone_into(&mut self.host_name.borrow_mut());
        Ok(())
    }

    async fn news(&self) {
        self.news.notified().await;
    }
}

/// The firmware partition.
#[derive(Default)]
pub(super) struct Fat(pub(super) RefCell<Option<String>>);

impl Firmware for Fat {
    fn read(&self, limit: usize) -> Result<Option<Vec<u8>>, Box<dyn std::error::Error>> {
        let content = self.0.borrow();
        Ok(content
            .as_ref()
            .map(|text| text.bytes().take(limit).collect()))
    }
}

pub(super) struct Lab {
    pub(super) root: tempfile::TempDir,
    pub(super) world: Rc<RefCell<World>>,
    pub(super) machine: Rc<LabMachine>,
    pub(super) firmware: &'static Fat,
    pub(super) programs: Rc<Programs>,
    news: Rc<Notify>,
}

/// A daemon that runs in the lab.
pub(super) struct Runs {
    pub(super) handle: Handle,
    pub(super) kubeconfig: watch::Receiver<Option<String>>,
    task: JoinHandle<String>,
}

impl Runs {
    /// As SIGKILL does.
    pub(super) async fn kill(self) {
        self.task.abort();
        let _ = self.task.await;
    }

    /// Why it ended.
    pub(super) async fn end(self) -> String {
        timeout(PATIENCE, self.task).await.unwrap().unwrap()
    }
}

/// Time stands still but for those who wait, so this is soon over when nothing happens any more.
const PATIENCE: Duration = Duration::from_secs(600);

/// Runs a test in a lab in which time passes only while all wait.
pub(super) fn in_lab(firmware: Option<&str>, test: impl AsyncFnOnce(&Lab)) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .unwrap();
    LocalSet::new().block_on(&runtime, async {
        let lab = Lab::new(firmware);
        lab.start_pid1();
        test(&lab).await;
    });
}

/// The head of every configuration, and what follows.
pub(super) fn config(body: &str) -> String {
    format!("apiVersion: keelson.dev/v1alpha1\nkind: NodeConfig\n{body}")
}

impl Lab {
    fn new(firmware: Option<&str>) -> Self {
        // In memory, where it is: hundreds of labs are made, and a disk takes its time to sync.
        let root = tempfile::tempdir_in("/dev/shm")
            .or_else(|_| tempfile::tempdir())
            .unwrap();
        let share = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../rootfs/tree");
        let link = |from: &str| {
            let to = root.path().join(from);
            std::fs::create_dir_all(to.parent().unwrap()).unwrap();
            std::os::unix::fs::symlink(share.join(from), to).unwrap();
        };
        link("usr/share/keelson");
        for folder in ["run/keelson", "system/state", "var/lib", "etc"] {
            std::fs::create_dir_all(root.path().join(folder)).unwrap();
        }
        copy_accounts(&share, root.path());
        Self {
            root,
            world: Rc::default(),
            machine: Rc::new(LabMachine {
                now: Cell::new(OffsetDateTime::from_unix_timestamp(1_790_000_000).unwrap()),
                begun: Instant::now(),
                addresses: RefCell::default(),
                news: Notify::new(),
                host_name: RefCell::default(),
            }),
            programs: Rc::new(Programs::read(&share.join("usr/share/keelson/services")).unwrap()),
            firmware: Box::leak(Box::new(Fat(RefCell::new(firmware.map(str::to_owned))))),
            news: Rc::default(),
        }
    }

    pub(super) fn paths(&self) -> Paths {
        Paths::new(self.root.path())
    }

    pub(super) fn text(&self, path: &str) -> String {
        let path = self.root.path().join(path);
        std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }

    pub(super) fn exists(&self, path: &str) -> bool {
        self.root.path().join(path).exists()
    }

    /// Starts a daemon.
    pub(super) fn start(&self) -> Runs {
        let (handle, inbox) = channel();
        let parts = Parts::new(
            self.paths(),
            self.firmware,
            self.machine.clone(),
            inbox,
            Hub::default(),
        );
        let kubeconfig = parts.kubeconfig.subscribe();
        let socket = self.paths().control_socket();
        let task = tokio::task::spawn_local(async move {
            let mut control = AsyncClient::connect_to(&socket).await.unwrap();
            let Err(error) = daemon::run(parts, &mut control).await;
            chain(&error)
        });
        Runs {
            handle,
            kubeconfig,
            task,
        }
    }

    /// Starts a daemon and waits for a condition.
    pub(super) async fn start_until(&self, condition: &str) -> Runs {
        let runs = self.start();
        self.until(condition, |lab| lab.world.borrow().has(condition))
            .await;
        runs
    }

    /// Waits until something is so; panics when nothing happens any more and it is not.
    pub(super) async fn until(&self, what: &str, so: impl Fn(&Self) -> bool) {
        let reached = async {
            while !so(self) {
                // What happens without PID 1 is seen soon after.
                let _ = timeout(Duration::from_secs(1), self.news.notified()).await;
            }
        };
        if timeout(PATIENCE, reached).await.is_err() {
            let world = self.world.borrow();
            panic!(
                "never: {what}; conditions {:?}, messages {:#?}",
                world.conditions, world.messages
            );
        }
    }

    /// PID 1 answers everything again.
    pub(super) fn mend(&self) {
        let mut world = self.world.borrow_mut();
        world.answers_left = None;
        world.cut = false;
    }

    /// tmpfs and all processes go; disks stay.
    pub(super) fn reboot(&self) {
        *self.world.borrow_mut() = World::default();
        std::fs::remove_dir_all(self.root.path().join("run/keelson")).unwrap();
        std::fs::create_dir_all(self.root.path().join("run/keelson")).unwrap();
        self.start_pid1();
    }

    /// Starts what PID 1 would start by now, with the command lines of now.
    pub(super) fn start_services(&self) {
        let mut world = self.world.borrow_mut();
        world.services = self.programs.commands(&world.facts).into_iter().collect();
    }

    /// Starts PID 1 and a netd that finds an address as soon as it may look for one.
    fn start_pid1(&self) {
        let socket = self.paths().control_socket();
        let _ = std::fs::remove_file(&socket);
        let listener = UnixListener::bind(socket).unwrap();
        let pid1 = Pid1 {
            world: self.world.clone(),
            news: self.news.clone(),
            programs: self.programs.clone(),
            paths: self.paths(),
        };
        let netd = pid1.clone();
        tokio::task::spawn_local(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::task::spawn_local(pid1.clone().converse(stream));
            }
        });
        tokio::task::spawn_local(async move {
            loop {
                netd.find_address();
                netd.news.notified().await;
            }
        });
    }
}

/// The image's users, all being the one who runs the test.
fn copy_accounts(share: &Path, root: &Path) {
    let own = std::fs::metadata(root).unwrap();
    for file in ["passwd", "group"] {
        let text = std::fs::read_to_string(share.join("etc").join(file)).unwrap();
        let lines = text.lines().map(|line| {
            let mut fields: Vec<_> = line.split(':').map(str::to_owned).collect();
            if file == "passwd" {
                fields[2] = own.uid().to_string();
                fields[3] = own.gid().to_string();
            } else {
                fields[2] = own.gid().to_string();
            }
            fields.join(":") + "\n"
        });
        let text: String = lines.collect();
        std::fs::write(root.join("etc").join(file), text).unwrap();
    }
}

#[derive(Clone)]
struct Pid1 {
    world: Rc<RefCell<World>>,
    news: Rc<Notify>,
    programs: Rc<Programs>,
    paths: Paths,
}

impl Pid1 {
    /// Settings are read when netd starts, and the address found by them is reported once.
    fn find_address(&self) {
        let mut world = self.world.borrow_mut();
        if !world.has("network-config") || world.netd_has_reported {
            return;
        }
        world.netd_has_reported = true;
        let config = self.read_settings();
        let settings = world.netd.get_or_insert(config);
        let address = settings
            .network
            .interfaces
            .iter()
            .flat_map(|interface| &interface.addresses)
            .map(|address| address.address().to_string())
            .next()
            .unwrap_or_else(|| LEASE.to_owned());
        let address = if address == NOWHERE {
            "198.18.0.1".to_owned()
        } else {
            address
        };
        world.facts.insert("node-ip".to_owned(), address);
        world.raise("network");
        world.raise("time");
        self.news.notify_waiters();
    }

    fn read_settings(&self) -> NodeConfig {
        let text = std::fs::read(self.paths.node_config()).unwrap();
        NodeConfig::parse(text, "node-config.yaml").unwrap()
    }

    async fn converse(self, stream: UnixStream) {
        let (reader, mut writer) = stream.into_split();
        let mut lines = BufReader::new(reader).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            let request = decode::<Request>(line.as_bytes()).unwrap();
            if let Request::Subscribe = request {
                let ok = encode(&Reply::Ok).unwrap();
                writer.write_all(&ok).await.unwrap();
                return self.tell(&mut writer).await;
            }
            if !self.may_answer() {
                if self.world.borrow().last_is_done {
                    self.serve(request);
                }
                self.world.borrow_mut().cut = true;
                self.news.notify_waiters();
                return std::future::pending().await;
            }
            let reply = self.serve(request);
            self.news.notify_waiters();
            if writer.write_all(&encode(&reply).unwrap()).await.is_err() {
                return;
            }
        }
    }

    fn may_answer(&self) -> bool {
        match &mut self.world.borrow_mut().answers_left {
            None => true,
            Some(0) => false,
            Some(left) => {
                *left -= 1;
                true
            }
        }
    }

    fn serve(&self, request: Request) -> Reply {
        let mut world = self.world.borrow_mut();
        match request {
            Request::Set {
                facts,
                raise,
                clear,
            } => {
                world.facts.extend(facts);
                raise.iter().for_each(|condition| world.raise(condition));
                clear.iter().for_each(|condition| world.clear(condition));
            }
            Request::Message { text, .. } => world.messages.push(text),
            Request::Limit { services } => world.limits = services,
            Request::Restart { service } => {
                if service == "netd" {
                    world.netd = Some(self.read_settings());
                    world.netd_has_reported = false;
                } else {
                    let commands: BTreeMap<_, _> =
                        self.programs.commands(&world.facts).into_iter().collect();
                    if let Some(command) = commands.get(&service) {
                        world.services.insert(service.clone(), command.clone());
                    }
                }
                world.restarts.push(service);
            }
            Request::Describe { service } => {
                let command = world.services.get(&service).cloned().unwrap_or_default();
                return Reply::Service(Box::new(detail(&service, command)));
            }
            Request::Status => {
                let services = world.services.keys().map(|name| status(name)).collect();
                return Reply::Status(Box::new(Status {
                    facts: world.facts.clone(),
                    conditions: world.conditions.clone(),
                    services,
                    ..Status::default()
                }));
            }
            other => panic!("unexpected {other:?}"),
        }
        Reply::Ok
    }

    /// Events, as PID 1 sends them: what holds, then every change.
    async fn tell(&self, writer: &mut OwnedWriteHalf) {
        let mut told = BTreeSet::new();
        loop {
            let next = self.news.notified();
            let holds: BTreeSet<String> = self.world.borrow().conditions.iter().cloned().collect();
            for name in holds.symmetric_difference(&told) {
                let event = Event::Condition {
                    name: name.clone(),
                    raised: holds.contains(name),
                };
                if writer.write_all(&encode(&event).unwrap()).await.is_err() {
                    return;
                }
            }
            told = holds;
            next.await;
        }
    }
}

fn status(name: &str) -> ServiceStatus {
    ServiceStatus {
        name: name.to_owned(),
        state: ServiceState::Ready,
        since_ms: 0,
        pid: Some(1),
        restarts: 0,
        next_try_ms: None,
        waiting_for: Vec::new(),
        last_exit: None,
        last_lines: Vec::new(),
    }
}

fn detail(name: &str, command: Vec<String>) -> ServiceDetail {
    ServiceDetail {
        status: status(name),
        description: String::new(),
        command,
        user: String::new(),
        group: String::new(),
        needs_services: Vec::new(),
        needs_conditions: Vec::new(),
        only: BTreeMap::new(),
        readiness: String::new(),
        liveness: None,
        restart_policy: String::new(),
        oom_score_adj: 0,
        limits: ResourceLimits::default(),
        exits: Vec::new(),
    }
}
