//! The connection to machined: one for all calls, opened again when it breaks.

use std::cell::Cell;
use std::io;
use std::path::PathBuf;
use std::rc::Rc;

use hyper::body::Incoming;
use hyper::client::conn::http2::{self, SendRequest};
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use keelson_control::chain;
use tokio::net::UnixStream;
use tokio::sync::Mutex;
use tokio::time::timeout;

use crate::bodies::RequestBody;
use crate::executor::Local;
use crate::gather::Gather;
use crate::journal::{Journal, Kind};
use crate::limits;

/// The way to machined.
#[derive(Debug)]
pub(crate) struct Machined {
    socket: PathBuf,
    journal: Rc<Journal>,
    /// A lock, so that calls that find the connection broken open one new connection, not many.
    sender: Mutex<Option<Sender>>,
    /// Whether the last attempt to connect failed: said once, not for every call.
    away: Cell<bool>,
}

type Sender = SendRequest<Gather<RequestBody>>;

/// machined gives no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MachinedError {
    #[error("the node's machined does not answer on {}", .path.display())]
    Connect { path: PathBuf, source: io::Error },
    #[error("no HTTP/2 connection to the node's machined")]
    Greet(#[source] hyper::Error),
    #[error(
        "the node's machined takes no connection within {} s",
        limits::MACHINED_DEADLINE.as_secs()
    )]
    Slow,
    #[error("the connection to the node's machined broke")]
    Broken(#[source] hyper::Error),
}

impl Machined {
    pub(crate) fn new(socket: PathBuf, journal: Rc<Journal>) -> Self {
        Self {
            socket,
            journal,
            sender: Mutex::new(None),
            away: Cell::new(false),
        }
    }

    /// Sends a request. One that met a connection which had just broken, before any of it was
    /// written, is sent once more over a new one.
    pub(crate) async fn send(
        &self,
        request: Request<Gather<RequestBody>>,
    ) -> Result<Response<Incoming>, MachinedError> {
        let first = self.sender().await?.try_send_request(request).await;
        let mut error = match first {
            Ok(response) => return Ok(response),
            Err(error) => error,
        };
        let Some(request) = error.take_message() else {
            return Err(MachinedError::Broken(error.into_error()));
        };
        let second = self.sender().await?.try_send_request(request).await;
        second.map_err(|error| MachinedError::Broken(error.into_error()))
    }

    async fn sender(&self) -> Result<Sender, MachinedError> {
        let result = timeout(limits::MACHINED_DEADLINE, self.opened())
            .await
            .unwrap_or(Err(MachinedError::Slow));
        if let Err(error) = &result
            && !self.away.replace(true)
        {
            self.journal.warn(Kind::Machined, chain(error));
        }
        result
    }

    async fn opened(&self) -> Result<Sender, MachinedError> {
        let mut kept = self.sender.lock().await;
        if let Some(sender) = kept.as_ref().filter(|sender| !sender.is_closed()) {
            return Ok(sender.clone());
        }
        *kept = None;
        let stream =
            UnixStream::connect(&self.socket)
                .await
                .map_err(|source| MachinedError::Connect {
                    path: self.socket.clone(),
                    source,
                })?;
        let (sender, connection) = http2::Builder::new(Local)
            .timer(TokioTimer::new())
            .initial_stream_window_size(limits::ANSWER_WINDOW)
            .initial_connection_window_size(limits::ANSWERS_WINDOW)
            .initial_max_send_streams(limits::CALLS)
            .max_send_buf_size(limits::SEND_BUFFER)
            // Answers to calls that were given up arrive late. machined is not to blame, and
            // counting them would end everybody's connection one day.
            .max_local_error_reset_streams(None)
            .keep_alive_interval(limits::MACHINED_PING)
            .keep_alive_timeout(limits::MACHINED_ANSWER)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(MachinedError::Greet)?;
        let journal = Rc::clone(&self.journal);
        tokio::task::spawn_local(async move {
            if let Err(error) = connection.await {
                let error = MachinedError::Broken(error);
                journal.warn(Kind::Machined, chain(&error));
            }
        });
        self.away.set(false);
        *kept = Some(sender.clone());
        Ok(sender)
    }
}
