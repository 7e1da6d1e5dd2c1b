//! One running machine: started, watched, driven, ended.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::sockopt::socket_peercred;
use rustix::process::{PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde_json::json;
use thiserror::Error;

use crate::observed::{Unseen, Watch};
use crate::serial_log::SerialLog;
use crate::{
    Endpoints, HostMessage, Mark, Observed, Qmp, QmpError, Tools, VmSpec, WaitError, Waker, scaled,
};

/// From the start of QEMU to its first call on our sockets; a cold page cache costs seconds.
const START_DEADLINE: Duration = Duration::from_secs(60);

/// How long the kernel takes to end a killed QEMU and free its memory and files.
const KILL_DEADLINE: Duration = Duration::from_secs(60);

/// What happens to QEMU when the program that started it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lifetime {
    /// It is killed, however that program ends. The kernel ties it to the *thread* that called
    /// [`Vm::launch`]: that thread must live as long as the machine.
    WithCaller,
    /// It goes on; `keelson-vm stop` finds it by its control socket.
    Detached,
}

/// Why a machine did not start.
#[derive(Debug, Error)]
pub enum LaunchError {
    /// The kernel did not give us a handle on the process.
    #[error("cannot watch QEMU's process")]
    Handle(#[source] io::Error),
    /// A file or socket could not be made.
    #[error("cannot make {}", path.display())]
    Make {
        /// File, folder or socket.
        path: PathBuf,
        /// The reason.
        #[source]
        source: io::Error,
    },
    /// QEMU could not be driven.
    #[error("QEMU started but cannot be driven")]
    Qmp(#[from] QmpError),
    /// QEMU ended or hung before it was ready.
    #[error("QEMU {how}; it said:\n{said}")]
    Start {
        /// What it did.
        how: String,
        /// What it wrote.
        said: String,
    },
    /// The program could not be started at all.
    #[error("cannot start QEMU")]
    Spawn(#[source] io::Error),
}

/// How a machine that was asked to shut down ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// By itself.
    Clean,
    /// It did not within its deadline, and was killed.
    Killed,
}

/// One running machine.
#[derive(Debug)]
pub struct Vm {
    name: String,
    endpoints: Endpoints,
    lifetime: Lifetime,
    process: OwnedFd,
    qmp: Qmp,
    watch: Watch,
    mark: Mark,
    forwards: BTreeMap<u16, u16>,
    launched: Instant,
}

impl Vm {
    /// Starts QEMU with `spec`. Logs go to the folder `state`, sockets to the folder `sockets`,
    /// which must have a short path; both are made when they are missing.
    pub fn launch(
        tools: &Tools,
        spec: &VmSpec,
        state: &Path,
        sockets: &Path,
        lifetime: Lifetime,
    ) -> Result<Self, LaunchError> {
        make_private_folder(state)?;
        make_private_folder(sockets)?;
        let endpoints = Endpoints::in_folders(sockets, state);
        let host = listen(&endpoints.host_channel)?;
        keep_previous(&endpoints.serial_log)?;
        for log in spec.disks.iter().filter_map(|disk| disk.write_log.as_ref()) {
            // QEMU wants a file that is there.
            File::create(log).map_err(|source| LaunchError::Make {
                path: log.clone(),
                source,
            })?;
        }
        let output = state.join("qemu.log");
        let file = File::create(&output).map_err(|source| LaunchError::Make {
            path: output.clone(),
            source,
        })?;
        let launched = Instant::now();
        let mut child = wrap(&tools.command("qemu-system-x86_64"), lifetime)
            .args(spec.arguments(&endpoints))
            .stdin(Stdio::null())
            .stdout(file.try_clone().map_err(LaunchError::Spawn)?)
            .stderr(file)
            .spawn()
            .map_err(LaunchError::Spawn)?;
        let watch = Watch::default();
        let events = watch.clone();
        let connected = accept(&host, &mut child).and_then(|host| {
            // QEMU opens sockets before disks: it may still find something wrong and end.
            let qmp = Qmp::connect(&endpoints.qmp, move |event| events.add_event(event))
                .map_err(|error| format!("ended early: {error}"))?;
            let serial = SerialLog::open(&endpoints.serial_log)
                .map_err(|error| format!("has no serial log: {error}"))?;
            Ok((host, serial, qmp))
        });
        let (host, serial, qmp) = match connected {
            Ok(connected) => connected,
            Err(how) => {
                // It may have ended by itself already; only then is its output complete.
                let _ = child.kill();
                let _ = child.wait();
                let said = fs::read_to_string(&output).unwrap_or_default();
                return Err(LaunchError::Start { how, said });
            }
        };
        let qemu = socket_peercred(qmp.stream()).map_err(|e| LaunchError::Handle(e.into()))?;
        let process =
            pidfd_open(qemu.pid, PidfdFlags::empty()).map_err(|e| LaunchError::Handle(e.into()))?;
        spawn_readers(&watch, serial, host, child);
        let mut vm = Self {
            name: spec.name.clone(),
            endpoints,
            lifetime,
            process,
            qmp,
            watch,
            mark: Mark::default(),
            forwards: BTreeMap::new(),
            launched,
        };
        vm.forwards = parse_forwards(&vm.qmp.human("info usernet")?);
        Ok(vm)
    }

    /// The port of 127.0.0.1 behind which a port of the guest is.
    pub fn forwarded_port(&self, guest_port: u16) -> Option<u16> {
        self.forwards.get(&guest_port).copied()
    }

    /// When QEMU was started.
    pub fn launched(&self) -> Instant {
        self.launched
    }

    /// The whole serial log.
    pub fn serial_log(&self) -> &Path {
        &self.endpoints.serial_log
    }

    /// The last lines of the serial log.
    pub fn serial_tail(&self) -> String {
        self.watch.tail()
    }

    /// From now on waits see only what comes after this moment (before a reboot, for example).
    pub fn forget(&mut self) {
        self.mark = self.watch.mark();
    }

    /// What is known since the start, or since [`Vm::forget`].
    pub fn look<T>(&self, look: impl FnOnce(Observed<'_>) -> T) -> T {
        self.watch.look(self.mark, look)
    }

    /// Waits until `look` finds something. The deadline is stretched by how slow this host is.
    pub fn wait<T>(
        &self,
        what: &str,
        deadline: Duration,
        look: impl FnMut(Observed<'_>) -> Option<T>,
    ) -> Result<T, WaitError> {
        let deadline = scaled(deadline);
        self.watch
            .wait(self.mark, deadline, look)
            .map_err(|unseen| {
                let reason = match unseen {
                    Unseen::Ended(how) => format!("cannot come any more: QEMU ended ({how})"),
                    Unseen::TimedOut => format!("did not come within {} s", deadline.as_secs()),
                };
                self.wait_error(what, reason)
            })
    }

    /// Waits for a serial line that contains `text` and returns the line.
    pub fn wait_for_serial(&self, text: &str, deadline: Duration) -> Result<String, WaitError> {
        self.wait(&format!("serial line `{text}`"), deadline, |seen| {
            seen.serial_line(text).map(str::to_owned)
        })
    }

    /// Waits until a condition of PID 1 holds.
    pub fn wait_for_condition(&self, name: &str, deadline: Duration) -> Result<(), WaitError> {
        self.wait(&format!("condition `{name}`"), deadline, |seen| {
            seen.condition(name).then_some(())
        })
    }

    /// Waits until QEMU has ended and says how.
    pub fn wait_for_end(&self, deadline: Duration) -> Result<String, WaitError> {
        self.wait("the end of QEMU", deadline, |seen| {
            seen.ended.map(str::to_owned)
        })
    }

    /// Presses the power button.
    pub fn power_button(&mut self) -> Result<(), QmpError> {
        self.qmp.execute("system_powerdown", &json!({})).map(drop)
    }

    /// Presses the power button, waits, and kills QEMU after the deadline.
    pub fn shut_down(mut self, deadline: Duration) -> Result<Ending, WaitError> {
        let asked = self.power_button();
        if asked.is_ok() && self.wait_for_end(deadline).is_ok() {
            return Ok(Ending::Clean);
        }
        self.power_cut()?;
        Ok(Ending::Killed)
    }

    /// Resets the machine like the button of that name: at once, nothing is flushed.
    pub fn reset(&mut self) -> Result<(), QmpError> {
        self.qmp.execute("system_reset", &json!({})).map(drop)
    }

    /// Ends QEMU at once, wherever it is, and waits until its files are free again.
    pub fn power_cut(self) -> Result<(), WaitError> {
        self.kill()
    }

    /// Makes waits on this machine look again, from any thread.
    pub fn waker(&self) -> Waker {
        self.watch.waker()
    }

    /// QEMU's own control connection, for what has no method here.
    pub fn qmp(&mut self) -> &mut Qmp {
        &mut self.qmp
    }

    /// Leaves a [`Lifetime::Detached`] machine running; any other is ended.
    pub fn leave(self) {
        drop(self);
    }

    fn kill(&self) -> Result<(), WaitError> {
        // Fails only when it has ended already.
        let _ = pidfd_send_signal(&self.process, Signal::KILL);
        wait_readable(self.process.as_fd(), KILL_DEADLINE)
            .map_err(|reason| self.wait_error("the end of a killed QEMU", reason))?;
        self.wait_for_end(KILL_DEADLINE).map(drop)
    }

    fn wait_error(&self, what: &str, reason: String) -> WaitError {
        WaitError {
            machine: self.name.clone(),
            what: what.to_owned(),
            reason,
            log: self.endpoints.serial_log.display().to_string(),
            tail: self.watch.tail(),
        }
    }
}

impl Drop for Vm {
    fn drop(&mut self) {
        if self.lifetime == Lifetime::WithCaller && !self.look(|seen| seen.ended.is_some()) {
            // The kernel does it when this process ends, at the latest.
            let _ = self.kill();
        }
    }
}

/// Puts QEMU in a process group of its own, so that Ctrl-C at the terminal reaches only us, and
/// ties its life to ours or not.
pub(crate) fn wrap(command: &Command, lifetime: Lifetime) -> Command {
    let mut wrapped = match lifetime {
        Lifetime::WithCaller => {
            let mut setpriv = Command::new("setpriv");
            setpriv.args(["--pdeathsig", "KILL", "--"]).process_group(0);
            setpriv
        }
        // A session of its own: a terminal that closes takes nothing with it.
        Lifetime::Detached => Command::new("setsid"),
    };
    wrapped.arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => wrapped.env(name, value),
            None => wrapped.env_remove(name),
        };
    }
    if let Some(folder) = command.get_current_dir() {
        wrapped.current_dir(folder);
    }
    wrapped
}

fn make_private_folder(path: &Path) -> Result<(), LaunchError> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|source| LaunchError::Make {
            path: path.to_owned(),
            source,
        })
}

