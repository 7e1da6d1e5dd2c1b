//! Boots the image, follows the boot, and keeps the machine until somebody wants it to end.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use clap::Args;
use keelson_cache::Cache;
use keelson_client::{Context, Contexts};
use keelson_config::NodeConfig;
use keelson_control::{BootReport, Phase};
use keelson_qemu::{
    DiskFormat, Durability, Ending, Lifetime, MachineFolder, Network, NodeContext, Reach, Remote,
    Tools, UserNetwork, Vm, fingerprint, put_config,
};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::kubeconfig;
use crate::progress::{Progress, report};

/// The port of the Kubernetes API on the node.
const KUBERNETES_PORT: u16 = 6443;

/// A node without any configuration waits for one; this is the shortest that makes a cluster.
const DEFAULT_CONFIG: &[u8] = include_bytes!("default.yaml");

/// A first boot under emulation takes 60 to 120 s on an idle machine.
const READY_DEADLINE: Duration = Duration::from_secs(300);

/// The boot report follows the condition at once.
const REPORT_DEADLINE: Duration = Duration::from_secs(10);

/// Pods get their time to end, then services, then disks are unmounted.
pub(crate) const SHUTDOWN_DEADLINE: Duration = Duration::from_secs(120);

/// Between two movements of the counting line.
const TICK: Duration = Duration::from_secs(1);

/// Name of the context in the contexts file.
const CONTEXT: &str = "keelson-vm";

const GIB: u64 = 1 << 30;

/// Options of `keelson-vm run`.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Image to boot: .raw, .raw.zst or .qcow2.
    #[arg(long, default_value = "out/keelson-amd64.raw")]
    image: PathBuf,
    /// Start anew: the machine's disk and all its data are removed first.
    #[arg(long)]
    fresh: bool,
    /// Return once the node is Ready and leave the machine running.
    #[arg(long)]
    detach: bool,
    /// Configuration (keelson.yaml) for the node, put on its ESP.
    #[arg(long)]
    config: Option<PathBuf>,
    /// Keep every packet of the machine on this host.
    #[arg(long)]
    isolated: bool,
    /// Where the kubeconfig is written.
    #[arg(long, default_value = "out/kubeconfig")]
    kubeconfig: PathBuf,
    /// Where the contexts file for keelsonctl is written.
    #[arg(long, default_value = "out/keelsonconfig")]
    keelsonconfig: PathBuf,
    /// Memory of the machine in MiB.
    #[arg(long, default_value_t = 2048)]
    memory: u32,
    /// Processors of the machine.
    #[arg(long, default_value_t = 2)]
    cpus: u8,
    /// Size of the disk of a new machine in GiB.
    #[arg(long, default_value_t = 16)]
    disk: u64,
}

pub(crate) fn run(state: &Path, options: &Options) -> anyhow::Result<ExitCode> {
    let progress = Progress::new();
    let config = options.config.as_deref().map(read_config).transpose()?;
    let folder = MachineFolder::new(state);
    let sockets = folder.sockets()?;
    if Remote::attach(&sockets)?.is_some() {
        bail!(
            "the machine in {} runs already: end it with `make stop`",
            state.display()
        );
    }
    let repository = env::current_dir().context("cannot tell the current folder")?;
    let visible = [std::path::absolute(state)?];
    fs::create_dir_all(&visible[0])
        .with_context(|| format!("cannot make {}", visible[0].display()))?;
    let tools = Tools::open(
        &Cache::from_environment()?,
        &repository,
        &visible,
        &|text| {
            progress.line(text);
        },
    )?;
    let folder = MachineFolder::new(&visible[0]);
    let is_new = prepare(&folder, &tools, options, &progress)?;
    if let Some(config) = config.or_else(|| is_new.then(|| DEFAULT_CONFIG.to_vec())) {
        put_config(&tools, &folder.disk(), DiskFormat::Qcow2, &config)?;
    }
    // Those that are left from an earlier machine would only mislead.
    for stale in [&options.kubeconfig, &options.keelsonconfig] {
        let _ = fs::remove_file(stale);
    }

    let stop = StopRequest::watch()?;
    let lifetime = if options.detach {
        Lifetime::Detached
    } else {
        Lifetime::WithCaller
    };
    let mut spec = folder.spec(&tools, "keelson");
    spec.memory_mib = options.memory;
    spec.cpus = options.cpus;
    for disk in &mut spec.disks {
        disk.durability = Durability::Flushed;
    }
    let reach = if options.isolated {
        Reach::Isolated
    } else {
        Reach::Everything
    };
    let network = UserNetwork {
        forwards: vec![KUBERNETES_PORT, keelson_api::PORT],
        reach,
        ..UserNetwork::default()
    };
    spec.networks = vec![Network::User(network)];
    progress.line(&format!(
        "booting; serial log: {}",
        folder.path().join("serial.log").display()
    ));
    let vm = Vm::launch(&tools, &spec, folder.path(), &sockets, lifetime)?;
    stop.wakes(&vm);
    match follow(&vm, &stop, &progress) {
        Ok(Outcome::Ready(boot)) => present(&vm, options, &boot, &progress)?,
        Ok(Outcome::StopRequested) => return end(vm, &folder, &stop, ExitCode::from(130)),
        Err(error) => {
            vm.power_cut()?;
            folder.remove_sockets()?;
            return Err(error);
        }
    }
    if options.detach {
        println!("the machine goes on running; end it with `make stop`");
        println!(
            "KUBECONFIG={}",
            std::path::absolute(&options.kubeconfig)?.display()
        );
        vm.leave();
        return Ok(ExitCode::SUCCESS);
    }
    println!("Ctrl-C shuts the machine down; its data stays for the next run");
    vm.wait("a request to stop", Duration::MAX, |seen| {
        (stop.requested() || seen.ended.is_some()).then_some(())
    })?;
    end(vm, &folder, &stop, ExitCode::SUCCESS)
}

