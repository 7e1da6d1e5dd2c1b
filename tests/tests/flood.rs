//! A flood of connections: whoever has a certificate gets through, and apid keeps its limits.
//!
//! QEMU brings everything from the host to the node from one address, so the flood and the people
//! look like neighbours. What apid makes of an address with both is in `init/apid/src/limits.rs`.

use std::fs;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::process::Child;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use keelson_qemu::scaled;
use keelson_tests::{Keelsonctl, Lines, Node, saved};

/// For one answer of an emulated node that has a lot to do.
const ANSWER: Duration = Duration::from_secs(5);

/// How long apid turns an address away that had too many bad handshakes, if it must.
const SHUT_OUT: Duration = Duration::from_secs(10);

/// More than four times the handshakes that apid has under way at a time.
const IDLE: usize = 300;

const BAD: usize = 500;

/// Bad handshakes at a time: more than apid allows an address that has misbehaved.
const AT_A_TIME: usize = 8;

/// What is no greeting in TLS.
const GARBAGE: &[u8] = b"GET / HTTP/1.1\r\nHost: node\r\n\r\n";

/// The first bytes of a greeting in TLS that would have 512 bytes.
const GREETING: &[u8] = &[0x16, 0x03, 0x01, 0x02, 0x00, 0x01, 0x00, 0x01, 0xfc];

/// A configuration below the longest message (4 MiB), and how many are sent at a time.
const LARGE_BYTES: usize = 3900 << 10;
const LARGE: usize = 8;

/// Sending all of them at once.
const SENT: Duration = Duration::from_secs(120);

/// keelsonctl's exit code for "no".
const FAILED: i32 = 1;

#[test]
fn a_flood_takes_neither_the_node_api_nor_its_memory() {
    saved::with_operated_node("flood", |node, _, keelsonctl| {
        let port = node.node_api_port()?;
        let services = keelsonctl.services()?;
        // Somebody with a certificate is connected from the address that floods.
        let mut events = Lines::of(keelsonctl.spawn(&["events", "--watch"])?)?;
        events.wait_for(&[""])?;

        let idle = (0..IDLE)
            .map(|_| TcpStream::connect(("127.0.0.1", port)))
            .collect::<io::Result<Vec<_>>>()?;
        let slow = SlowClient::start(port);
        gets_through(keelsonctl, "idle connections")?;
        gets_through(keelsonctl, "a slow client")?;

        let flood = Flood::start(port);
        while flood.goes_on() {
            gets_through(keelsonctl, "bad handshakes")?;
        }
        let turned_away = flood.end()?;
        println!("{turned_away} of {BAD} bad handshakes were answered by an end");
        gets_through(keelsonctl, "what was a flood")?;
        large_messages(node, keelsonctl)?;
        ensure!(slow.stop() > 1, "apid let a slow client be");
        drop(idle);

        ensure!(
            keelsonctl.services()? == services,
            "services were {services:?}, now {:?}",
            keelsonctl.services()?
        );
        let cgroup = keelsonctl.cgroup("apid")?;
        let number = |value: &serde_json::Value| value.as_u64().context("no number");
        let peak = number(&cgroup["usage"]["memoryPeakBytes"])?;
        let limit = number(&cgroup["memoryMaxBytes"])?;
        println!("apid: at most {} KiB of {}", peak >> 10, limit >> 10);
        ensure!(peak > 0 && peak < limit, "{cgroup}");
        ensure!(cgroup["usage"]["oomKills"] == 0, "{cgroup}");
        keelsonctl.run(&["kubeconfig"])?;
        events
            .wait_for(&["read the kubeconfig"])
            .context("the stream that was open all the time")?;
        events.still_running()
    });
}

