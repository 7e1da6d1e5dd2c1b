//! One machine for one test.

use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use anyhow::Context;
use keelson_bootstate::layout::Partition;
use keelson_bootstate::{HEADER_SIZE, SlotHeader};
use keelson_qemu::{
    Clock, DiskFormat, Durability, Firmware, HostService, Lifetime, MachineFolder, Network,
    NodeContext, Start, UserNetwork, Vm, find_partition, put_config, read_region,
};

use crate::keelsonctl::Keelsonctl;
use crate::kubectl::{Kubectl, eventually};
use crate::registry::Registry;
use crate::{Environment, workload};

/// The port of the Kubernetes API on the node.
const KUBERNETES_PORT: u16 = 6443;

/// The port of the node API.
const NODE_API_PORT: u16 = 9440;

/// Where the node finds the registry in its own network.
const REGISTRY: (Ipv4Addr, u16) = (Ipv4Addr::new(10, 0, 2, 100), 5000);

/// Firmware to node Ready takes 60 to 120 s on an idle machine.
pub const READY: Duration = Duration::from_secs(300);

/// Room for the image's partitions and 6 GiB of DATA, thin.
const DISK_BYTES: u64 = 8 << 30;

/// What a machine starts with.
#[derive(Debug)]
pub struct Boot {
    /// keelson.yaml on the ESP; the usual one names the registry and asks nobody for the time.
    pub config: Option<String>,
    /// Size of the disk.
    pub disk_bytes: u64,
    /// Whether what the node flushed survives a power cut.
    pub durability: Durability,
    /// The network.
    pub plugged: Plugged,
    /// The clock.
    pub clock: Clock,
    /// What starts the machine.
    pub firmware: FirmwareKind,
    /// A file in which every write to the disk is written down.
    pub write_log: Option<PathBuf>,
}

/// What starts a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FirmwareKind {
    /// SeaBIOS, then GRUB.
    Bios,
    /// OVMF, then our own loader.
    Uefi,
}

/// What the machine's network card is plugged into.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Plugged {
    /// A network with DHCP and the registry, from which nothing gets out.
    Usual,
    /// A unix socket on which a test plays the network.
    Socket(PathBuf),
    /// There is no card.
    Nothing,
}

impl Default for Boot {
    fn default() -> Self {
        Self {
            config: Some(usual_config("")),
            disk_bytes: DISK_BYTES,
            durability: Durability::Throwaway,
            plugged: Plugged::Usual,
            clock: Clock::Host,
            firmware: FirmwareKind::Uefi,
            write_log: None,
        }
    }
}

/// The usual configuration with more lines for its `cluster` section.
pub fn usual_config(cluster: &str) -> String {
    format!(
        "apiVersion: keelson.dev/v1alpha1\nkind: NodeConfig\nnetwork:\n  timeServers: []\n\
         registries:\n- host: {}\n  endpoint: http://{}:{}\ncluster:\n  name: test\n{cluster}",
        workload::IMAGE_HOST,
        REGISTRY.0,
        REGISTRY.1
    )
}

/// A machine of one test. When the test fails its folder `out/test/NAME` keeps the logs.
#[derive(Debug)]
pub struct Node {
    name: String,
    folder: MachineFolder,
    vm: Option<Vm>,
    registry: Option<Registry>,
    program: PathBuf,
    environment: Environment,
}

impl Node {
    /// Makes the machine's disk; nothing runs yet.
    pub(crate) fn create(
        environment: Environment,
        name: &str,
        boot: &Boot,
    ) -> anyhow::Result<Self> {
        let (base, _) = environment.base()?;
        let node = Self::empty(environment, name)?;
        node.folder
            .create_from(&node.environment.tools, &base, boot.disk_bytes)?;
        if let Some(config) = &boot.config {
            node.put_config(config.as_bytes())?;
        }
        Ok(node)
    }

    /// A machine without a disk.
    pub(crate) fn empty(environment: Environment, name: &str) -> anyhow::Result<Self> {
        let folder = MachineFolder::new(&environment.out.join("test").join(name));
        folder.remove()?;
        fs::create_dir_all(folder.path())?;
        let program = environment.kubectl()?;
        Ok(Self {
            name: name.to_owned(),
            folder,
            vm: None,
            registry: None,
            program,
            environment,
        })
    }

    /// Runs a test on a machine that starts from the image.
    pub fn with_booted(
        name: &str,
        boot: &Boot,
        test: impl FnOnce(&mut Self) -> anyhow::Result<()>,
    ) {
        Self::with_created(name, boot, |node| {
            node.start(boot)?;
            test(node)
        });
    }