/// A configuration is checked before it travels: here its errors are easier to read.
fn read_config(path: &Path) -> anyhow::Result<Vec<u8>> {
    let bytes = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    match NodeConfig::parse(&bytes, &path.to_string_lossy()) {
        Ok(_) => Ok(bytes),
        Err(error) => bail!("{}", error.report()),
    }
}

/// Makes a machine when there is none, or says what the one that is there runs. Tells whether it
/// is a new one.
fn prepare(
    folder: &MachineFolder,
    tools: &Tools,
    options: &Options,
    progress: &Progress,
) -> anyhow::Result<bool> {
    if !options.image.is_file() {
        bail!(
            "there is no image {}: build one with `make image`",
            options.image.display()
        );
    }
    let image = fingerprint(&options.image)?;
    if options.fresh {
        folder.remove()?;
    }
    let record = folder.record()?;
    let is_new = record.is_none();
    match record {
        None => {
            progress.line("making a new disk");
            folder.create(tools, &options.image, &image, options.disk * GIB)?;
        }
        Some(record) if record.image != image => progress.line(
            "the image has changed since this machine was made: it goes on with its own system \
             and its data; `make run FRESH=1` starts anew with the new image",
        ),
        Some(_) => progress.line("going on with the data of the last run"),
    }
    Ok(is_new)
}

enum Outcome {
    Ready(Boot),
    StopRequested,
}

struct Boot {
    context: NodeContext,
    kubeconfig: String,
    report: Option<BootReport>,
}

enum Step {
    Phase(Phase),
    Ready(String, NodeContext),
    StopRequested,
    Tick,
}

/// Shows every phase until the node is Ready or somebody wants the machine to end.
fn follow(vm: &Vm, stop: &StopRequest, progress: &Progress) -> anyhow::Result<Outcome> {
    let start = Instant::now();
    let mut shown = 0;
    let mut last = "start".to_owned();
    let mut ticked = start;
    if progress.counts() {
        stop.tick(vm);
    }
    loop {
        let left = READY_DEADLINE.saturating_sub(start.elapsed());
        let step = vm.wait("node Ready", left, |seen| {
            if stop.requested() {
                return Some(Step::StopRequested);
            }
            if let Some(phase) = seen.phases().nth(shown) {
                return Some(Step::Phase(phase.clone()));
            }
            if let (true, Some(text), Some(context)) = (
                seen.condition("node-ready"),
                seen.kubeconfig(),
                seen.context(),
            ) {
                return Some(Step::Ready(text.to_owned(), context.clone()));
            }
            (ticked.elapsed() >= TICK && progress.counts()).then_some(Step::Tick)
        })?;
        match step {
            Step::Phase(phase) => {
                progress.phase(start.elapsed(), &phase);
                last = phase.name;
                shown += 1;
            }
            Step::Ready(kubeconfig, context) => {
                // The node is Ready all the same when its report does not come.
                let report = vm
                    .wait("boot report", REPORT_DEADLINE, |seen| {
                        seen.boot_report().cloned()
                    })
                    .ok();
                return Ok(Outcome::Ready(Boot {
                    context,
                    kubeconfig,
                    report,
                }));
            }
            Step::StopRequested => return Ok(Outcome::StopRequested),
            Step::Tick => {
                ticked = Instant::now();
                progress.tick(start.elapsed(), &last);
            }
        }
    }
}

