//! A machine of the test's own, in a folder instead of `/`.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use keelson_control::{AsyncClient, chain};
use time::OffsetDateTime;
use tokio::sync::{Notify, watch};
use tokio::task::{JoinHandle, LocalSet};
use tokio::time::{Instant, timeout};

use super::pid1::{Pid1, World};
use crate::api::events::Hub;
use crate::configuration::Firmware;
use crate::configuration::programs::Programs;
use crate::daemon::{self, Handle, Machine, Parts, channel};
use crate::paths::Paths;

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
        let pid1 = Pid1 {
            world: self.world.clone(),
            news: self.news.clone(),
            programs: self.programs.clone(),
            paths: self.paths(),
        };
        pid1.start();
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
