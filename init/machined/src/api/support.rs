//! The support archive: what a supporter asks for first, as text, secrets left out.

use std::fmt::Write as _;
use std::io;
use std::pin::Pin;
use std::time::SystemTime;

use keelson_api::v1alpha1::{Event, SupportBundleResponse};
use keelson_control::chain;
use keelson_observe::Root;
use keelson_observe::bundle::{Bundle, BundleError, Keep};
use keelson_observe::files::open_for_reading;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::codegen::tokio_stream::Stream;
use tonic::{Response, Status};

use super::system::SystemApi;

/// Bytes gathered before they are sent.
const CHUNK: usize = 32 * 1024;

/// Messages ready for a client that reads slowly.
const QUEUE: usize = 2;

/// Files of the kernel worth having.
const KERNEL_FILES: [&str; 14] = [
    "/proc/cmdline",
    "/proc/cpuinfo",
    "/proc/meminfo",
    "/proc/version",
    "/proc/interrupts",
    "/proc/softirqs",
    "/proc/vmstat",
    "/proc/diskstats",
    "/proc/loadavg",
    "/proc/pressure/cpu",
    "/proc/pressure/io",
    "/proc/pressure/memory",
    "/proc/net/snmp",
    "/proc/net/sockstat",
];

pub(super) type Chunks = Pin<Box<dyn Stream<Item = Result<SupportBundleResponse, Status>> + Send>>;

/// What is asked of others before the archive is written.
struct Told {
    node: String,
    version: String,
    status: String,
    health: String,
    services: Vec<(String, String)>,
    configuration: String,
    certificates: String,
    events: Vec<Event>,
    links: String,
    routes: String,
}

/// Starts to send it.
pub(super) async fn bundle(api: &SystemApi) -> Result<Response<Chunks>, Status> {
    let told = ask(api).await?;
    let root = api.node.machine();
    let (sender, receiver) = mpsc::channel(QUEUE);
    tokio::task::spawn_blocking(move || {
        let out = Sender {
            sender: sender.clone(),
            chunk: Vec::with_capacity(CHUNK),
        };
        let written = write(out, &root, &told)
            .and_then(|mut out| io::Write::flush(&mut out).map_err(BundleError::Write));
        if let Err(error) = written {
            // The client may have gone.
            let _ = sender.blocking_send(Err(Status::internal(chain(&error))));
        }
    });
    Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
}

async fn ask(api: &SystemApi) -> Result<Told, Status> {
    let pid1 = api.node.pid1_status().await?;
    let mut services = Vec::new();
    for service in &pid1.services {
        let described = match api.node.control().await?.describe(&service.name).await {
            Ok(detail) => format!("{detail:#?}\n"),
            Err(error) => format!("{}\n", chain(&error)),
        };
        services.push((service.name.clone(), described));
    }
    let status = api.node_status().await?;
    let links = keelson_observe::links().await;
    let routes = keelson_observe::routes().await;
    Ok(Told {
        node: status.node_name.clone(),
        version: or_error(super::build::version(&api.node.machine())),
        status: format!("{status:#?}\n"),
        health: or_error(api.judge().await),
        services,
        configuration: api.configuration.shown(true).await.map_or_else(
            |status| format!("# {}\n", status.message()),
            |shown| shown.yaml,
        ),
        certificates: or_error(api.certificates.known().await),
        events: api.node.events.watch().0,
        links: links.map_or_else(|error| chain(&error), |links| format!("{links:#?}\n")),
        routes: routes.map_or_else(|error| chain(&error), |routes| format!("{routes:#?}\n")),
    })
}

fn or_error<T: std::fmt::Debug>(answer: Result<T, Status>) -> String {
    match answer {
        Ok(value) => format!("{value:#?}\n"),
        Err(status) => format!("{}\n", status.message()),
    }
}