/// Writes the kubeconfig and the contexts file, and says how to use them.
fn present(vm: &Vm, options: &Options, boot: &Boot, progress: &Progress) -> anyhow::Result<()> {
    let port = vm
        .forwarded_port(KUBERNETES_PORT)
        .context("QEMU forwards no port to the API server")?;
    let node_port = vm
        .forwarded_port(keelson_api::PORT)
        .context("QEMU forwards no port to the node API")?;
    let path = &options.kubeconfig;
    kubeconfig::write(path, &kubeconfig::rewrite(&boot.kubeconfig, port)?)?;
    contexts(&boot.context, node_port)?.save(&options.keelsonconfig)?;
    if let Some(boot) = &boot.report {
        progress.line(&report(boot));
    }
    let path = path.display();
    progress.line("the node is Ready. Try:");
    for verb in [
        "get nodes --output wide",
        "get pods --all-namespaces",
        "top node",
    ] {
        progress.line(&format!("  out/bin/kubectl --kubeconfig {path} {verb}"));
    }
    let path = options.keelsonconfig.display();
    progress.line("and the node itself:");
    for verb in ["status", "get services", "logs -f kubelet"] {
        progress.line(&format!("  KEELSONCONFIG={path} out/bin/keelsonctl {verb}"));
    }
    Ok(())
}

/// One context, for the port of this host that leads to the node.
fn contexts(context: &NodeContext, port: u16) -> anyhow::Result<Contexts> {
    let context = Context {
        endpoints: vec![format!("127.0.0.1:{port}").parse()?],
        authority: context.authority.clone(),
        certificate: context.certificate.clone(),
        key: context.key.clone(),
        server_name: None,
    };
    Ok(Contexts {
        current: Some(CONTEXT.to_owned()),
        contexts: [(CONTEXT.to_owned(), context)].into(),
    })
}

/// Shuts the machine down and removes what only a running one needs.
fn end(
    vm: Vm,
    folder: &MachineFolder,
    stop: &StopRequest,
    code: ExitCode,
) -> anyhow::Result<ExitCode> {
    shut_down(vm, stop)?;
    folder.remove_sockets()?;
    Ok(code)
}

/// A second request switches it off at once.
fn shut_down(mut vm: Vm, stop: &StopRequest) -> anyhow::Result<()> {
    if let Some(how) = vm.look(|seen| seen.ended.map(str::to_owned)) {
        println!("the machine has switched itself off ({how})");
        return Ok(());
    }
    println!("\nshutting down (again Ctrl-C: switch off at once) …");
    stop.reset();
    vm.power_button()?;
    let ended = vm.wait("the end of the machine", SHUTDOWN_DEADLINE, |seen| {
        if stop.requested() {
            return Some(Ending::Killed);
        }
        seen.ended.map(|_| Ending::Clean)
    });
    match ended {
        Ok(Ending::Clean) => println!("the machine is off"),
        Ok(Ending::Killed) => {
            vm.power_cut()?;
            println!("switched off");
        }
        Err(error) => {
            vm.power_cut()?;
            return Err(error).context("the machine did not shut down and was switched off");
        }
    }
    Ok(())
}

/// Ctrl-C, a closed terminal or `kill`.
#[derive(Debug, Clone)]
struct StopRequest {
    requested: Arc<AtomicBool>,
    waker: Arc<std::sync::Mutex<Option<keelson_qemu::Waker>>>,
}

impl StopRequest {
    fn watch() -> anyhow::Result<Self> {
        let request = Self {
            requested: Arc::new(AtomicBool::new(false)),
            waker: Arc::default(),
        };
        let mut signals =
            Signals::new([SIGHUP, SIGINT, SIGTERM]).context("cannot watch signals")?;
        let seen = request.clone();
        thread::spawn(move || {
            for _ in &mut signals {
                seen.requested.store(true, Ordering::Relaxed);
                if let Ok(waker) = seen.waker.lock()
                    && let Some(waker) = waker.as_ref()
                {
                    waker.wake();
                }
            }
        });
        Ok(request)
    }

    /// From now on a request interrupts waits on this machine.
    fn wakes(&self, vm: &Vm) {
        if let Ok(mut waker) = self.waker.lock() {
            *waker = Some(vm.waker());
        }
    }

    /// Wakes waits on this machine once per [`TICK`], for as long as this program runs.
    fn tick(&self, vm: &Vm) {
        let waker = vm.waker();
        thread::spawn(move || {
            loop {
                thread::sleep(TICK);
                waker.wake();
            }
        });
    }

    fn requested(&self) -> bool {
        self.requested.load(Ordering::Relaxed)
    }

    fn reset(&self) {
        self.requested.store(false, Ordering::Relaxed);
    }
}