/// The log of the last run is often the one that is wanted.
fn keep_previous(log: &Path) -> Result<(), LaunchError> {
    let previous = log.with_extension("previous.log");
    match fs::rename(log, &previous) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(LaunchError::Make {
            path: previous,
            source: error,
        }),
        _ => Ok(()),
    }
}

fn listen(path: &Path) -> Result<UnixListener, LaunchError> {
    let make = |source| LaunchError::Make {
        path: path.to_owned(),
        source,
    };
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(make(error)),
        _ => {}
    }
    let listener = UnixListener::bind(path).map_err(make)?;
    listener.set_nonblocking(true).map_err(make)?;
    Ok(listener)
}

/// Waits for QEMU's call, or says what QEMU did instead.
fn accept(listener: &UnixListener, child: &mut Child) -> Result<UnixStream, String> {
    /// Between two looks at whether QEMU still runs.
    const STEP: Duration = Duration::from_millis(100);
    let end = Instant::now() + scaled(START_DEADLINE);
    loop {
        if wait_readable(listener.as_fd(), STEP).is_ok() {
            let (stream, _) = listener.accept().map_err(|error| error.to_string())?;
            stream
                .set_nonblocking(false)
                .map_err(|error| error.to_string())?;
            return Ok(stream);
        }
        if let Ok(Some(status)) = child.try_wait() {
            return Err(format!("ended at once ({status})"));
        }
        if Instant::now() > end {
            return Err(format!(
                "did not start within {} s",
                START_DEADLINE.as_secs()
            ));
        }
    }
}

