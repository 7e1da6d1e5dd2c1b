//! `keelson machined`: owns the configuration, the identity and the keys of the node, and serves
//! the node API.
//!
//! Starts when STATE is mounted (condition `storage`). One thread, these tasks:
//!
//! - the daemon ([`daemon`]): brings machine id, configuration, certificates, files for others and
//!   limits in line with the configuration, raises conditions, and takes requests from a queue;
//! - the API ([`api`]): accepts calls from apid on a unix socket, asks PID 1, the kernel and the
//!   daemon, writes audit lines;
//! - upgrades ([`upgrade`]): the other slot, trials and what becomes of them; writes through a
//!   thread of its own, and asks for a reboot;
//! - the events of PID 1, turned into those of the API ([`api::events`]);
//! - where the machine's runner offers a virtio port, the relay of kubeconfig, context and events
//!   to it ([`host_port`]);
//! - a keepalive to PID 1, from the same thread: a daemon that hangs is started again.
//!
//! Watch channels carry the kubeconfig and the runner's context from the daemon to the others.

mod api;
mod certificates;
mod configuration;
mod console;
mod daemon;
mod facts;
mod firmware;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod health_gate;
mod host_port;
mod machine_id;
mod paths;
mod render;
mod source;
mod upgrade;

use std::io;
use std::path::Path;
use std::process::ExitCode;

use keelson_control::{AsyncClient, chain, notify};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::api::Api;
use crate::api::events::Hub;
use crate::daemon::{Parts, ThisMachine};
use crate::firmware::FirmwarePartition;
use crate::paths::Paths;

/// Threads that read files for callers; more callers wait. The service may have 128 processes, and
/// tokio does not survive that a thread cannot be started.
const BLOCKING_THREADS: usize = 16;

/// Runs the daemon until SIGTERM.
#[must_use]
pub fn run(mut args: impl Iterator<Item = String>) -> ExitCode {
    if let Some(argument) = args.next() {
        eprintln!("keelson machined takes no arguments, but was given {argument:?}");
        return ExitCode::from(2);
    }
    // Fails when the multi-call binary has installed a subscriber already, which is as good.
    let _ = tracing_subscriber::fmt()
        .with_writer(io::stderr)
        .with_ansi(false)
        .with_target(false)
        .without_time()
        .try_init();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(BLOCKING_THREADS)
        .build();
    match runtime {
        Ok(runtime) => match runtime.block_on(serve()) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                tracing::error!("{}", chain(&error));
                ExitCode::FAILURE
            }
        },
        Err(error) => {
            tracing::error!("cannot start the event loop: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Why machined ends.
#[derive(Debug, thiserror::Error)]
enum ServeError {
    #[error(transparent)]
    Control(#[from] keelson_control::ClientError),
    #[error(transparent)]
    Daemon(#[from] daemon::DaemonError),
    #[error(transparent)]
    Listen(#[from] api::server::ListenError),
    #[error("cannot watch the machine")]
    Machine(#[source] io::Error),
    #[error("cannot listen for SIGTERM")]
    Signal(#[source] io::Error),
}

async fn serve() -> Result<(), ServeError> {
    let mut terminate: Signal = signal(SignalKind::terminate()).map_err(ServeError::Signal)?;
    let paths = Paths::new(Path::new("/"));
    let events = Hub::default();
    let (handle, inbox) = daemon::channel();
    let machine = ThisMachine::open(paths.links()).map_err(ServeError::Machine)?;
    let parts = Parts::new(
        paths.clone(),
        &FirmwarePartition,
        machine,
        inbox,
        events.clone(),
    );
    let (upgrades, orders) = upgrade::channel();
    let kubeconfig = parts.kubeconfig.subscribe();
    let api = Api::listen(&paths, handle, upgrades, events.clone(), kubeconfig)?;
    let news = host_port::News {
        kubeconfig: parts.kubeconfig.subscribe(),
        context: parts.context.subscribe(),
    };
    let mut control = AsyncClient::connect_to(&paths.control_socket()).await?;
    tokio::select! {
        _ = terminate.recv() => Ok(()),
        Err(error) = daemon::run(parts, &mut control) => {
            daemon::report(&mut control, &error).await;
            Err(error.into())
        }
        () = api.serve() => Ok(()),
        () = upgrade::run(&paths, events.clone(), orders) => Ok(()),
        () = events.watch_pid1(paths.control_socket()) => Ok(()),
        () = for_ever(host_port::relay(paths.clone(), news)) => Ok(()),
        () = notify::keep_alive() => Ok(()),
    }
}

/// For work that may end without anything being wrong.
async fn for_ever(work: impl Future<Output = ()>) {
    work.await;
    std::future::pending::<()>().await;
}
