//! Kills and stops the node's services at random and measures how long each needs to serve again.
//!
//! First every service is restarted alone, twice, for its own cold start. Then, for the time
//! given, one service after the other gets SIGKILL or SIGSTOP, and PID 1's events say when it was
//! started again and when it was ready. Prints one [`ChaosReport`] as JSON at the end.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use keelson_control::{Client, Event, ServiceState};
use keelson_workload::{ChaosReport, Outage, Process};
use rustix::process::{Pid, Signal, kill_process};

use crate::processes;

const CONTROL_SOCKET: &str = "/host/run/keelson/control.sock";

/// Cold starts measured of each service; the longest counts.
const COLD_STARTS: usize = 2;

/// The slowest, the API server, needs half a minute under emulation.
const BACK: Duration = Duration::from_secs(240);

/// At least so long between two disturbances.
const PAUSE_MS: std::ops::Range<u64> = 500..3000;

/// At most so long for the machine to come to rest after a start: a service that starts while
/// others still catch up is not alone, as it was when its cold start was measured.
const REST: Duration = Duration::from_secs(8);

/// At rest, the processors idle for this part of the time.
const IDLE_PERCENT: u64 = 50;

/// Over so long.
const IDLE_SAMPLE: Duration = Duration::from_millis(500);

/// What is done to a process.
const DISTURBANCES: [(&str, Signal); 2] = [("SIGKILL", Signal::KILL), ("SIGSTOP", Signal::STOP)];

/// Runs; `seed` makes the order repeatable.
pub(crate) fn run(duration: Duration, seed: u64) -> io::Result<ChaosReport> {
    let changes = watch()?;
    let mut client = Client::connect_to(Path::new(CONTROL_SOCKET)).map_err(io::Error::other)?;
    let status = client.status().map_err(io::Error::other)?;
    let mut states: BTreeMap<String, ServiceState> = status
        .services
        .into_iter()
        .map(|service| (service.name, service.state))
        .collect();
    states.retain(|_, state| *state == ServiceState::Ready);
    let services: Vec<String> = states.into_keys().collect();
    let cgroups = cgroups()?;

    let mut cold_start_ms = BTreeMap::new();
    for service in services.iter().cycle().take(services.len() * COLD_STARTS) {
        rest()?;
        client.restart(service).map_err(io::Error::other)?;
        let took = wait_until_back(&changes, service)?.cold_start_ms();
        let longest = cold_start_ms.entry(service.clone()).or_insert(0);
        *longest = took.max(*longest);
        eprintln!("{service} starts in {took} ms");
    }

    let mut dice = Dice(seed | 1);
    let mut outages = Vec::new();
    let mut bag = Vec::new();
    let begin = Instant::now();
    while begin.elapsed() < duration {
        rest()?;
        if bag.is_empty() {
            // Everything once before anything twice: the slow ones would take all the time.
            bag = services
                .iter()
                .flat_map(|service| DISTURBANCES.map(|(name, signal)| (service, name, signal)))
                .collect();
        }
        let (service, name, signal) = bag.swap_remove(dice.below(bag.len()));
        let Some(process) = main_process(service)? else {
            return Err(io::Error::other(format!("{service} has no process")));
        };
        let at_ms = uptime_ms()?;
        send(process.pid, signal)?;
        let back = wait_until_back(&changes, service)?;
        let outage = Outage {
            service: service.clone(),
            signal: name.to_owned(),
            started_after_ms: back.starting_ms.saturating_sub(at_ms),
            ready_after_ms: back.ready_ms.saturating_sub(at_ms),
        };
        eprintln!("{outage:?}");
        outages.push(outage);
        thread::sleep(Duration::from_millis(
            PAUSE_MS.start + dice.roll() % (PAUSE_MS.end - PAUSE_MS.start),
        ));
    }
    Ok(ChaosReport {
        cold_start_ms,
        outages,
        orphans: orphans()?,
        new_cgroups: self::cgroups()?
            .into_iter()
            .filter(|group| !cgroups.contains(group))
            .collect(),
    })
}

/// One state of a service.
struct Change {
    service: String,
    state: ServiceState,
    since_ms: u64,
}

/// When a service was started and when it was ready.
struct Back {
    starting_ms: u64,
    ready_ms: u64,
}

impl Back {
    fn cold_start_ms(&self) -> u64 {
        self.ready_ms.saturating_sub(self.starting_ms)
    }
}

/// PID 1's events; the first ones say what holds.
fn watch() -> io::Result<Receiver<Change>> {
    let client = Client::connect_to(Path::new(CONTROL_SOCKET)).map_err(io::Error::other)?;
    let events = client.subscribe().map_err(io::Error::other)?;
    let (sender, receiver) = channel();
    thread::spawn(move || {
        for event in events {
            if let Ok(Event::Service(status)) = event {
                let change = Change {
                    service: status.name,
                    state: status.state,
                    since_ms: status.since_ms,
                };
                if sender.send(change).is_err() {
                    return;
                }
            }
        }
    });
    // What holds already comes at once.
    thread::sleep(Duration::from_secs(1));
    while receiver.try_recv().is_ok() {}
    Ok(receiver)
}

