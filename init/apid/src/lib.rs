//! `keelson apid`: the node API on TCP 9440, without privileges.
//!
//! One thread. The front ([`front`]) accepts connections, holds earlier failures against their
//! address ([`gate`]) and shakes hands ([`handshake`]): TLS 1.3, a certificate that an authority
//! of the API signed ([`verifier`]) with one name and one role ([`identity`]), HTTP/2. Each
//! connection ([`connection`]) is a task that hyper serves; [`connections`] knows all of them and
//! who makes room when there are too many. Each call ([`proxy`]) is held against the table of
//! `keelson_api::access` and passed on over one connection ([`machined`]) to machined, which
//! decides and acts; its bodies ([`bodies`]) are counted and joined ([`gather`]), not decoded.
//!
//! Reads access.json, the authorities and the serving pair ([`Paths`]) and reads them again when
//! they change ([`trust`]); a connection whose certificate expires or is revoked is ended. Writes
//! nothing but its log ([`journal`]). All numbers are in [`limits`].

#![forbid(unsafe_code)]

mod access_file;
mod bodies;
mod call;
mod caller;
mod connection;
mod connections;
mod executor;
mod framing;
mod front;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod gate;
mod gather;
mod handshake;
mod headers;
mod identity;
mod journal;
mod limits;
mod listen;
mod machined;
mod proxy;
mod trust;
mod verifier;

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use keelson_control::{chain, notify};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::LocalSet;

use crate::front::Front;
use crate::journal::Journal;
use crate::machined::Machined;
use crate::trust::{Trust, TrustError};

pub use crate::listen::{ListenError, listen, listen_everywhere};

/// Where things are.
#[derive(Clone, Debug)]
pub struct Paths {
    /// The mode of the node and revoked certificates; machined writes it.
    pub access: PathBuf,
    /// Authorities of callers' certificates (PEM).
    pub authorities: PathBuf,
    /// Our own certificate with its key (PEM).
    pub pair: PathBuf,
    /// Where machined serves the calls.
    pub machined: PathBuf,
}

impl Default for Paths {
    fn default() -> Self {
        Self {
            access: "/run/keelson/apid/access.json".into(),
            authorities: "/run/keelson/rendered/api-ca.crt".into(),
            pair: "/run/keelson/secrets/apid/serving.pem".into(),
            machined: keelson_api::MACHINED_SOCKET.into(),
        }
    }
}

/// Runs until SIGTERM.
pub fn run(mut args: impl Iterator<Item = String>) -> ExitCode {
    if let Some(argument) = args.next() {
        eprintln!("keelson apid takes no arguments, but was given {argument:?}");
        return ExitCode::from(2);
    }
    match start() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{}", chain(&error));
            ExitCode::FAILURE
        }
    }
}

/// Why apid ends.
#[derive(Debug, thiserror::Error)]
pub enum ApidError {
    /// No event loop or no signal handler.
    #[error("the tokio runtime or a signal handler cannot be made")]
    Runtime(#[source] io::Error),
    /// The port cannot be opened.
    #[error("nobody can be let in")]
    Listen(#[from] ListenError),
    /// No usable keys.
    #[error("the keys of the node API cannot be used")]
    Trust(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl From<TrustError> for ApidError {
    fn from(error: TrustError) -> Self {
        Self::Trust(Box::new(error))
    }
}

fn start() -> Result<(), ApidError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(ApidError::Runtime)?;
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate()).map_err(ApidError::Runtime)?;
        let listener = listen_everywhere(keelson_api::PORT)?;
        let paths = Paths::default();
        tokio::select! {
            served = serve(&paths, listener, terminate.recv()) => served,
            () = notify::keep_alive() => Ok(()),
        }
    })
}

/// Serves the node API to whoever comes to `listener`, until `stop`.
///
/// # Errors
/// When the keys cannot be used.
pub async fn serve(
    paths: &Paths,
    listener: TcpListener,
    stop: impl Future,
) -> Result<(), ApidError> {
    let journal = Journal::new();
    let machined = Machined::new(paths.machined.clone(), journal.clone());
    let front = Front::new(Trust::open(paths)?, machined, journal);
    LocalSet::new().run_until(front.serve(listener, stop)).await;
    Ok(())
}
