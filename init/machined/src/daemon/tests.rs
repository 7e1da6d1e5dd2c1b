//! The daemon against a PID 1 and a netd of the test's own, in a folder instead of `/`.

use std::cell::RefCell;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Instant;

use keelson_control::{Reply, Request, Status, decode, encode};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Notify;
use tokio::task::LocalSet;

use super::*;

/// What PID 1 knows.
#[derive(Default)]
struct World {
    facts: Facts,
    conditions: Vec<String>,
    messages: Vec<String>,
    netd_restarts: usize,
}

struct Lab {
    root: tempfile::TempDir,
    world: Rc<RefCell<World>>,
    news: Rc<Notify>,
    firmware: RefCell<Option<String>>,
}

impl Firmware for Lab {
    fn read(&self, limit: usize) -> Result<Option<Vec<u8>>, Box<dyn std::error::Error>> {
        let content = self.firmware.borrow();
        Ok(content
            .as_ref()
            .map(|text| text.bytes().take(limit).collect()))
    }
}

impl Lab {
    fn new(firmware: Option<&str>) -> Self {
        let root = tempfile::tempdir().unwrap();
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
        // The image's users, all being the one who runs the test.
        let own = std::fs::metadata(root.path()).unwrap();
        for (file, field) in [("passwd", 2), ("group", 2)] {
            let text = std::fs::read_to_string(share.join("etc").join(file)).unwrap();
            let lines = text.lines().map(|line| {
                let mut fields: Vec<_> = line.split(':').map(str::to_owned).collect();
                fields[field] = if file == "passwd" {
                    own.uid()
                } else {
                    own.gid()
                }
                .to_string();
                if file == "passwd" {
                    fields[3] = own.gid().to_string();
                }
                fields.join(":") + "\n"
            });
            let text: String = lines.collect();
            std::fs::write(root.path().join("etc").join(file), text).unwrap();
        }
        Self {
            root,
            world: Rc::default(),
            news: Rc::default(),
            firmware: RefCell::new(firmware.map(str::to_owned)),
        }
    }

    fn paths(&self) -> Paths {
        Paths::new(self.root.path())
    }

    fn text(&self, path: &str) -> String {
        let path = self.root.path().join(path);
        std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }

    /// Starts PID 1 and a netd that finds an address as soon as it may look for one.
    fn start_pid1(&self) {
        let socket = self.paths().control_socket();
        let _ = std::fs::remove_file(&socket);
        let listener = UnixListener::bind(socket).unwrap();
        let (world, news) = (self.world.clone(), self.news.clone());
        tokio::task::spawn_local(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                tokio::task::spawn_local(converse(stream, world.clone(), news.clone()));
            }
        });
        let (world, news) = (self.world.clone(), self.news.clone());
        tokio::task::spawn_local(async move {
            loop {
                {
                    let mut world = world.borrow_mut();
                    let address = world.facts.get("node-ip").is_none_or(String::is_empty);
                    if world.has("network-config") && address {
                        world
                            .facts
                            .insert("node-ip".to_owned(), "192.0.2.7".to_owned());
                        world.raise("network");
                        world.raise("time");
                        news.notify_waiters();
                    }
                }
                news.notified().await;
            }
        });
    }

    /// Runs the daemon until the condition holds.
    async fn run_until(&self, condition: &str) -> watch::Receiver<Option<String>> {
        let (sender, receiver) = watch::channel(None);
        let start = Instant::now();
        tokio::select! {
            error = self.run_until_it_fails(sender) => panic!("{error}"),
            () = self.until(condition) => {}
        }
        assert!(start.elapsed() < Duration::from_secs(60));
        receiver
    }

    async fn run_until_it_fails(&self, kubeconfig: watch::Sender<Option<String>>) -> String {
        let mut daemon = Daemon::new(self.paths(), self, kubeconfig);
        daemon.host_name = HostName::Leave;
        daemon.maintenance_interval = Duration::from_millis(20);
        let mut control = AsyncClient::connect_to(&self.paths().control_socket())
            .await
            .unwrap();
        chain(&daemon.run(&mut control).await.unwrap_err())
    }

    async fn until(&self, condition: &str) {
        let reached = async {
            loop {
                let news = self.news.notified();
                if self.world.borrow().has(condition) {
                    break;
                }
                news.await;
            }
        };
        timeout(Duration::from_secs(60), reached)
            .await
            .unwrap_or_else(|_| panic!("{condition} was not raised"));
    }
}