    /// Runs a test on a machine that has its disk and is off.
    pub fn with_created(
        name: &str,
        boot: &Boot,
        test: impl FnOnce(&mut Self) -> anyhow::Result<()>,
    ) {
        let created =
            Environment::prepare().and_then(|environment| Self::create(environment, name, boot));
        match created {
            Ok(mut node) => {
                let result = test(&mut node);
                node.pass(result);
            }
            Err(error) => panic!("{error:#}"),
        }
    }

    /// Puts a configuration on the ESP of a machine that is off.
    pub fn put_config(&self, config: &[u8]) -> anyhow::Result<()> {
        let tools = &self.environment.tools;
        put_config(tools, &self.folder.disk(), DiskFormat::Qcow2, config)?;
        Ok(())
    }

    /// Starts the machine through its firmware.
    pub fn start(&mut self, boot: &Boot) -> anyhow::Result<()> {
        self.launch(boot, Start::PowerOn).map(drop)
    }

    /// Starts the kernel of the disk's slot A, handed over by the firmware, in a machine that has
    /// no disk; the kernel is told to look for one.
    pub fn start_kernel_without_disk(&mut self) -> anyhow::Result<()> {
        let tools = &self.environment.tools;
        let disk = self.folder.disk();
        let slot = find_partition(tools, &disk, DiskFormat::Qcow2, Partition::BootA)?;
        let bytes = read_region(
            tools,
            &disk,
            DiskFormat::Qcow2,
            slot.start,
            slot.end - slot.start,
        )?;
        let header = SlotHeader::decode(&bytes)
            .map_err(|error| anyhow::anyhow!("slot A has no valid header: {error}"))?;
        let length = usize::try_from(header.payload_len())?;
        let kernel = self.folder.path().join("slot-a.efi");
        let payload = bytes
            .get(HEADER_SIZE..HEADER_SIZE + length)
            .context("slot A is short")?;
        fs::write(&kernel, payload)?;
        let mut spec = self.folder.spec(tools, &self.name);
        spec.disks.clear();
        spec.kernel = Some(kernel);
        // What the loader would have said.
        spec.kernel_arguments.extend([
            "keelson.slot=a".to_owned(),
            "keelson.disk=00000000-0000-4000-8000-000000000001".to_owned(),
        ]);
        let sockets = self.folder.sockets()?;
        let vm = Vm::launch(
            tools,
            &spec,
            self.folder.path(),
            &sockets,
            Lifetime::WithCaller,
        )?;
        self.vm = Some(vm);
        Ok(())
    }

    pub(crate) fn launch(&mut self, boot: &Boot, start: Start) -> anyhow::Result<&mut Vm> {
        let sockets = self.folder.sockets()?;
        let mut spec = self.folder.spec(&self.environment.tools, &self.name);
        spec.start = start;
        spec.clock = boot.clock;
        if boot.firmware == FirmwareKind::Bios {
            spec.firmware = Firmware::Bios;
        }
        for disk in &mut spec.disks {
            disk.durability = boot.durability;
            disk.write_log.clone_from(&boot.write_log);
        }
        match &boot.plugged {
            Plugged::Usual => {
                let socket = sockets.join("registry.sock");
                self.serve_image(&socket)?;
                let (address, port) = REGISTRY;
                spec.networks = vec![Network::User(UserNetwork {
                    forwards: vec![KUBERNETES_PORT, NODE_API_PORT],
                    services: vec![HostService {
                        address,
                        port,
                        socket,
                    }],
                    ..UserNetwork::default()
                })];
            }
            Plugged::Socket(socket) => {
                spec.networks = vec![Network::Frames {
                    socket: socket.clone(),
                }];
            }
            Plugged::Nothing => {}
        }
        let vm = Vm::launch(
            &self.environment.tools,
            &spec,
            self.folder.path(),
            &sockets,
            Lifetime::WithCaller,
        )?;
        Ok(self.vm.insert(vm))
    }

    /// The registry goes on serving when the machine starts again.
    fn serve_image(&mut self, socket: &Path) -> anyhow::Result<()> {
        if self.registry.is_none() {
            let archive = self.folder.path().join("workload.tar");
            workload::write_archive(&archive)?;
            self.registry = Some(Registry::serve(&archive, socket)?);
        }
        Ok(())
    }

    /// The running machine.
    pub fn vm(&mut self) -> anyhow::Result<&mut Vm> {
        self.vm.as_mut().context("the machine is off")
    }

