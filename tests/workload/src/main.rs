//! `keelson-workload`: everything a suite wants done inside a pod, in one static program.
//!
//! ```text
//! serve PORT             HTTP: / greets, /hostname, /echo/TEXT
//! fetch URL              prints the body of http://NAME[:PORT]/PATH
//! lookup NAME            prints its addresses
//! sleep SECONDS
//! write FILE TEXT        written and flushed to the disk
//! read FILE
//! fill FILE [SECONDS]    takes all the space that is left, gives it back after that time
//! pid SERVICE            main process of a service of the node
//! kill SERVICE           SIGKILL to it
//! stop SERVICE           SIGSTOP to it
//! chaos SECONDS SEED     both, at random, and a JSON report of how long each service was away
//! freeze PID             stops a process, PID 1 too, by a cgroup of its own
//! hold MIB SECONDS       takes memory and keeps it
//! starve MIB SECONDS     makes memory short for the machine until somebody makes room: so much is left
//! set-clock SECONDS      sets the machine's clock to a time since 1970
//! inspect [NAME:UID:GID ...]   JSON report of the node
//! ```
//! `pid`, `kill`, `stop`, `chaos`, `freeze` and `inspect` want the node's process namespace; the last
//! three of them and `starve` want its root at /host, `set-clock` the right to do it.

mod chaos;
mod http;
mod inspect;
mod memory;
mod processes;
mod secrets;

use std::fs::{self, File};
use std::io::{self, Write};
use std::net::ToSocketAddrs;
use std::path::Path;
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use rustix::fs::{FallocateFlags, fallocate};
use rustix::process::Signal;
use rustix::time::{ClockId, Timespec, clock_settime};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("keelson-workload {}: {error}", arguments.join(" "));
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &[&str]) -> io::Result<()> {
    match arguments {
        ["serve", port] => http::serve(port.parse().map_err(io::Error::other)?),
        ["fetch", url] => {
            io::stdout().write_all(&http::fetch(url)?)?;
            Ok(())
        }
        ["lookup", name] => {
            for address in (*name, 0).to_socket_addrs()? {
                println!("{}", address.ip());
            }
            Ok(())
        }
        ["sleep", seconds] => {
            thread::sleep(duration(seconds)?);
            Ok(())
        }
        ["write", path, text] => {
            let mut file = File::create(path)?;
            file.write_all(text.as_bytes())?;
            file.sync_all()
        }
        ["read", path] => {
            print!("{}", fs::read_to_string(path)?);
            Ok(())
        }
        ["fill", path] => fill(path),
        ["fill", path, seconds] => {
            let time = duration(seconds)?;
            fill(path)?;
            thread::sleep(time);
            fs::remove_file(path)
        }
        ["pid", service] => {
            println!("{}", main_process(service)?);
            Ok(())
        }
        ["kill", service] => {
            let pid = main_process(service)?;
            chaos::send(pid, Signal::KILL)?;
            println!("{pid}");
            Ok(())
        }
        ["stop", service] => {
            let pid = main_process(service)?;
            chaos::send(pid, Signal::STOP)?;
            println!("{pid}");
            Ok(())
        }
        ["chaos", seconds, seed] => {
            let seed = seed.parse().map_err(io::Error::other)?;
            let report = chaos::run(duration(seconds)?, seed)?;
            println!("{}", serde_json::to_string(&report)?);
            Ok(())
        }
        ["freeze", pid] => {
            let cgroup = Path::new("/host/sys/fs/cgroup/frozen-by-a-test");
            fs::create_dir(cgroup)?;
            fs::write(cgroup.join("cgroup.procs"), pid)?;
            fs::write(cgroup.join("cgroup.freeze"), "1")
        }
        ["hold", mib, seconds] => memory::hold(number(mib)?, duration(seconds)?),
        ["starve", mib, seconds] => memory::starve(number(mib)?, duration(seconds)?),
        // For `starve`.
        [memory::STALL, seconds] => memory::stall(duration(seconds)?),
        ["set-clock", seconds] => {
            let tv_sec = seconds.parse().map_err(io::Error::other)?;
            let time = Timespec { tv_sec, tv_nsec: 0 };
            Ok(clock_settime(ClockId::Realtime, time)?)
        }
        ["inspect", users @ ..] => {
            let report = inspect::report(users)?;
            println!("{}", serde_json::to_string(&report)?);
            Ok(())
        }
        // For `inspect`, as the user it wants to know about.
        [secrets::TRY_READ, files @ ..] => {
            println!("{}", serde_json::to_string(&secrets::readable(files))?);
            Ok(())
        }
        _ => Err(io::Error::other("unknown command; the source lists them")),
    }
}

fn duration(seconds: &str) -> io::Result<Duration> {
    Ok(Duration::from_secs(number(seconds)?))
}

fn number(text: &str) -> io::Result<u64> {
    text.parse().map_err(io::Error::other)
}

fn main_process(service: &str) -> io::Result<u32> {
    chaos::main_process(service)?
        .map(|process| process.pid)
        .ok_or_else(|| io::Error::other(format!("no process of {service}")))
}

/// Takes space in smaller and smaller pieces until not even one block is left.
fn fill(path: &str) -> io::Result<()> {
    let file = File::create(path)?;
    let mut taken: u64 = 0;
    let mut piece: u64 = 1 << 30;
    while piece >= 4096 {
        match fallocate(&file, FallocateFlags::empty(), taken, piece) {
            Ok(()) => taken += piece,
            Err(rustix::io::Errno::NOSPC) => piece /= 2,
            Err(error) => return Err(error.into()),
        }
    }
    println!("{taken}");
    Ok(())
}