pub(crate) fn wait_readable(
    fd: std::os::fd::BorrowedFd<'_>,
    deadline: Duration,
) -> Result<(), String> {
    let timeout = Timespec {
        tv_sec: i64::try_from(deadline.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(deadline.subsec_nanos()),
    };
    match poll(
        &mut [PollFd::from_borrowed_fd(fd, PollFlags::IN)],
        Some(&timeout),
    ) {
        Ok(0) => Err(format!("did not come within {} s", deadline.as_secs())),
        Ok(_) => Ok(()),
        Err(error) => Err(error.to_string()),
    }
}

fn spawn_readers(watch: &Watch, serial: SerialLog, host: UnixStream, mut child: Child) {
    let (serial_watch, qemu_ended) = (watch.clone(), Arc::new(AtomicBool::new(false)));
    let ended = Arc::clone(&qemu_ended);
    let serial_reader = thread::spawn(move || {
        serial.follow(&ended, |bytes| serial_watch.add_serial(bytes));
    });
    let host_watch = watch.clone();
    thread::spawn(move || {
        for line in BufReader::new(host).lines().map_while(Result::ok) {
            match HostMessage::parse(&line) {
                Ok(message) => host_watch.add_message(message),
                Err(error) => host_watch.add_serial(
                    format!("[runner] unreadable line on the host channel ({error}): {line}\n")
                        .as_bytes(),
                ),
            }
        }
    });
    let end_watch = watch.clone();
    thread::spawn(move || {
        let how = match child.wait() {
            Ok(status) => status.to_string(),
            Err(error) => error.to_string(),
        };
        qemu_ended.store(true, Ordering::Release);
        // The last words first: whoever waits for one must not see the end before it.
        let _ = serial_reader.join();
        end_watch.end(how);
    });
}

/// Reads `info usernet`: lines like
/// `TCP[HOST_FORWARD]  13  127.0.0.1 36133  10.0.2.15  6443  0  0`.
pub(crate) fn parse_forwards(table: &str) -> BTreeMap<u16, u16> {
    table
        .lines()
        .filter_map(|line| {
            let mut fields = line.split_whitespace();
            if fields.next()? != "TCP[HOST_FORWARD]" {
                return None;
            }
            let host_port = fields.nth(2)?.parse().ok()?;
            let guest_port = fields.nth(1)?.parse().ok()?;
            Some((guest_port, host_port))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forwarded_ports_are_found() {
        let table = "Hub -1 (net0):\n  Protocol[State]    FD  Source Address  Port   Dest. Address  Port RecvQ SendQ\n  TCP[HOST_FORWARD]  13       127.0.0.1 36133       10.0.2.15  6443     0     0\n  TCP[ESTABLISHED]   15       127.0.0.1 4000       10.0.2.15  22     0     0\n";
        assert_eq!(parse_forwards(table), BTreeMap::from([(6443, 36133)]));
        assert!(parse_forwards("").is_empty());
    }

    #[test]
    fn the_wrapped_command_keeps_everything() {
        let mut command = Command::new("qemu");
        command
            .args(["-m", "1"])
            .env("A", "b")
            .env_remove("C")
            .current_dir("/tmp");
        let wrapped = wrap(&command, Lifetime::WithCaller);
        let arguments: Vec<_> = wrapped.get_args().collect();
        assert_eq!(arguments, ["--pdeathsig", "KILL", "--", "qemu", "-m", "1"]);
        assert_eq!(wrapped.get_current_dir(), Some(Path::new("/tmp")));
        assert_eq!(wrapped.get_envs().count(), 2);
    }
}
