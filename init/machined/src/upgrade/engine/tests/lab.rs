//! A node without hardware: a disk of files, a clock, a cluster that does what the test says.

use std::cell::{Cell, RefCell};
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use keelson_api::v1alpha1::{Check, UpgradePhase, UpgradeStatus};
use keelson_bootstate::layout::Partition;
use keelson_bootstate::{BootRecord, Decision, Slot, Tries, decide, plan};
use keelson_config::{CheckUrl, Datastore, Upgrade};
use keelson_control::{Level, LoaderFacts, StartReason};
use time::OffsetDateTime;
use tokio::task::{JoinHandle, LocalSet};
use tokio::time::{Instant, sleep, timeout};

use crate::api::events::Hub;
use crate::health_gate::{self, Sight};
use crate::upgrade::disk::Disk;
use crate::upgrade::drain::Drained;
use crate::upgrade::engine::{self, Files, Parts};
use crate::upgrade::handle::{Options, Refused, Request, Upgrades, channel};
use crate::upgrade::host::{Host, Settings};
use crate::upgrade::steps;
use crate::upgrade::system::tests::system;
use crate::upgrade::testing::{Faulty, Small, disk, taken_apart, trust};

/// Longer than anything here takes; time stands still while all wait.
const PATIENCE: Duration = Duration::from_secs(3600);

pub(super) struct Lab {
    folder: tempfile::TempDir,
    pub(super) disk: Arc<Faulty>,
    pub(super) old: Small,
    pub(super) new: Small,
    pub(super) world: Rc<World>,
    boots: Cell<u32>,
    running: Cell<Slot>,
    loader: RefCell<LoaderFacts>,
}

/// What the node does.
pub(super) struct World {
    pub(super) settings: RefCell<Settings>,
    /// What is wrong with it.
    pub(super) ill: RefCell<Option<&'static str>>,
    pub(super) restarts: Cell<u64>,
    pub(super) drained: RefCell<Drained>,
    pub(super) cordoned: Cell<bool>,
    pub(super) reboots: RefCell<Vec<String>>,
    pub(super) said: RefCell<Vec<String>>,
    booted: Cell<Instant>,
}

impl World {
    /// Since the last boot.
    pub(super) fn booted_for(&self) -> Duration {
        self.booted.get().elapsed()
    }
}

pub(super) struct LabHost(Rc<World>);

impl Host for LabHost {
    fn now(&self) -> OffsetDateTime {
        OffsetDateTime::from_unix_timestamp(1_790_000_000).unwrap() + self.since_boot()
    }

    fn since_boot(&self) -> Duration {
        self.0.booted.get().elapsed()
    }

    fn settings(&self) -> Settings {
        self.0.settings.borrow().clone()
    }

    async fn say(&self, _: Level, text: &str) {
        self.0.said.borrow_mut().push(text.to_owned());
    }

    async fn look(&self, cluster: bool, _: &[CheckUrl]) -> Sight {
        let ill = *self.0.ill.borrow();
        let check = |name: &str| Check {
            name: name.to_owned(),
            passed: ill != Some(name),
            reason: "of the test".to_owned(),
        };
        let mut checks = vec![
            check(health_gate::CONFIGURED),
            check(health_gate::SERVICES),
            check(health_gate::API),
        ];
        checks.extend(cluster.then(|| check(health_gate::CLUSTER)));
        Sight {
            checks,
            restarts: self.0.restarts.get(),
        }
    }

    async fn drain(&self, _: Duration, mut cordoned: impl FnMut()) -> Drained {
        sleep(Duration::from_secs(20)).await;
        let drained = self.0.drained.borrow().clone();
        if drained != Drained::Alone {
            cordoned();
            self.0.cordoned.set(true);
        }
        drained
    }

    async fn uncordon(&self) -> Result<(), String> {
        self.0.cordoned.set(false);
        Ok(())
    }

    async fn reboot(&self, reason: &str) -> Result<(), String> {
        self.0.reboots.borrow_mut().push(reason.to_owned());
        Ok(())
    }
}

/// The program, until it is killed.
pub(super) struct Runs {
    pub(super) upgrades: Upgrades,
    task: JoinHandle<()>,
}

impl Runs {
    /// As SIGKILL does, or a power cut.
    pub(super) async fn kill(self) {
        self.task.abort();
        let _ = self.task.await;
    }
}

/// Runs a test in a lab in which time passes only while all wait.
pub(super) fn in_lab(test: impl AsyncFnOnce(&Lab)) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .unwrap();
    LocalSet::new().block_on(&runtime, async {
        let lab = Lab::new();
        test(&lab).await;
    });
}

impl Lab {
    fn new() -> Self {
        let folder =
            tempfile::tempdir_in("/dev/shm").unwrap_or_else(|_| tempfile::tempdir().unwrap());
        let (old, new) = (Small::new("0.1.0"), Small::new("0.2.0"));
        let disk = Faulty::new(disk(folder.path(), &old));
        let settings = Settings {
            upgrade: Upgrade {
                write_limit: keelson_config::Size::from_bytes(1 << 40),
                ..Upgrade::default()
            },
            datastore: Datastore::Etcd,
            configured: true,
        };
        Self {
            disk,
            old,
            new,
            world: Rc::new(World {
                settings: RefCell::new(settings),
                ill: RefCell::default(),
                restarts: Cell::default(),
                drained: RefCell::new(Drained::Alone),
                cordoned: Cell::default(),
                reboots: RefCell::default(),
                said: RefCell::default(),
                booted: Cell::new(Instant::now()),
            }),
            boots: Cell::new(1),
            running: Cell::new(Slot::A),
            loader: RefCell::default(),
            folder,
        }
    }

