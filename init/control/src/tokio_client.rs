//! Client for daemons that run a tokio loop.

use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::path::Path;

use serde::de::DeserializeOwned;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::time::timeout;

use crate::wire::{
    Event, Level, Reply, Request, ResourceLimits, ServiceDetail, ShutdownKind, Status, decode,
    encode,
};
use crate::{CALL_DEADLINE, CONTROL_SOCKET, ClientError, MAX_FRAME};

/// One connection to PID 1.
#[derive(Debug)]
pub struct AsyncClient {
    stream: BufReader<UnixStream>,
}

impl AsyncClient {
    /// Connects to PID 1 of this machine.
    pub async fn connect() -> Result<Self, ClientError> {
        Self::connect_to(Path::new(CONTROL_SOCKET)).await
    }

    /// Connects to a socket at another place (tests).
    pub async fn connect_to(path: &Path) -> Result<Self, ClientError> {
        let stream = within_deadline(UnixStream::connect(path))
            .await
            .map_err(|source| ClientError::Connect {
                path: path.to_owned(),
                source,
            })?;
        Ok(Self {
            stream: BufReader::new(stream),
        })
    }

    /// Sets facts and raises conditions as one step.
    pub async fn set(
        &mut self,
        facts: BTreeMap<String, String>,
        raise: &[&str],
    ) -> Result<(), ClientError> {
        let raise = raise.iter().map(|name| (*name).to_owned()).collect();
        self.order(&Request::Set {
            facts,
            raise,
            clear: Vec::new(),
        })
        .await
    }

    /// Says that conditions hold no longer.
    pub async fn clear(&mut self, conditions: &[&str]) -> Result<(), ClientError> {
        let clear = conditions.iter().map(|name| (*name).to_owned()).collect();
        self.order(&Request::Set {
            facts: BTreeMap::new(),
            raise: Vec::new(),
            clear,
        })
        .await
    }

    /// Stamps a boot phase.
    pub async fn phase(&mut self, name: &str) -> Result<(), ClientError> {
        self.order(&Request::Phase {
            name: name.to_owned(),
        })
        .await
    }

    /// Prints a line for people on the console and in the kernel's log.
    pub async fn message(&mut self, level: Level, text: &str) -> Result<(), ClientError> {
        self.order(&Request::Message {
            level,
            text: text.to_owned(),
        })
        .await
    }

    /// Prints a line on the console and nowhere else.
    pub async fn show(&mut self, text: &str) -> Result<(), ClientError> {
        self.order(&Request::Show {
            text: text.to_owned(),
        })
        .await
    }

    /// Starts a service that was stopped.
    pub async fn start(&mut self, service: &str) -> Result<(), ClientError> {
        self.order(&Request::Start {
            service: service.to_owned(),
        })
        .await
    }

    /// Stops a service until it is started again.
    pub async fn stop(&mut self, service: &str) -> Result<(), ClientError> {
        self.order(&Request::Stop {
            service: service.to_owned(),
        })
        .await
    }

    /// Replaces the limits that the configuration sets.
    pub async fn limit(
        &mut self,
        services: BTreeMap<String, ResourceLimits>,
    ) -> Result<(), ClientError> {
        self.order(&Request::Limit { services }).await
    }

    /// Asks for everything about one service.
    pub async fn describe(&mut self, service: &str) -> Result<ServiceDetail, ClientError> {
        let request = Request::Describe {
            service: service.to_owned(),
        };
        match self.call(&request).await? {
            Reply::Service(detail) => Ok(*detail),
            Reply::Error(reason) => Err(ClientError::Refused { reason }),
            Reply::Ok | Reply::Status(_) => Err(ClientError::UnexpectedReply),
        }
    }

    /// Restarts a service.
    pub async fn restart(&mut self, service: &str) -> Result<(), ClientError> {
        self.order(&Request::Restart {
            service: service.to_owned(),
            clear: Vec::new(),
        })
        .await
    }

