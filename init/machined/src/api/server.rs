//! Serves the calls that apid passes on, over HTTP/2 on a unix socket.

use std::convert::Infallible;
use std::fs::Permissions;
use std::future::Future;
use std::io;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use keelson_control::chain;
use keelson_service::{Accounts, User};
use keelson_sys::peer::identity;
use tokio::net::{UnixListener, UnixStream};
use tonic::body::Body;
use tonic::codegen::http::{Request, Response};

/// How often a silent connection is asked whether it lives, and how long it has to answer: a
/// stopped apid must not keep streams open here.
const KEEP_ALIVE: Duration = Duration::from_secs(20);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// Streams at a time. apid allows each of its connections fewer, and has one connection here.
const MAX_STREAMS: u32 = 1024;

/// What one stream may have under way. Requests are small.
const STREAM_WINDOW: u32 = 64 * 1024;

/// The connection is everybody's: what one caller sends and machined has not read yet must not
/// hold up the others.
const CONNECTION_WINDOW: u32 = 4 * 1024 * 1024;

/// Calls that were cancelled before they were looked at. The default is there against strangers
/// and would end the connection of all callers; apid bounds what each of them may do.
const CANCELLED: usize = 1024;

/// Pause after the system refused a connection (no descriptors): asking at once would spin.
const ACCEPT_RETRY: Duration = Duration::from_millis(200);

/// The socket cannot be served.
#[derive(Debug, thiserror::Error)]
#[error("cannot serve the node API on {}", path.display())]
pub(crate) struct ListenError {
    path: PathBuf,
    source: io::Error,
}

/// What answers requests.
pub(crate) type Answer = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

/// Sends a request to the service it is for.
pub(crate) trait Route: Clone + Send + 'static {
    /// Never fails: errors are answers.
    fn route(&self, request: Request<Incoming>) -> Answer;
}

/// Opens the socket for root and apid alone.
pub(crate) fn listen(path: &Path, apid: Option<User>) -> Result<UnixListener, ListenError> {
    let open = || -> io::Result<UnixListener> {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = UnixListener::bind(path)?;
        if let Some(apid) = apid {
            chown(path, None, Some(apid.gid))?;
        }
        std::fs::set_permissions(path, Permissions::from_mode(0o660))?;
        Ok(listener)
    };
    open().map_err(|source| ListenError {
        path: path.to_owned(),
        source,
    })
}

/// apid's account, if the image has one.
pub(crate) fn apid_account(root: &Path) -> Option<User> {
    match Accounts::read(root) {
        Ok(accounts) => accounts.user("apid"),
        Err(error) => {
            tracing::warn!("node API: {}", chain(&error));
            None
        }
    }
}

/// Accepts and serves for ever.
pub(crate) async fn serve(listener: UnixListener, apid: Option<User>, router: impl Route) {
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!("node API: cannot accept a connection: {error}");
                tokio::time::sleep(ACCEPT_RETRY).await;
                continue;
            }
        };
        match identity(&stream) {
            Ok(peer) if peer.uid == rustix::process::geteuid().as_raw() => {}
            Ok(peer) if apid.is_some_and(|apid| apid.uid == peer.uid) => {}
            Ok(peer) => {
                tracing::warn!("node API: user {} may not connect", peer.uid);
                continue;
            }
            Err(error) => {
                tracing::warn!("node API: cannot tell who connects: {error}");
                continue;
            }
        }
        tokio::spawn(connection(stream, router.clone()));
    }
}

async fn connection(stream: UnixStream, router: impl Route) {
    let service = hyper::service::service_fn(move |request| router.route(request));
    let served = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
        .max_concurrent_streams(MAX_STREAMS)
        .max_pending_accept_reset_streams(CANCELLED)
        .max_local_error_reset_streams(None)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(error) = served {
        tracing::debug!("node API: {}", chain(&error));
    }
}