    /// Takes the machine out, to end it.
    pub fn take_vm(&mut self) -> anyhow::Result<Vm> {
        self.vm.take().context("the machine is off")
    }

    /// Waits until the node is Ready and pods are admitted, and returns the cluster.
    pub fn ready(&mut self) -> anyhow::Result<Kubectl> {
        self.vm()?.wait_for_condition("node-ready", READY)?;
        let cluster = self.cluster()?;
        // The controller-manager has just begun; a pod needs its namespace's service account.
        eventually("the default service account", READY, || {
            Ok(cluster.run(&["get", "serviceaccount", "default"])?)
        })?;
        Ok(cluster)
    }

    /// The cluster, as soon as the node has told how to reach it.
    pub fn cluster(&mut self) -> anyhow::Result<Kubectl> {
        let vm = self.vm()?;
        let text = vm.wait("the kubeconfig on the host channel", READY, |seen| {
            seen.kubeconfig().map(str::to_owned)
        })?;
        self.cluster_of(&text)
    }

    pub(crate) fn cluster_of(&mut self, kubeconfig: &str) -> anyhow::Result<Kubectl> {
        let port = self
            .vm()?
            .forwarded_port(KUBERNETES_PORT)
            .context("no port is forwarded")?;
        let text = kubeconfig.replace(
            "https://127.0.0.1:6443",
            &format!("https://127.0.0.1:{port}"),
        );
        let path = self.folder.path().join("kubeconfig");
        fs::write(&path, text)?;
        Ok(Kubectl::new(self.program.clone(), path))
    }

    /// The node API, as the administrator the node told its runner of.
    pub fn keelsonctl(&mut self) -> anyhow::Result<Keelsonctl> {
        let vm = self.vm()?;
        let context = vm.wait("the administrator's certificate", READY, |seen| {
            seen.context().cloned()
        })?;
        self.keelsonctl_of(&context)
    }

    pub(crate) fn keelsonctl_of(&mut self, context: &NodeContext) -> anyhow::Result<Keelsonctl> {
        let port = self.node_api_port()?;
        let config = self.folder.path().join("keelsonconfig");
        Keelsonctl::new(self.environment.keelsonctl()?, config, context, port)
    }

    /// keelsonctl of somebody who has no certificate yet.
    pub fn keelsonctl_without_context(&self) -> anyhow::Result<Keelsonctl> {
        let config = self.folder.path().join("keelsonconfig");
        let program = self.environment.keelsonctl()?;
        Ok(Keelsonctl::without_context(program, config))
    }

    /// Where the host reaches the node API.
    pub fn node_api_port(&mut self) -> anyhow::Result<u16> {
        self.vm()?
            .forwarded_port(NODE_API_PORT)
            .context("no port is forwarded")
    }

    /// The folder of the machine.
    pub fn folder(&self) -> &MachineFolder {
        &self.folder
    }

    /// Tools, cache and results.
    pub fn environment(&self) -> &Environment {
        &self.environment
    }

    /// Ends a test: panics with what is known when its result is an error.
    pub(crate) fn pass(&self, result: anyhow::Result<()>) {
        if let Err(error) = result {
            panic!("{:#}", self.explain(error));
        }
    }

    /// Adds where the logs are and how they end.
    pub(crate) fn explain(&self, error: anyhow::Error) -> anyhow::Error {
        let tail = self.vm.as_ref().map(Vm::serial_tail).unwrap_or_default();
        let folder = self.folder.path().display();
        anyhow::anyhow!("{error:#}\nlogs of the machine: {folder}\nlast serial lines:\n{tail}")
    }

    /// Gives the environment back, with its lock, once the machine is off.
    pub(crate) fn into_environment(mut self) -> Environment {
        drop(self.vm.take());
        self.clear_folder();
        self.environment.clone()
    }

    /// What was asked of the registry.
    pub fn registry_requests(&self) -> Vec<String> {
        self.registry
            .as_ref()
            .map(Registry::requests)
            .unwrap_or_default()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if thread::panicking() {
            println!("logs of the machine: {}", self.folder.path().display());
        }
        drop(self.vm.take());
        self.clear_folder();
    }
}

impl Node {
    /// Logs stay until the next run of the same test; disks are large, sockets of no more use.
    fn clear_folder(&self) {
        let _ = self.folder.remove_sockets();
        for large in [self.folder.disk(), self.folder.variables()] {
            let _ = fs::remove_file(large);
        }
    }
}