fn write<W: io::Write>(out: W, root: &Root, told: &Told) -> Result<W, BundleError> {
    let mut bundle = Bundle::new(out, "support", SystemTime::now())?;
    for (name, text) in [
        ("node.txt", &told.node),
        ("version.txt", &told.version),
        ("status.txt", &told.status),
        ("health.txt", &told.health),
        ("configuration.yaml", &told.configuration),
        ("certificates.txt", &told.certificates),
        ("links.txt", &told.links),
        ("routes.txt", &told.routes),
        ("events.txt", &events(&told.events)),
    ] {
        bundle.add_text(name, text)?;
    }
    for (name, text) in &told.services {
        bundle.add_text(&format!("services/{name}.txt"), text)?;
    }
    add_listing(
        &mut bundle,
        "processes.txt",
        keelson_observe::processes(root),
    )?;
    add_listing(&mut bundle, "cgroups.txt", keelson_observe::cgroups(root))?;
    add_listing(&mut bundle, "mounts.txt", keelson_observe::mounts(root))?;
    add_listing(&mut bundle, "disks.txt", keelson_observe::disks(root, None))?;
    add_listing(
        &mut bundle,
        "sockets.txt",
        keelson_observe::sockets(root, false),
    )?;
    for path in KERNEL_FILES {
        add_file(&mut bundle, root, path, Keep::Beginning)?;
    }
    add_kernel_log(&mut bundle, root)?;
    for (name, _) in &told.services {
        add_file(
            &mut bundle,
            root,
            &format!("/var/log/keelson/{name}.log"),
            Keep::End,
        )?;
    }
    add_file(&mut bundle, root, "/var/log/keelson/audit.log", Keep::End)?;
    bundle.finish()
}

fn events(events: &[Event]) -> String {
    let mut text = String::new();
    for event in events {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{} {} {}", event.time, event.kind, event.message);
    }
    text
}

fn add_listing<W: io::Write, T: std::fmt::Debug>(
    bundle: &mut Bundle<W>,
    name: &str,
    listing: Result<T, keelson_observe::ReadError>,
) -> Result<(), BundleError> {
    match listing {
        Ok(listing) => bundle.add_text(name, &format!("{listing:#?}\n"))?,
        Err(error) => bundle.add_failure(name, &error)?,
    };
    Ok(())
}

fn add_file<W: io::Write>(
    bundle: &mut Bundle<W>,
    root: &Root,
    path: &str,
    keep: Keep,
) -> Result<(), BundleError> {
    let name = format!("files{path}");
    match open_for_reading(root, path) {
        Ok(file) => bundle.add_file(&name, keep, file)?,
        Err(error) => bundle.add_failure(&name, &error)?,
    };
    Ok(())
}

fn add_kernel_log<W: io::Write>(bundle: &mut Bundle<W>, root: &Root) -> Result<(), BundleError> {
    let mut text = String::new();
    let read = keelson_observe::KernelLog::open(root, 0).and_then(|mut log| {
        while let Some(line) = log.next_line()? {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{} {} {}", line.time, line.level, line.text);
        }
        Ok(())
    });
    bundle.add_text("kernel.log", &text)?;
    if let Err(error) = read {
        bundle.add_failure("kernel.log", &error)?;
    }
    Ok(())
}

/// Passes what is written on to the client; waits while the client is slow.
struct Sender {
    sender: mpsc::Sender<Result<SupportBundleResponse, Status>>,
    chunk: Vec<u8>,
}

impl io::Write for Sender {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let room = CHUNK.saturating_sub(self.chunk.len());
        let part = bytes.get(..room).unwrap_or(bytes);
        self.chunk.extend_from_slice(part);
        if self.chunk.len() == CHUNK {
            self.flush()?;
        }
        Ok(part.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.chunk.is_empty() {
            return Ok(());
        }
        let chunk = std::mem::replace(&mut self.chunk, Vec::with_capacity(CHUNK));
        self.sender
            .blocking_send(Ok(SupportBundleResponse { chunk }))
            .map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}
