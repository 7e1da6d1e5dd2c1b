//! Floods: apid stays below its memory limit and answers others within a second.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body::Frame;
use keelson_apid::{Paths, listen, serve};
use support::authority::{Authority, Pair};
use support::client::{Client, Stalled, Way};
use support::machined::{FakeMachined, Frames};
use support::node::Files;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tonic::Code;

const VERSION: &str = "/keelson.node.v1alpha1.System/Version";
const STATUS: &str = "/keelson.node.v1alpha1.System/Status";
const KERNEL_LOG: &str = "/keelson.node.v1alpha1.Logs/Kernel";
const BUNDLE: &str = "/keelson.node.v1alpha1.System/SupportBundle";

/// Where the process under test finds its files.
const FOLDER: &str = "KEELSON_APID_TEST_FOLDER";

const IDLE: usize = 1000;
const BAD: usize = 10_000;
const WRONG_CERTIFICATE: usize = 500;
const MIB: usize = 1024 * 1024;

/// Attempts at a time, so that our own descriptors suffice.
const AT_A_TIME: usize = 50;

#[test]
fn floods_take_neither_memory_nor_time_from_others() {
    raise_descriptor_limit();
    let authority = Authority::new();
    let files = Files::new(&authority, "normal");
    let _machined = FakeMachined::start(&files.path("api.sock"));
    let mut apid = Process::start(&files);
    let way = |name, address| Way {
        to: apid.address,
        from: address,
        receive_buffer: None,
        trust: authority.certificate(),
        pair: Some(authority.person(name, "keelson:operator")),
    };
    let others = Others::start(way("ada", [127, 0, 0, 1]));
    let foreign = Authority::new().person("eve", "keelson:admin");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let start = Instant::now();
    let note = |what: &str| {
        let [peak, own] = ["VmHWM", "RssAnon"].map(|field| apid.status_kib(field));
        let time = start.elapsed();
        println!("{what}: {time:?}, at most {peak} KiB, now {own} KiB of its own");
    };
    runtime.block_on(async {
        note("quiet");
        let idle = idle_connections(&way("crowd", [127, 0, 2, 1])).await;
        note("idle connections");
        let _slow = slow_clients(&way("eve", [127, 0, 3, 1])).await;
        note("slow clients");
        let _unread = unread_answers(&way("mallory", [127, 0, 4, 1])).await;
        note("answers nobody reads");
        let _stalled = stalled_answers(&way("oscar", [127, 0, 8, 1])).await;
        note("answers not even a kernel reads");
        large_messages(&way("trudy", [127, 0, 5, 1])).await;
        note("messages of 64 MiB");
        bad_handshakes(&way("", [127, 0, 6, 1]), &foreign).await;
        note("bad handshakes");
        let living = idle.iter().filter(|client| !client.is_closed()).count();
        assert!(
            (100..=256).contains(&living),
            "{living} idle connections are open"
        );
    });
    let answers = others.stop();
    let peak = apid.status_kib("VmHWM");
    println!(
        "at most {peak} KiB; {} answers, the slowest after {:?}",
        answers.count, answers.slowest
    );
    assert!(answers.count > 20, "{} answers", answers.count);
    assert!(
        answers.slowest < Duration::from_secs(1),
        "{:?}",
        answers.slowest
    );
    let limit = memory_max() / 1024;
    assert!(peak < limit, "{peak} KiB used, the limit is {limit} KiB");
    let lines = apid.log_lines();
    assert!((1..1000).contains(&lines), "{lines} lines in the log");
}

/// The program that the test above starts: this one again.
#[test]
#[ignore = "runs in a process that the load test starts"]
fn process_under_test() {
    let Some(folder) = std::env::var_os(FOLDER).map(PathBuf::from) else {
        return;
    };
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .init();
    let paths = Paths {
        access: folder.join("access.json"),
        authorities: folder.join("api-ca.crt"),
        pair: folder.join("serving.pem"),
        machined: folder.join("api.sock"),
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let listener = listen(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let address = listener.local_addr().unwrap().to_string();
        std::fs::write(folder.join("address.new"), address).unwrap();
        std::fs::rename(folder.join("address.new"), folder.join("address")).unwrap();
        serve(&paths, listener, std::future::pending::<()>())
            .await
            .unwrap();
    });
}

/// Connections that are opened and say nothing more.
async fn idle_connections(way: &Way) -> Vec<Client> {
    let mut idle = Vec::new();
    while idle.len() < IDLE {
        idle.push(way.connect().await.unwrap());
    }
    idle
}

/// Handshakes that stop or trickle, and requests that do.
async fn slow_clients(way: &Way) -> JoinSet<()> {
    let mut slow = JoinSet::new();
    // First: nobody is known from this address, so its handshake would make room for the others.
    let client = way.connect().await.unwrap();
    for number in 0..100_u8 {
        let way = way.clone().from([127, 0, 3, number]);
        slow.spawn(async move {
            let mut stream = way.tcp().await.unwrap();
            let _ = stream.write_all(&[22, 3, 1, 2, 0]).await;
            while stream.write_all(&[1]).await.is_ok() {
                tokio::time::sleep(Duration::from_millis(300)).await;
            }
        });
    }
    for _ in 0..20 {
        let client = client.clone();
        let (sender, receiver) = mpsc::channel(1);
        slow.spawn(async move {
            let feed = async {
                let long = Bytes::from_static(&[0, 0, 32, 0, 0]);
                let _ = sender.send(Frame::data(long)).await;
                while sender
                    .send(Frame::data(Bytes::from_static(&[1])))
                    .await
                    .is_ok()
                {
                    tokio::time::sleep(Duration::from_millis(300)).await;
                }
            };
            let _ = tokio::join!(feed, client.feed(STATUS, Frames(Some(receiver))));
        });
    }
    // All at once they make room for each other, and would for whoever comes next.
    tokio::time::sleep(Duration::from_millis(500)).await;
    slow
}

