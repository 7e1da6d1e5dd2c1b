//! PID 1 and netd, as far as the daemon sees them.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use keelson_config::NodeConfig;
use keelson_control::{
    Event, Reply, Request, ResourceLimits, ServiceDetail, ServiceState, ServiceStatus, Status,
    decode, encode,
};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::unix::OwnedWriteHalf;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Notify;

use crate::configuration::programs::Programs;
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
    /// Every condition that was raised (true) or cleared, in order.
    changes: Vec<(String, bool)>,
    /// On the console and in the kernel's log.
    pub(super) messages: Vec<String>,
    /// On the console only.
    pub(super) shown: Vec<String>,
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
        if self.has(condition) {
            self.conditions.retain(|known| known != condition);
            self.changes.push((condition.to_owned(), false));
        }
    }

    fn raise(&mut self, condition: &str) {
        if !self.has(condition) {
            self.conditions.push(condition.to_owned());
            self.changes.push((condition.to_owned(), true));
        }
    }

    /// The network that netd was started with.
    pub(super) fn network_in_force(&self) -> Option<&keelson_config::Network> {
        self.netd.as_ref().map(|config| &config.network)
    }
}

/// PID 1 and netd.
#[derive(Clone)]
pub(super) struct Pid1 {
    pub(super) world: Rc<RefCell<World>>,
    /// Whenever something happened.
    pub(super) news: Rc<Notify>,
    pub(super) programs: Rc<Programs>,
    pub(super) paths: Paths,
}

impl Pid1 {
    /// Starts both as tasks.
    pub(super) fn start(self) {
        let socket = self.paths.control_socket();
        let _ = std::fs::remove_file(&socket);
        let listener = UnixListener::bind(socket).unwrap();
        let netd = self.clone();
        tokio::task::spawn_local(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::task::spawn_local(self.clone().converse(stream));
            }
        });
        tokio::task::spawn_local(async move {
            loop {
                netd.find_address();
                netd.news.notified().await;
            }
        });
    }

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
            Request::Show { text } => world.shown.push(text),
            Request::Limit { services } => world.limits = services,
            Request::Restart { service, clear } => {
                clear.iter().for_each(|condition| world.clear(condition));
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
        let (mut changes, mut told) = {
            let world = self.world.borrow();
            let holds = world.conditions.iter().cloned();
            let holds: Vec<_> = holds.map(|name| (name, true)).collect();
            (holds, world.changes.len())
        };
        loop {
            let next = self.news.notified();
            for (name, raised) in changes {
                let event = Event::Condition { name, raised };
                if writer.write_all(&encode(&event).unwrap()).await.is_err() {
                    return;
                }
            }
            let all = self.world.borrow().changes.clone();
            changes = all.into_iter().skip(told).collect();
            told += changes.len();
            if changes.is_empty() {
                next.await;
            }
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
