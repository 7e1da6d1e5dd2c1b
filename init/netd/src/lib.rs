//! Looks after the node's network: links, addresses, routes, DNS servers and the clock.
//!
//! One tokio thread runs four kinds of tasks. The daemon ([`daemon`]) looks at the kernel
//! ([`netlink`]), computes what it should have from configuration and leases ([`desired`]),
//! carries out the difference ([`plan`]) and waits for news. One DHCP client per link ([`dhcp`])
//! sends it leases ([`leases`]); routers tell it DNS servers ([`router_dns`]). The clock ([`clock`]) asks time servers that the daemon publishes. The outbox
//! ([`outbox`]) hands facts, conditions and lines for people to PID 1.
//!
//! Reads /run/keelson/node-config.yaml. Writes /run/keelson/netd/resolv.conf. Raises `network`
//! (with the fact `node-ip`) and then `time`, each once per boot and each at its deadline at the
//! latest. Needs CAP_NET_ADMIN, CAP_NET_RAW and CAP_NET_BIND_SERVICE for DHCP, CAP_SYS_TIME.

mod clock;
mod daemon;
mod desired;
mod dhcp;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod lease;
mod leases;
mod model;
mod netlink;
mod outbox;
mod plan;
mod progress;
mod resolv;
mod router_dns;
mod settings;
#[cfg(test)]
mod tests;
mod uplink;

use std::io;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use keelson_config::{ConfigError, NodeConfig};
use keelson_control::{AsyncClient, CONTROL_SOCKET, ClientError, chain, notify};
use tokio::sync::watch;

use crate::clock::{Boot, Sntp, SystemClock, TimeSources};
use crate::daemon::{Daemon, DaemonError, Parts};
use crate::netlink::{Monitor, NetlinkError, RouterOptions, Rtnetlink};
use crate::outbox::Outbox;
use crate::progress::{ADDRESS_DEADLINE, Progress};
use crate::settings::Settings;

/// The configuration that holds now, defaults filled in; machined writes it.
const CONFIG: &str = "/run/keelson/node-config.yaml";

/// machined links /etc/resolv.conf to it; the folder is ours.
const RESOLV_CONF: &str = "/run/keelson/netd/resolv.conf";

/// Runs the daemon; returns only when it cannot go on.
pub fn run(mut args: impl Iterator<Item = String>) -> ExitCode {
    if let Some(argument) = args.next() {
        eprintln!("keelson netd takes no arguments, but was given {argument:?}");
        return ExitCode::from(2);
    }
    let paths = Paths {
        config: CONFIG.into(),
        control: CONTROL_SOCKET.into(),
        resolv_conf: RESOLV_CONF.into(),
    };
    let runtime = match tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!("cannot start: {error}");
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(serve(&paths)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{}", chain(&error));
            ExitCode::FAILURE
        }
    }
}

/// Where things are; tests have their own places.
pub(crate) struct Paths {
    pub(crate) config: PathBuf,
    pub(crate) control: PathBuf,
    pub(crate) resolv_conf: PathBuf,
}

/// Why netd ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NetdError {
    #[error("cannot read {}", .path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("the configuration is wrong")]
    Config(#[source] ConfigError),
    #[error("cannot ask PID 1 what it knows")]
    Status(#[source] ClientError),
    #[error("cannot talk to the kernel")]
    Netlink(#[source] NetlinkError),
    #[error("the network daemon stops")]
    Daemon(#[source] DaemonError),
}

pub(crate) async fn serve(paths: &Paths) -> Result<(), NetdError> {
    let settings = read_settings(&paths.config)?;
    let known = what_holds(&paths.control).await?;
    let (outbox, letters) = Outbox::new();
    let (sources, watch) = watch::channel(TimeSources::Undecided);
    // The monitor first: nothing that happens after the daemon's first look is missed.
    let monitor = Monitor::open().map_err(NetdError::Netlink)?;
    let router_options = RouterOptions::open().map_err(NetdError::Netlink)?;
    let daemon = Daemon::new(Parts {
        settings,
        kernel: Rtnetlink::open().map_err(NetdError::Netlink)?,
        monitor,
        router_options,
        outbox: outbox.clone(),
        sources,
        resolv_conf: paths.resolv_conf.clone(),
        progress: Progress::new(known.node_ip, ADDRESS_DEADLINE),
    });
    tokio::select! {
        result = daemon.run() => result.map_err(NetdError::Daemon),
        () = outbox::deliver(paths.control.clone(), letters) => Ok(()),
        () = notify::keep_alive() => Ok(()),
        () = clock::keep(Sntp, SystemClock, outbox, watch, known.boot) => Ok(()),
    }
}

fn read_settings(path: &Path) -> Result<Settings, NetdError> {
    let text = std::fs::read(path).map_err(|source| NetdError::Read {
        path: path.to_owned(),
        source,
    })?;
    let config = NodeConfig::parse(text, &path.display().to_string()).map_err(NetdError::Config)?;
    Ok(Settings::new(&config))
}

/// What an earlier run of netd told PID 1 since the boot.
struct Known {
    node_ip: Option<Ipv4Addr>,
    boot: Boot,
}

async fn what_holds(control: &Path) -> Result<Known, NetdError> {
    let mut client = AsyncClient::connect_to(control)
        .await
        .map_err(NetdError::Status)?;
    let status = client.status().await.map_err(NetdError::Status)?;
    let raised = |name: &str| status.conditions.iter().any(|condition| condition == name);
    let node_ip = status
        .facts
        .get("node-ip")
        .and_then(|text| text.parse().ok());
    Ok(Known {
        node_ip: node_ip.filter(|_| raised("network")),
        boot: if raised("time") {
            Boot::Passed
        } else {
            Boot::Waits
        },
    })
}