fn wait_until_back(changes: &Receiver<Change>, service: &str) -> io::Result<Back> {
    let begin = Instant::now();
    let mut starting_ms = None;
    loop {
        let left = BACK.saturating_sub(begin.elapsed());
        let change = match changes.recv_timeout(left) {
            Ok(change) => change,
            Err(RecvTimeoutError::Timeout) => {
                return Err(io::Error::other(format!(
                    "{service} did not come back within {} s",
                    BACK.as_secs()
                )));
            }
            Err(RecvTimeoutError::Disconnected) => {
                return Err(io::Error::other("PID 1 closed the stream of events"));
            }
        };
        if change.service != service {
            continue;
        }
        match (change.state, starting_ms) {
            (ServiceState::Starting, _) => starting_ms = Some(change.since_ms),
            (ServiceState::Ready, Some(starting_ms)) => {
                return Ok(Back {
                    starting_ms,
                    ready_ms: change.since_ms,
                });
            }
            _ => {}
        }
    }
}

/// Waits until the processors are mostly idle, but not for ever.
fn rest() -> io::Result<()> {
    let begin = Instant::now();
    let mut before = Ticks::read()?;
    while begin.elapsed() < REST {
        thread::sleep(IDLE_SAMPLE);
        let now = Ticks::read()?;
        let all = now.all.saturating_sub(before.all);
        if now.idle.saturating_sub(before.idle) * 100 >= all * IDLE_PERCENT {
            break;
        }
        before = now;
    }
    Ok(())
}

/// What all processors did since the kernel started, in its ticks.
struct Ticks {
    idle: u64,
    all: u64,
}

impl Ticks {
    /// The first line of /proc/stat: `cpu user nice system idle iowait …` (proc_stat(5)).
    fn read() -> io::Result<Self> {
        let stat = std::fs::read_to_string("/proc/stat")?;
        let line = stat.lines().next().unwrap_or_default();
        let ticks: Vec<u64> = line
            .split_whitespace()
            .skip(1)
            .map_while(|word| word.parse().ok())
            .collect();
        let idle = ticks.get(3).copied();
        Ok(Self {
            idle: idle.ok_or_else(|| io::Error::other(format!("/proc/stat: {line:?}")))?,
            all: ticks.iter().sum(),
        })
    }
}

/// PID 1 starts every service in a cgroup of its own, and is the parent of its main process.
pub(crate) fn main_process(service: &str) -> io::Result<Option<Process>> {
    let suffix = format!("/keelson/{service}");
    Ok(processes::all()?
        .into_iter()
        .find(|process| process.parent == 1 && process.cgroup.ends_with(&suffix)))
}

/// Processes in a service's cgroup that its main process does not know of.
fn orphans() -> io::Result<Vec<String>> {
    let processes = processes::all()?;
    let mut mains: BTreeMap<&str, u32> = BTreeMap::new();
    let mut orphans = Vec::new();
    for process in processes.iter().filter(|process| process.parent == 1) {
        // The path is as our own cgroup namespace sees it: it may begin with /../..
        let Some((_, service)) = process.cgroup.rsplit_once("/keelson/") else {
            continue;
        };
        // Shims outlive containerd on purpose.
        if service != "shims" && mains.insert(service, process.pid).is_some() {
            orphans.push(format!("{} ({})", process.name, process.cgroup));
        }
    }
    Ok(orphans)
}

/// Cgroups of the node's own services.
fn cgroups() -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir("/host/sys/fs/cgroup/keelson")? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            names.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    names.sort();
    Ok(names)
}

pub(crate) fn send(pid: u32, signal: Signal) -> io::Result<()> {
    let raw = i32::try_from(pid).map_err(io::Error::other)?;
    let pid = Pid::from_raw(raw).ok_or(io::ErrorKind::InvalidData)?;
    Ok(kill_process(pid, signal)?)
}

/// Since the kernel started, on the clock of PID 1's events (CLOCK_BOOTTIME).
fn uptime_ms() -> io::Result<u64> {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    let seconds = u64::try_from(time.tv_sec).map_err(io::Error::other)?;
    let millis = u64::try_from(time.tv_nsec / 1_000_000).map_err(io::Error::other)?;
    Ok(seconds * 1000 + millis)
}

/// xorshift64: repeatable, and good enough to choose.
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, count: usize) -> usize {
        let count = u64::try_from(count).unwrap_or(u64::MAX).max(1);
        usize::try_from(self.roll() % count).unwrap_or(0)
    }
}
