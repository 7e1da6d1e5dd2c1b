//! A machine that starts from disk after disk, each time from the same moment.
//!
//! The firmware's own start takes a second and more under emulation, and it is the same whatever
//! is on the disk. So the machine is saved once where the firmware waits for somebody who wants
//! its menu, and every start goes on from there: what follows is read from the disk as it is then.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use serde_json::json;
use thiserror::Error;

use crate::disk::create_variables;
use crate::process::run_within;
use crate::spec::escape;
use crate::vm::{wait_readable, wrap};
use crate::{
    Acceleration, DiskError, Lifetime, MachineError, MachineFolder, Qmp, QmpError, QmpEvent,
    RunError, Tools, scaled,
};

/// From the start of QEMU to a firmware that waits; 0.3 s for BIOS and 2 s for UEFI as a rule.
const START: Duration = Duration::from_secs(60);

/// How long the firmware waits for a key. Nobody waits for its end, see [`Bench::boot`].
const MENU: Duration = Duration::from_secs(60);

/// QEMU saves or restores some 60 MiB of memory.
const JOB: Duration = Duration::from_secs(60);

/// Between two keys pressed for a firmware that does not take them yet.
const KEY: Duration = Duration::from_millis(500);

/// A firmware, a loader and nothing else need little, and what there is is saved and restored.
const MEMORY_MIB: u32 = 192;

/// Which firmware a bench has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BenchFirmware {
    /// SeaBIOS.
    Bios,
    /// OVMF.
    Uefi,
}

/// From where a machine starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BenchStart {
    /// From the reset vector: the firmware looks at the whole disk again.
    Reset,
    /// From the firmware's menu. UEFI has read the partition table and knows the file system with
    /// the loader: both must be what they were when the bench was made.
    Menu,
}