/// Endless answers, none of them read; half of them in small pieces.
async fn unread_answers(way: &Way) -> Vec<(Client, http::Response<hyper::body::Incoming>)> {
    let mut unread = Vec::new();
    for method in [BUNDLE, KERNEL_LOG] {
        let client = way.connect_with(64 * 1024).await.unwrap();
        for _ in 0..12 {
            let response = client.open(method).await.unwrap();
            unread.push((client.clone(), response));
        }
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    unread
}

/// The same over connections that take nothing any more.
async fn stalled_answers(way: &Way) -> Vec<Stalled> {
    let mut stalled = Vec::new();
    let way = Way {
        receive_buffer: Some(16 * 1024),
        ..way.clone()
    };
    for number in 0..45 {
        let method = if number % 2 == 0 { BUNDLE } else { KERNEL_LOG };
        stalled.push(way.stalled(method).await.unwrap());
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    stalled
}

async fn large_messages(way: &Way) {
    let client = way.connect().await.unwrap();
    let message = vec![7; 64 * MIB];
    for _ in 0..3 {
        let answer = client.call(STATUS, &message).await.unwrap();
        assert_eq!(answer.code, Code::ResourceExhausted);
    }
    let largest = vec![7; 4 * MIB];
    for _ in 0..3 {
        let answer = client.call(STATUS, &largest).await.unwrap();
        assert_eq!(answer.code, Code::Ok);
    }
}

/// From a few addresses, most of which are shut out soon, and from many.
async fn bad_handshakes(way: &Way, foreign: &Pair) {
    let mut attempts = JoinSet::new();
    for number in 0..BAD {
        if attempts.len() >= AT_A_TIME {
            attempts.join_next().await;
        }
        // The even ones come from five addresses, the odd ones from many.
        let many = u8::try_from(number % 250).unwrap();
        let address = if number % 2 == 0 {
            [127, 0, 6, many % 5]
        } else {
            [127, 0, 7, many]
        };
        let mut way = way.clone().from(address);
        let every = BAD / WRONG_CERTIFICATE;
        if number % every == 0 {
            way.from = [127, 0, 9, u8::try_from(number / every % 250).unwrap()];
            way.pair = Some(foreign.clone());
            attempts.spawn(async move {
                if let Ok(client) = way.connect().await {
                    assert!(client.code(VERSION).await.is_err());
                }
            });
            continue;
        }
        attempts.spawn(async move {
            let Ok(mut stream) = way.tcp().await else {
                return;
            };
            if number % 3 != 0 {
                let _ = stream.write_all(&[0x16; 700]).await;
                let _ = stream.read(&mut [0; 64]).await;
            }
        });
    }
    while attempts.join_next().await.is_some() {}
}

/// A person who works on while others flood, in a thread of her own.
struct Others {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Answers>,
}

struct Answers {
    count: usize,
    slowest: Duration,
}

impl Others {
    fn start(way: Way) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(work(&way, &stopped))
        });
        Self { stop, thread }
    }

    fn stop(self) -> Answers {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}

/// Calls over one connection that lives all the time, and over a new one each time.
async fn work(way: &Way, stop: &AtomicBool) -> Answers {
    let mut answers = Answers {
        count: 0,
        slowest: Duration::ZERO,
    };
    let living = way.connect().await.unwrap();
    while !stop.load(Ordering::Relaxed) {
        let start = Instant::now();
        assert_eq!(living.code(VERSION).await.unwrap(), Code::Ok);
        answers.slowest = answers.slowest.max(start.elapsed());
        let start = Instant::now();
        let new = way.connect().await.unwrap();
        assert_eq!(new.code(VERSION).await.unwrap(), Code::Ok);
        answers.slowest = answers.slowest.max(start.elapsed());
        answers.count += 2;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    answers
}

/// apid in a process of its own.
struct Process {
    child: Child,
    log: PathBuf,
    address: SocketAddr,
}

impl Process {
    fn start(files: &Files) -> Self {
        let (log, address) = (files.path("log"), files.path("address"));
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "process_under_test", "--ignored", "--nocapture"])
            .env(FOLDER, log.parent().unwrap())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(&log).unwrap())
            .spawn()
            .unwrap();
        let start = Instant::now();
        while !address.exists() {
            assert!(
                start.elapsed() < Duration::from_secs(10),
                "it does not start"
            );
            std::thread::sleep(Duration::from_millis(20));
        }
        let address = std::fs::read_to_string(address).unwrap().parse().unwrap();
        Self {
            child,
            log,
            address,
        }
    }

    fn status_kib(&self, field: &str) -> u64 {
        let path = format!("/proc/{}/status", self.child.id());
        let status = std::fs::read_to_string(path).unwrap();
        let line = status.lines().find(|line| line.starts_with(field)).unwrap();
        let number = line.split_whitespace().nth(1).unwrap();
        number.parse().unwrap()
    }

    fn log_lines(&mut self) -> usize {
        std::fs::read_to_string(&self.log).unwrap().lines().count()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// As the node's service definition has it.
fn memory_max() -> u64 {
    let file = "../../rootfs/tree/usr/share/keelson/services/apid.yaml";
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
    let text = std::fs::read_to_string(path).unwrap();
    let definition = keelson_service::parse("apid.yaml", &text).unwrap();
    definition.resources.memory_max.unwrap()
}

/// Both ends of the connections count, and 1024 is what shells allow.
fn raise_descriptor_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        ..limit
    };
    setrlimit(Resource::Nofile, raised).unwrap();
}
