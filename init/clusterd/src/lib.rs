//! `keelson clusterd`: what a controller does for its cluster through the Kubernetes API.
//!
//! One thread, four tasks that share one [`keelson_kubeclient::Client`] and never wait for
//! each other:
//! - `apply`: applies the manifests of the image (server-side apply), again after failures and
//!   from time to time; raises `manifests-applied`.
//! - `approve`: approves the kubelets' requests for serving certificates, by the rule in
//!   [`serving_request`].
//! - `pod_cidr`: gives every node its part of the pod network.
//! - `observe`: watches this node and the system's Deployments; raises `node-ready` and stamps
//!   `system-pods-ready`.
//!
//! It runs unprivileged, needs a ready API server to be started, reads the manifests and its
//! own certificate and writes nothing. Facts come from PID 1.

#![forbid(unsafe_code)]

mod apply;
mod approve;
mod manifest;
mod observe;
mod options;
mod pod_cidr;
mod serving_request;

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::Duration;

use keelson_config::Cidr;
use keelson_control::{AsyncClient, chain, notify};
use keelson_kubeclient::{Client, Server};
use keelson_tls::Identity;
use thiserror::Error;
use tokio::signal::unix::{SignalKind, signal};

use options::{Options, OptionsError};

/// Which boot this is, as kubelet reports it too.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// Runs until it is told to stop.
pub fn run(args: impl Iterator<Item = String>) -> ExitCode {
    match start(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{}", chain(&error));
            ExitCode::FAILURE
        }
    }
}

/// Why clusterd ends.
#[derive(Debug, Error)]
enum RunError {
    #[error("the arguments are not usable")]
    Options(#[source] OptionsError),
    #[error("the client for the API server cannot be made")]
    Client(#[source] keelson_kubeclient::ConfigureError),
    #[error("the tokio runtime or a signal handler cannot be made")]
    Runtime(#[source] std::io::Error),
    #[error("cannot read {BOOT_ID}")]
    BootId(#[source] std::io::Error),
    #[error("PID 1 does not answer")]
    Control(#[source] keelson_control::ClientError),
    #[error("PID 1 knows no fact pod-cidr that is an address range")]
    PodNetwork,
    #[error("the manifests of the image cannot be read")]
    Manifests(#[source] manifest::LoadError),
}

fn start(args: impl Iterator<Item = String>) -> Result<(), RunError> {
    let options = Options::parse(args).map_err(RunError::Options)?;
    let identity = Identity {
        certificate: &options.certificate,
        key: &options.key,
    };
    let server = Server::parse(&options.server).map_err(RunError::Client)?;
    let client = Client::new(server, &options.ca, identity).map_err(RunError::Client)?;
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(RunError::Runtime)?
        .block_on(serve(&options, &client))
}

async fn serve(options: &Options, client: &Client) -> Result<(), RunError> {
    let mut terminate = signal(SignalKind::terminate()).map_err(RunError::Runtime)?;
    let status = match AsyncClient::connect().await {
        Ok(mut control) => control.status().await,
        Err(error) => Err(error),
    };
    let facts = status.map_err(RunError::Control)?.facts;
    let objects = manifest::load(&options.manifests, &facts).map_err(RunError::Manifests)?;
    let pod_network = pod_network(&facts)?;
    let boot_id = std::fs::read_to_string(BOOT_ID).map_err(RunError::BootId)?;
    let deployments = manifest::deployments(&objects);
    tokio::select! {
        _ = terminate.recv() => {}
        () = notify::keep_alive() => {}
        () = apply::keep_applied(client, &objects) => {}
        () = approve::approve_requests(client) => {}
        () = pod_cidr::allocate(client, &pod_network) => {}
        () = observe::node(client, &options.node, boot_id.trim()) => {}
        () = observe::system_deployments(client, &deployments) => {}
    }
    Ok(())
}

fn pod_network(facts: &BTreeMap<String, String>) -> Result<Cidr, RunError> {
    facts
        .get("pod-cidr")
        .and_then(|text| text.parse().ok())
        .ok_or(RunError::PodNetwork)
}

/// How long a condition is repeated to a PID 1 that does not take it.
const CONTROL_RETRY: Duration = Duration::from_secs(2);

/// Tells PID 1 something, again until it takes it: conditions must not be lost.
async fn tell(what: Told<'_>) {
    loop {
        let result = match AsyncClient::connect().await {
            Ok(mut control) => match what {
                Told::Raise(name) => control.set(Default::default(), &[name]).await,
                Told::Clear(name) => control.clear(&[name]).await,
                Told::Phase(name) => control.phase(name).await,
            },
            Err(error) => Err(error),
        };
        match result {
            Ok(()) => return,
            Err(error) => tracing::warn!("PID 1 did not take {what:?}: {}", chain(&error)),
        }
        tokio::time::sleep(CONTROL_RETRY).await;
    }
}

/// What PID 1 is told.
#[derive(Debug, Clone, Copy)]
enum Told<'a> {
    Raise(&'a str),
    Clear(&'a str),
    Phase(&'a str),
}