/// Why a bench did not do what it should.
#[derive(Debug, Error)]
pub enum BenchError {
    /// Firmware variables.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// A file of the bench.
    #[error("cannot use {}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The reason.
        #[source]
        source: io::Error,
    },
    /// The state of the machine was not saved or restored.
    #[error("QEMU could not {what} the machine: {reason}")]
    Job {
        /// `save` or `restore`.
        what: &'static str,
        /// QEMU's words.
        reason: String,
    },
    /// The folder for the sockets.
    #[error(transparent)]
    Machine(#[from] MachineError),
    /// QEMU could not be driven.
    #[error("cannot drive QEMU")]
    Qmp(#[from] QmpError),
    /// What was waited for did not come.
    #[error("no {what} within {} s; the console shows:\n{console}", deadline.as_secs())]
    Silent {
        /// What was waited for.
        what: String,
        /// How long.
        deadline: Duration,
        /// Everything since the start.
        console: String,
    },
    /// A tool of QEMU failed.
    #[error(transparent)]
    Tool(#[from] RunError),
}

/// The machine.
#[derive(Debug)]
pub struct Bench {
    qemu: Child,
    qmp: Qmp,
    events: Receiver<QmpEvent>,
    firmware: BenchFirmware,
    console: Console,
    jobs: u32,
}

/// The file that QEMU writes what the guest sends to its serial port to.
#[derive(Debug)]
struct Console {
    path: PathBuf,
    file: File,
    /// Where the current start begins.
    start: u64,
    changes: rustix::fd::OwnedFd,
}

impl Bench {
    /// Starts QEMU with the raw image `disk` and saves it in the firmware's menu. Files go to
    /// `folder`, which exists. The machine is stopped when this returns.
    pub fn start(
        tools: &Tools,
        firmware: BenchFirmware,
        disk: &Path,
        folder: &Path,
    ) -> Result<Self, BenchError> {
        let state = folder.join("state.qcow2");
        let mut create = tools.command("qemu-img");
        create
            .args(["create", "-q", "-f", "qcow2"])
            .arg(&state)
            .arg("1M");
        run_within(&mut create, scaled(START))?;
        let console_path = folder.join("console.log");
        let firmware_log = folder.join("firmware.log");
        for path in [&console_path, &firmware_log] {
            File::create(path).map_err(file_error(path))?;
        }
        let socket = MachineFolder::new(folder).sockets()?.join("bench.sock");
        let _ = fs::remove_file(&socket);

        let mut arguments = machine(disk, &state, &socket, &console_path);
        match firmware {
            BenchFirmware::Bios => arguments.extend(log_of_bios(&firmware_log)),
            BenchFirmware::Uefi => {
                let variables = folder.join("variables.qcow2");
                create_variables(tools, &variables)?;
                arguments.extend(flash(&tools.firmware_code(), &variables));
            }
        }
        let output = folder.join("qemu.log");
        let log = File::create(&output).map_err(file_error(&output))?;
        let mut qemu = wrap(&tools.command("qemu-system-x86_64"), Lifetime::WithCaller)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .map_err(file_error(Path::new("qemu-system-x86_64")))?;
        let (sender, events) = mpsc::channel();
        let qmp = match connect(&socket, &mut qemu, &output, &sender) {
            Ok(qmp) => qmp,
            Err(error) => {
                // It may have ended by itself already.
                let _ = qemu.kill();
                let _ = qemu.wait();
                return Err(error);
            }
        };
        let mut bench = Self {
            qemu,
            qmp,
            events,
            firmware,
            console: Console::open(console_path)?,
            jobs: 0,
        };
        bench.wait_for_menu(&firmware_log)?;
        bench.hold()?;
        bench.job("save", "snapshot-save")?;
        Ok(bench)
    }

    /// Stops the machine. Until the next start its disk may be changed.
    pub fn hold(&mut self) -> Result<(), BenchError> {
        self.qmp.execute("stop", &json!({}))?;
        Ok(())
    }

    /// Starts a machine that is stopped. What the console shows counts from here on.
    pub fn boot(&mut self, from: BenchStart) -> Result<(), BenchError> {
        match from {
            BenchStart::Menu => self.job("restore", "snapshot-load")?,
            BenchStart::Reset => {
                self.qmp.execute("system_reset", &json!({}))?;
            }
        }
        self.console.begin()?;
        self.qmp.execute("cont", &json!({}))?;
        self.press_enter()
    }

    /// Waits until `look` finds something in what the console shows since the start.
    pub fn wait<T>(
        &mut self,
        what: &str,
        deadline: Duration,
        mut look: impl FnMut(&str) -> Option<T>,
    ) -> Result<T, BenchError> {
        let deadline = scaled(deadline);
        let end = Instant::now() + deadline;
        loop {
            let text = self.console.text()?;
            if let Some(found) = look(&text) {
                return Ok(found);
            }
            if Instant::now() >= end {
                return Err(BenchError::Silent {
                    what: what.to_owned(),
                    deadline,
                    console: text,
                });
            }
            let changed = self.console.wait(KEY);
            // A key that came before the menu is lost. GRUB would take one for itself, and SeaBIOS
            // is always in its menu.
            if !changed && self.firmware == BenchFirmware::Uefi && !text.contains(UEFI_LEFT_MENU) {
                self.press_enter()?;
            }
        }
    }

    /// What the console shows since the start.
    pub fn console(&mut self) -> Result<String, BenchError> {
        self.console.text()
    }

    fn press_enter(&mut self) -> Result<(), BenchError> {
        let key = json!({ "keys": [{ "type": "qcode", "data": "ret" }] });
        self.qmp.execute("send-key", &key)?;
        Ok(())
    }

    fn wait_for_menu(&mut self, firmware_log: &Path) -> Result<(), BenchError> {
        match self.firmware {
            BenchFirmware::Uefi => self.wait("menu of UEFI", START, |console| {
                // The screen is cleared last when all devices are there.
                console.contains(UEFI_SCREEN).then_some(())
            }),
            BenchFirmware::Bios => {
                // SeaBIOS talks on a port of its own.
                let log = Console::open(firmware_log.to_owned())?;
                let end = Instant::now() + scaled(START);
                loop {
                    let text = log.text()?;
                    if text.contains(BIOS_MENU) {
                        return Ok(());
                    }
                    if Instant::now() >= end {
                        return Err(BenchError::Silent {
                            what: "menu of SeaBIOS".to_owned(),
                            deadline: scaled(START),
                            console: text,
                        });
                    }
                    log.wait(KEY);
                }
            }
        }
    }

    /// Saves or restores memory and devices; no disk takes part.
    fn job(&mut self, what: &'static str, command: &str) -> Result<(), BenchError> {
        self.jobs += 1;
        let id = format!("job{}", self.jobs);
        let job = json!({ "job-id": id, "tag": "menu", "vmstate": STATE, "devices": [STATE] });
        self.qmp.execute(command, &job)?;
        let end = Instant::now() + scaled(JOB);
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let Ok(event) = self.events.recv_timeout(left) else {
                return Err(BenchError::Job {
                    what,
                    reason: "it does not end".to_owned(),
                });
            };
            let concluded = event.data["id"] == *id && event.data["status"] == "concluded";
            if event.name == "JOB_STATUS_CHANGE" && concluded {
                break;
            }
        }
        let jobs = self.qmp.execute("query-jobs", &json!({}))?;
        let reason = jobs
            .as_array()
            .into_iter()
            .flatten()
            .find(|job| job["id"] == *id)
            .and_then(|job| job["error"].as_str())
            .map(str::to_owned);
        self.qmp.execute("job-dismiss", &json!({ "id": id }))?;
        match reason {
            Some(reason) => Err(BenchError::Job { what, reason }),
            None => Ok(()),
        }
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        // Fails only when it has ended already.
        let _ = self.qemu.kill();
        let _ = self.qemu.wait();
    }
}

impl Console {
    fn open(path: PathBuf) -> Result<Self, BenchError> {
        let file = File::open(&path).map_err(file_error(&path))?;
        let watch = || {
            let changes = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
            inotify::add_watch(&changes, &path, WatchFlags::MODIFY)?;
            Ok::<_, io::Error>(changes)
        };
        let changes = watch().map_err(file_error(&path))?;
        Ok(Self {
            path,
            file,
            start: 0,
            changes,
        })
    }

    fn begin(&mut self) -> Result<(), BenchError> {
        self.start = self.file.metadata().map_err(file_error(&self.path))?.len();
        Ok(())
    }

    fn text(&self) -> Result<String, BenchError> {
        let read = || {
            let length = self.file.metadata()?.len().saturating_sub(self.start);
            let mut bytes = vec![0; usize::try_from(length).map_err(io::Error::other)?];
            self.file.read_exact_at(&mut bytes, self.start)?;
            Ok(bytes)
        };
        let bytes = read().map_err(file_error(&self.path))?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Whether it has grown before that time is over.
    fn wait(&self, most: Duration) -> bool {
        let changed = wait_readable(self.changes.as_fd(), most).is_ok();
        if changed {
            // What changed is known: there is one file.
            let _ = rustix::io::read(&self.changes, &mut [0; 4096]);
        }
        changed
    }
}

/// Name of the image that holds the saved machine. It is no device of the guest.
const STATE: &str = "state";

/// The firmware clears its screen in this way when it has one.
const UEFI_SCREEN: &str = "\u{1b}[2J\u{1b}[01;01H\u{1b}[=3h";

/// Its first words after the menu.
const UEFI_LEFT_MENU: &str = "BdsDxe";

const BIOS_MENU: &str = "Press ESC for boot menu";

fn machine(disk: &Path, state: &Path, socket: &Path, console: &Path) -> Vec<String> {
    let (accelerator, processor) = Acceleration::of_this_host().arguments();
    let path = |path: &Path| escape(&path.to_string_lossy());
    strings(&[
        "-nodefaults",
        "-no-user-config",
        "-display",
        "none",
        "-machine",
        "q35",
        "-accel",
        accelerator,
        "-cpu",
        processor,
        "-smp",
        "1",
        "-m",
        &format!("{MEMORY_MIB}M"),
        "-boot",
        &format!("menu=on,splash-time={}", MENU.as_millis()),
        "-chardev",
        &format!("socket,id=qmp,path={},server=on,wait=off", path(socket)),
        "-mon",
        "chardev=qmp,mode=control",
        "-chardev",
        &format!("file,id=serial,path={},append=on", path(console)),
        "-serial",
        "chardev:serial",
        "-drive",
        // Its caller writes to the file too, while the machine is stopped.
        &format!(
            "if=none,id=disk,format=raw,cache=writeback,file.locking=off,file={}",
            path(disk)
        ),
        "-device",
        "virtio-blk-pci,drive=disk,bootindex=0",
        "-blockdev",
        &format!(
            "qcow2,node-name={STATE},file.driver=file,file.filename={}",
            path(state)
        ),
    ])
}

fn flash(code: &Path, variables: &Path) -> Vec<String> {
    let path = |path: &Path| escape(&path.to_string_lossy());
    strings(&[
        "-drive",
        &format!(
            "if=pflash,unit=0,format=raw,readonly=on,file={}",
            path(code)
        ),
        "-drive",
        &format!("if=pflash,unit=1,format=qcow2,file={}", path(variables)),
    ])
}

fn log_of_bios(log: &Path) -> Vec<String> {
    strings(&[
        "-chardev",
        &format!("file,id=firmware,path={}", escape(&log.to_string_lossy())),
        "-device",
        "isa-debugcon,iobase=0x402,chardev=firmware",
    ])
}

fn strings(arguments: &[&str]) -> Vec<String> {
    arguments.iter().map(|&one| one.to_owned()).collect()
}

/// Waits for QEMU's control socket.
fn connect(
    socket: &Path,
    qemu: &mut Child,
    output: &Path,
    events: &mpsc::Sender<QmpEvent>,
) -> Result<Qmp, BenchError> {
    /// Between two looks.
    const STEP: Duration = Duration::from_millis(20);
    let end = Instant::now() + scaled(START);
    loop {
        let sender = events.clone();
        match Qmp::connect(socket, move |event| drop(sender.send(event))) {
            Err(QmpError::Connect { .. }) if Instant::now() < end => {}
            result => return Ok(result?),
        }
        if let Ok(Some(status)) = qemu.try_wait() {
            let said = fs::read_to_string(output).unwrap_or_default();
            return Err(BenchError::Job {
                what: "start",
                reason: format!("it ended with {status} and said: {said}"),
            });
        }
        std::thread::sleep(STEP);
    }
}

fn file_error(path: &Path) -> impl FnOnce(io::Error) -> BenchError + '_ {
    move |source| BenchError::File {
        path: path.to_owned(),
        source,
    }
}