/// A call is answered: at once, or after its address was shut out for the time that is said.
fn gets_through(keelsonctl: &Keelsonctl, meanwhile: &str) -> anyhow::Result<()> {
    let begin = Instant::now();
    let mut attempts = 0;
    loop {
        attempts += 1;
        let output = keelsonctl.output(&["status"], SHUT_OUT + ANSWER)?;
        let took = begin.elapsed();
        if output.status.success() {
            println!("{meanwhile}: an answer after {took:?}, attempt {attempts}");
            ensure!(
                took < scaled(if attempts == 1 {
                    ANSWER
                } else {
                    SHUT_OUT + ANSWER
                }),
                "{meanwhile}: an answer only after {took:?}"
            );
            return Ok(());
        }
        ensure!(
            took < scaled(SHUT_OUT + ANSWER),
            "{meanwhile}: no answer in {took:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        thread::sleep(Duration::from_millis(250));
    }
}

/// Configurations far longer than any, all at once; each is refused in words.
fn large_messages(node: &Node, keelsonctl: &Keelsonctl) -> anyhow::Result<()> {
    let path = node.folder().path().join("large.yaml");
    let line = "# nothing but a comment, again and again\n";
    fs::write(&path, line.repeat(LARGE_BYTES / line.len()))?;
    let path = path.to_string_lossy();
    let begin = Instant::now();
    let senders = (0..LARGE)
        .map(|_| keelsonctl.spawn(&["config", "validate", "-f", &path]))
        .collect::<anyhow::Result<Vec<_>>>()?;
    for mut sender in senders {
        let code = ends_by(&mut sender, begin + scaled(SENT))?;
        ensure!(code == Some(FAILED), "a large message ended with {code:?}");
    }
    println!("{LARGE} large messages took {:?}", begin.elapsed());
    gets_through(keelsonctl, "large messages that were sent")
}

fn ends_by(child: &mut Child, end: Instant) -> anyhow::Result<Option<i32>> {
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status.code());
        }
        if Instant::now() > end {
            child.kill()?;
            child.wait()?;
            anyhow::bail!("a large message was neither taken nor refused");
        }
        thread::sleep(Duration::from_millis(100));
    }
}

/// Bad handshakes, one after the other in each of some threads.
struct Flood {
    threads: Vec<JoinHandle<usize>>,
}

impl Flood {
    fn start(port: u16) -> Self {
        let begun = Arc::new(AtomicUsize::new(0));
        let threads = (0..AT_A_TIME)
            .map(|number| {
                let begun = Arc::clone(&begun);
                let said = if number % 2 == 0 { GARBAGE } else { GREETING };
                thread::spawn(move || {
                    let mut ended = 0;
                    while begun.fetch_add(1, Ordering::Relaxed) < BAD {
                        // The other side may end it at any moment, and that is its answer.
                        ended += usize::from(bad_handshake(port, said).unwrap_or(true));
                    }
                    ended
                })
            })
            .collect();
        Self { threads }
    }

    fn goes_on(&self) -> bool {
        self.threads.iter().any(|thread| !thread.is_finished())
    }

    /// How many were ended by the node.
    fn end(self) -> anyhow::Result<usize> {
        let mut ended = 0;
        for thread in self.threads {
            ended += thread
                .join()
                .map_err(|_| anyhow::anyhow!("a thread of the flood panicked"))?;
        }
        ensure!(ended * 2 > BAD, "the node ended {ended} of {BAD}");
        Ok(ended)
    }
}

/// Whether the node ended it.
fn bad_handshake(port: u16, said: &[u8]) -> io::Result<bool> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(Duration::from_millis(500)))?;
    stream.write_all(said)?;
    let mut answer = Vec::new();
    match stream.read_to_end(&mut answer) {
        // Nothing yet: the next one.
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
        other => other.map(|_| true),
    }
}

/// Says a byte a second, and comes back when it was sent away.
struct SlowClient {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<usize>,
}

impl SlowClient {
    fn start(port: u16) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            let mut connections = 0;
            while !told.load(Ordering::Relaxed) {
                connections += 1;
                let trickle = |mut stream: TcpStream| {
                    for byte in GREETING.iter().cycle() {
                        if told.load(Ordering::Relaxed) || stream.write_all(&[*byte]).is_err() {
                            return;
                        }
                        thread::sleep(Duration::from_secs(1));
                    }
                };
                if let Ok(stream) = TcpStream::connect(("127.0.0.1", port)) {
                    trickle(stream);
                }
            }
            connections
        });
        Self { stop, thread }
    }

    /// Ends it; how often it was connected.
    fn stop(self) -> usize {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap_or(0)
    }
}