    /// Restarts a service; conditions it has raised hold no longer.
    pub async fn restart_and_clear(
        &mut self,
        service: &str,
        conditions: &[&str],
    ) -> Result<(), ClientError> {
        let clear = conditions.iter().map(|name| (*name).to_owned()).collect();
        self.order(&Request::Restart {
            service: service.to_owned(),
            clear,
        })
        .await
    }

    /// Ends everything in order.
    pub async fn shutdown(&mut self, kind: ShutdownKind, reason: &str) -> Result<(), ClientError> {
        self.order(&Request::Shutdown {
            kind,
            reason: reason.to_owned(),
        })
        .await
    }

    /// Asks for everything PID 1 knows.
    pub async fn status(&mut self) -> Result<Status, ClientError> {
        match self.call(&Request::Status).await? {
            Reply::Status(status) => Ok(*status),
            Reply::Error(reason) => Err(ClientError::Refused { reason }),
            Reply::Ok | Reply::Service(_) => Err(ClientError::UnexpectedReply),
        }
    }

    /// Turns the connection into a stream of events.
    pub async fn subscribe(mut self) -> Result<AsyncSubscription, ClientError> {
        self.order(&Request::Subscribe).await?;
        Ok(AsyncSubscription {
            stream: self.stream,
            line: Vec::new(),
        })
    }

    /// Sends any request and waits for its reply.
    pub async fn call(&mut self, request: &Request) -> Result<Reply, ClientError> {
        let line = encode(request).map_err(ClientError::Encode)?;
        within_deadline(self.stream.get_mut().write_all(&line))
            .await
            .map_err(ClientError::Send)?;
        let mut line = Vec::new();
        let more = within_deadline(fill_line(&mut self.stream, &mut line))
            .await
            .map_err(ClientError::Receive)?;
        if more {
            parse(&line)
        } else {
            Err(ClientError::Closed)
        }
    }

    async fn order(&mut self, request: &Request) -> Result<(), ClientError> {
        match self.call(request).await? {
            Reply::Ok => Ok(()),
            Reply::Error(reason) => Err(ClientError::Refused { reason }),
            Reply::Service(_) | Reply::Status(_) => Err(ClientError::UnexpectedReply),
        }
    }
}

/// Events, one at a time.
#[derive(Debug)]
pub struct AsyncSubscription {
    stream: BufReader<UnixStream>,
    /// Part of the next line that has arrived; kept here so that `next` may be cancelled.
    line: Vec<u8>,
}

impl AsyncSubscription {
    /// Next event, or `None` once PID 1 has closed the stream. Safe to use in `select!`.
    pub async fn next(&mut self) -> Option<Result<Event, ClientError>> {
        match fill_line(&mut self.stream, &mut self.line).await {
            Ok(false) => None,
            Ok(true) => {
                let event = parse(&self.line);
                self.line.clear();
                Some(event)
            }
            Err(error) => Some(Err(ClientError::Receive(error))),
        }
    }
}

fn parse<T: DeserializeOwned>(line: &[u8]) -> Result<T, ClientError> {
    decode(line).map_err(ClientError::Decode)
}

/// Reads until `line` ends with a newline; `false` at the end of the stream.
async fn fill_line(stream: &mut BufReader<UnixStream>, line: &mut Vec<u8>) -> io::Result<bool> {
    let room = MAX_FRAME.saturating_sub(line.len());
    // A frame fits usize and u64 alike on every machine this runs on.
    let mut limited = stream.take(u64::try_from(room).unwrap_or(u64::MAX));
    limited.read_until(b'\n', line).await?;
    if line.ends_with(b"\n") {
        Ok(true)
    } else if line.is_empty() {
        Ok(false)
    } else {
        Err(io::ErrorKind::UnexpectedEof.into())
    }
}

async fn within_deadline<T>(work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    timeout(CALL_DEADLINE, work)
        .await
        .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}