impl World {
    fn has(&self, condition: &str) -> bool {
        self.conditions.iter().any(|known| known == condition)
    }

    fn raise(&mut self, condition: &str) {
        if !self.has(condition) {
            self.conditions.push(condition.to_owned());
        }
    }
}

async fn converse(stream: UnixStream, world: Rc<RefCell<World>>, news: Rc<Notify>) {
    let (reader, mut writer) = stream.into_split();
    let mut lines = BufReader::new(reader).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        let reply = match decode::<Request>(line.as_bytes()).unwrap() {
            Request::Set {
                facts,
                raise,
                clear,
            } => {
                let mut world = world.borrow_mut();
                world.facts.extend(facts);
                raise.iter().for_each(|condition| world.raise(condition));
                world.conditions.retain(|known| !clear.contains(known));
                Reply::Ok
            }
            Request::Message { text, .. } => {
                world.borrow_mut().messages.push(text);
                Reply::Ok
            }
            Request::Restart { service } => {
                assert_eq!(service, "netd");
                world.borrow_mut().netd_restarts += 1;
                Reply::Ok
            }
            Request::Status => {
                let world = world.borrow();
                Reply::Status(Box::new(Status {
                    facts: world.facts.clone(),
                    conditions: world.conditions.clone(),
                    ..Status::default()
                }))
            }
            Request::Subscribe => {
                writer
                    .write_all(&encode(&Reply::Ok).unwrap())
                    .await
                    .unwrap();
                return tell(&mut writer, &world, &news).await;
            }
            other => panic!("unexpected {other:?}"),
        };
        news.notify_waiters();
        if writer.write_all(&encode(&reply).unwrap()).await.is_err() {
            return;
        }
    }
}

async fn tell(
    writer: &mut tokio::net::unix::OwnedWriteHalf,
    world: &RefCell<World>,
    news: &Notify,
) {
    let mut told = Vec::new();
    loop {
        let next = news.notified();
        let conditions = world.borrow().conditions.clone();
        for name in conditions {
            if told.contains(&name) {
                continue;
            }
            told.push(name.clone());
            let event = Event::Condition { name, raised: true };
            if writer.write_all(&encode(&event).unwrap()).await.is_err() {
                return;
            }
        }
        next.await;
    }
}

fn in_lab(firmware: Option<&str>, test: impl AsyncFnOnce(&Lab)) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    LocalSet::new().block_on(&runtime, async {
        let lab = Lab::new(firmware);
        lab.start_pid1();
        test(&lab).await;
    });
}

#[test]
fn a_node_without_configuration_comes_up_with_the_defaults() {
    in_lab(None, async |lab| {
        let kubeconfig = lab.run_until("pki").await;
        let id = lab.text("system/state/machine-id");
        let name = format!("keelson-{}", &id[..6]);
        assert_eq!(lab.text("run/keelson/etc/machine-id"), id);
        assert_eq!(lab.text("run/keelson/etc/hostname"), format!("{name}\n"));
        let hosts = lab.text("run/keelson/etc/hosts");
        assert!(hosts.contains(&format!("192.0.2.7 {name}\n")), "{hosts}");
        assert_eq!(lab.world.borrow().facts["node-name"], name);
        assert_eq!(lab.world.borrow().facts["datastore"], "etcd");
        assert!(
            lab.text("run/keelson/rendered/kubelet.yaml")
                .contains("10.96.0.10")
        );
        assert!(lab.text("run/keelson/node-config.yaml").contains(&name));
        assert!(
            !lab.root
                .path()
                .join("system/state/config/keelson.yaml")
                .exists()
        );
        let kubeconfig = kubeconfig.borrow().clone().unwrap();
        assert!(kubeconfig.contains("server: https://127.0.0.1:6443"));
        assert!(
            lab.text("run/keelson/secrets/kube-apiserver/encryption.yaml")
                .contains("secretbox")
        );
        assert!(
            lab.text("var/lib/kubelet/pki/kubelet-client-current.pem")
                .contains("PRIVATE KEY")
        );
    });
}

#[test]
fn the_pod_network_of_the_last_boot_is_forgotten_but_not_that_of_this_one() {
    in_lab(None, async |lab| {
        let path = lab.paths().old_pod_network();
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, "of the last boot").unwrap();
        lab.run_until("rendered-early").await;
        assert!(!path.exists());
        std::fs::write(&path, "of this boot").unwrap();
        lab.run_until("pki").await;
        assert!(path.exists());
    });
}

