//! `keelson machined`: owns the configuration, the identity and the keys of the node.
//!
//! Starts when STATE is mounted (condition `storage`) and goes through these steps, each of which
//! may be repeated after a crash:
//!
//! 1. machine id: STATE, made once;
//! 2. configuration: STATE, a `keelson.yaml` on the firmware partition, else the defaults. A broken
//!    one leaves the node in maintenance: network by defaults, condition `maintenance`, no
//!    cluster, the firmware partition read again every 30 s;
//! 3. facts and files for others, then the conditions `network-config` (netd) and `config`;
//! 4. containerd's files, then `rendered-early`;
//! 5. once `network` and `time` hold: certificates, keys in `/run/keelson/secrets/<user>/`,
//!    component configurations in `/run/keelson/rendered/`, then `pki`;
//! 6. every hour: certificates that are due are renewed in place.
//!
//! One thread, two tasks: the daemon ([`daemon`]) and, where the machine's runner offers a virtio
//! port, the relay of kubeconfig and events to it ([`host_port`]). A watch channel carries the
//! kubeconfig from one to the other.

mod certificates;
mod configuration;
mod console;
mod daemon;
mod facts;
mod firmware;
mod host_port;
mod machine_id;
mod paths;
mod render;
mod source;

use std::io;
use std::path::Path;
use std::process::ExitCode;

use keelson_control::{AsyncClient, chain};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::daemon::Daemon;
use crate::firmware::FirmwarePartition;
use crate::paths::Paths;

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
        .build();
    match runtime {
        Ok(runtime) => runtime.block_on(serve()),
        Err(error) => {
            tracing::error!("cannot start the event loop: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn serve() -> ExitCode {
    let mut terminate = match signal(SignalKind::terminate()) {
        Ok(terminate) => terminate,
        Err(error) => {
            tracing::error!("cannot listen for SIGTERM: {error}");
            return ExitCode::FAILURE;
        }
    };
    let paths = Paths::new(Path::new("/"));
    let (sender, receiver) = watch::channel(None);
    let relay = host_port::relay(paths.clone(), receiver);
    let daemon = Daemon::new(paths.clone(), &FirmwarePartition, sender);
    tokio::select! {
        _ = terminate.recv() => ExitCode::SUCCESS,
        code = work(&paths, &daemon) => code,
        () = relay_for_ever(relay) => ExitCode::FAILURE,
    }
}

async fn work(paths: &Paths, daemon: &Daemon<'_>) -> ExitCode {
    let mut control = match AsyncClient::connect_to(&paths.control_socket()).await {
        Ok(control) => control,
        Err(error) => {
            tracing::error!("{}", chain(&error));
            return ExitCode::FAILURE;
        }
    };
    let Err(error) = daemon.run(&mut control).await;
    daemon::report(&mut control, &error).await;
    ExitCode::FAILURE
}

/// Without a port the relay ends at once; the daemon goes on.
async fn relay_for_ever(relay: impl Future<Output = ()>) {
    relay.await;
    std::future::pending::<()>().await;
}