    fn files(&self) -> Files {
        let folder = self.folder.path().join("upgrade");
        Files {
            memory: folder.join("memory.json"),
            cordon: folder.join("cordoned"),
            state: self.folder.path().to_owned(),
        }
    }

    pub(super) fn cordon_mark(&self) -> PathBuf {
        self.files().cordon
    }

    pub(super) fn memory_file(&self) -> PathBuf {
        self.files().memory
    }

    /// What the loader says from now on, for it skips a slot.
    pub(super) fn loader_skips(&self, report: &str) {
        *self.loader.borrow_mut() = LoaderFacts {
            why: Some(StartReason::Other),
            report: vec![report.to_owned()],
            ..LoaderFacts::default()
        };
    }

    /// Starts the program.
    pub(super) fn start(&self) -> Runs {
        let (upgrades, inbox) = channel();
        let version = match self.header(self.running.get()) {
            Some(version) => version,
            None => "0.1.0".to_owned(),
        };
        let parts = Parts {
            host: LabHost(Rc::clone(&self.world)),
            disk: self.disk.clone(),
            grub: true,
            trust: Ok(trust()),
            system: system(&version),
            boot_id: format!("boot-{}", self.boots.get()),
            running: self.running.get(),
            loader: self.loader.borrow().clone(),
            files: self.files(),
            events: Hub::default(),
            inbox,
        };
        Runs {
            upgrades,
            task: tokio::task::spawn_local(engine::run(parts)),
        }
    }

    fn header(&self, slot: Slot) -> Option<String> {
        let (_, header) = steps::page(&*self.disk, slot).unwrap();
        Some(header.ok()?.version().as_str().to_owned())
    }

    pub(super) fn record(&self) -> BootRecord {
        *steps::stored(&*self.disk).unwrap().record()
    }

    /// What the loader does: counts a try, skips what is not there.
    pub(super) fn boot(&self) -> Slot {
        let record = steps::stored(&*self.disk)
            .ok()
            .map(|stored| *stored.record());
        let tries = steps::efi_tries(&*self.disk).unwrap();
        let decision = decide(record.as_ref(), tries);
        if let Decision::Trial { tries, .. } = decision {
            self.disk
                .write(Partition::Tries, &tries.encode(), 0)
                .unwrap();
        }
        let slot = decision
            .order()
            .into_iter()
            .find(|slot| self.header(*slot).is_some())
            .unwrap();
        self.running.set(slot);
        self.boots.set(self.boots.get() + 1);
        self.world.booted.set(Instant::now());
        slot
    }

    pub(super) fn used_tries(&self) -> Tries {
        steps::efi_tries(&*self.disk).unwrap()
    }

    /// The record as another program would leave it.
    pub(super) fn put_record(&self, change: impl FnOnce(&plan::Stored) -> Vec<plan::Step>) {
        let stored = steps::stored(&*self.disk).unwrap();
        steps::execute(&*self.disk, change(&stored).into_iter()).unwrap();
    }

    pub(super) async fn begin(
        &self,
        runs: &Runs,
        bundle: &[u8],
        options: Options,
    ) -> Result<UpgradeStatus, Refused> {
        let (head, _, _) = taken_apart(bundle);
        runs.upgrades
            .ask(|answer| Request::Begin {
                head,
                options,
                answer,
            })
            .await
    }

    pub(super) async fn status(&self, runs: &Runs) -> UpgradeStatus {
        runs.upgrades
            .ask(|answer| Request::Status { answer })
            .await
            .unwrap()
    }

    /// Sends what is wanted, up to a block.
    pub(super) async fn send_until(
        &self,
        runs: &Runs,
        bundle: &[u8],
        last: usize,
    ) -> UpgradeStatus {
        let (_, _, blocks) = taken_apart(bundle);
        loop {
            let status = self.status(runs).await;
            if status.phase() == UpgradePhase::Checking {
                // A thread works, which does not stop the clock of the test.
                std::thread::sleep(Duration::from_millis(1));
                continue;
            }
            let block = usize::try_from(status.wants_block).unwrap();
            if status.phase() != UpgradePhase::Receiving
                || block >= last
                || status.bytes_done == status.bytes_total
            {
                return status;
            }
            let offset = usize::try_from(status.wants_offset).unwrap();
            let piece: Vec<u8> = blocks[block][offset..]
                .iter()
                .copied()
                .take(30_000)
                .collect();
            let sent = runs.upgrades.send(
                &status.upgrade,
                status.wants_block,
                status.wants_offset,
                piece,
            );
            if let Err(refused) = sent.await {
                // The thread may have ended meanwhile.
                let status = self.status(runs).await;
                assert_ne!(status.phase(), UpgradePhase::Receiving, "{refused}");
                return status;
            }
        }
    }

    /// Waits until it is in this phase.
    pub(super) async fn until(&self, runs: &Runs, phase: UpgradePhase) -> UpgradeStatus {
        let reached = async {
            loop {
                let status = self.status(runs).await;
                if status.phase() == phase {
                    return status;
                }
                std::thread::sleep(Duration::from_millis(1));
                sleep(Duration::from_millis(500)).await;
            }
        };
        match timeout(PATIENCE, reached).await {
            Ok(status) => status,
            Err(_) => panic!(
                "never {phase:?}: {:?} {:?}",
                self.status(runs).await,
                self.world.said.borrow()
            ),
        }
    }

    /// From a bundle to the reboot into it.
    pub(super) async fn upgrade(&self, runs: &Runs, bundle: &[u8]) {
        self.begin(runs, bundle, Options::default()).await.unwrap();
        self.send_until(runs, bundle, usize::MAX).await;
        self.until(runs, UpgradePhase::Rebooting).await;
    }
}