#[test]
fn a_cluster_whose_keys_are_lost_gets_no_new_ones() {
    in_lab(None, async |lab| {
        std::fs::create_dir_all(lab.root.path().join("var/lib/etcd/member")).unwrap();
        let failed = lab.run_until_it_fails(watch::channel(None).0);
        let error = timeout(Duration::from_secs(60), failed).await.unwrap();
        assert!(error.contains("STATE holds no keys"), "{error}");
        assert!(error.contains("/var/lib/etcd/member"), "{error}");
        let keys = lab.paths().vault();
        assert_eq!(std::fs::read_dir(keys).unwrap().count(), 0);
        assert!(!lab.world.borrow().has("pki"));
    });
}

#[test]
fn a_restart_changes_nothing() {
    in_lab(None, async |lab| {
        lab.run_until("pki").await;
        let first = snapshot(lab.root.path());
        lab.world
            .borrow_mut()
            .conditions
            .retain(|name| name != "pki");
        lab.run_until("pki").await;
        assert_eq!(snapshot(lab.root.path()), first);
    });
}

#[test]
fn a_file_on_the_firmware_partition_is_taken_over_but_not_in_the_middle_of_a_boot() {
    let first = "apiVersion: keelson.dev/v1alpha1\nkind: NodeConfig\nhostname: first\n\
                 cluster:\n  datastore: sqlite\nregistries:\n  - host: docker.io\n    \
                 endpoint: http://192.0.2.1:5000\n";
    in_lab(Some(first), async |lab| {
        lab.run_until("pki").await;
        assert_eq!(lab.text("system/state/config/keelson.yaml"), first);
        assert_eq!(
            lab.world.borrow().facts["datastore-endpoint"],
            "unix:///run/kine/kine.sock"
        );
        let mirror = lab.text("run/keelson/rendered/certs.d/docker.io/hosts.toml");
        assert!(
            mirror.contains("server = \"http://192.0.2.1:5000\""),
            "{mirror}"
        );
        // containerd speaks TLS to any host whose file says a word about verification.
        assert!(!mirror.contains("skip_verify"), "{mirror}");
        assert!(!lab.root.path().join("run/keelson/secrets/etcd").exists());

        *lab.firmware.borrow_mut() = Some(first.replace("first", "second"));
        lab.world
            .borrow_mut()
            .conditions
            .retain(|name| name != "pki");
        lab.run_until("pki").await;
        assert_eq!(lab.text("run/keelson/etc/hostname"), "first\n");

        // The next boot.
        *lab.world.borrow_mut() = World::default();
        lab.run_until("pki").await;
        assert_eq!(lab.text("run/keelson/etc/hostname"), "second\n");
    });
}

#[test]
fn a_broken_configuration_is_explained_and_the_node_can_be_fed_again() {
    let broken = "apiVersion: keelson.dev/v1alpha1\nkind: NodeConfig\nhostnam: typo\n";
    in_lab(Some(broken), async |lab| {
        lab.run_until("network").await;
        {
            let world = lab.world.borrow();
            assert!(world.has("maintenance"));
            assert!(!world.has("config"));
            let messages = world.messages.join("\n");
            assert!(messages.contains("ESP:keelson.yaml:3:1"), "{messages}");
            assert!(messages.contains("hostnam"), "{messages}");
            assert!(messages.contains("first partition (FAT)"), "{messages}");
        }
        *lab.firmware.borrow_mut() = Some(broken.replace("hostnam:", "hostname:"));
        lab.run_until("pki").await;
        let world = lab.world.borrow();
        assert!(!world.has("maintenance"));
        assert_eq!(world.netd_restarts, 1);
        assert_eq!(world.facts["node-name"], "typo");
        assert!(lab.text("run/keelson/node-config.yaml").contains("typo"));
    });
}

/// Every file with its content.
fn snapshot(root: &std::path::Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    let mut folders = vec![root.join("run"), root.join("system"), root.join("var")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let kind = std::fs::symlink_metadata(&path).unwrap();
            if kind.is_dir() {
                folders.push(path);
            } else if kind.is_file() {
                files.insert(path.clone(), std::fs::read(path).unwrap());
            }
        }
    }
    files
}
