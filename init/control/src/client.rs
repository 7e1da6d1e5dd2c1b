//! Blocking client.

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use thiserror::Error;

use crate::wire::{Event, Level, Reply, Request, ShutdownKind, Status, decode, encode};
use crate::{CALL_DEADLINE, CONTROL_SOCKET, MAX_FRAME};

/// One connection to PID 1.
#[derive(Debug)]
pub struct Client {
    stream: BufReader<UnixStream>,
}

impl Client {
    /// Connects to PID 1 of this machine.
    pub fn connect() -> Result<Self, ClientError> {
        Self::connect_to(Path::new(CONTROL_SOCKET))
    }

    /// Connects to a socket at another place (tests).
    pub fn connect_to(path: &Path) -> Result<Self, ClientError> {
        let stream = UnixStream::connect(path)
            .and_then(|stream| {
                stream.set_read_timeout(Some(CALL_DEADLINE))?;
                stream.set_write_timeout(Some(CALL_DEADLINE))?;
                Ok(stream)
            })
            .map_err(|source| ClientError::Connect {
                path: path.to_owned(),
                source,
            })?;
        Ok(Self {
            stream: BufReader::new(stream),
        })
    }

    /// Sets facts and raises conditions as one step.
    pub fn set(
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
    }

    /// Says that conditions hold no longer.
    pub fn clear(&mut self, conditions: &[&str]) -> Result<(), ClientError> {
        let clear = conditions.iter().map(|name| (*name).to_owned()).collect();
        self.order(&Request::Set {
            facts: BTreeMap::new(),
            raise: Vec::new(),
            clear,
        })
    }

    /// Stamps a boot phase.
    pub fn phase(&mut self, name: &str) -> Result<(), ClientError> {
        self.order(&Request::Phase {
            name: name.to_owned(),
        })
    }

    /// Prints a line for people on the console and in the kernel's log.
    pub fn message(&mut self, level: Level, text: &str) -> Result<(), ClientError> {
        self.order(&Request::Message {
            level,
            text: text.to_owned(),
        })
    }

    /// Restarts a service.
    pub fn restart(&mut self, service: &str) -> Result<(), ClientError> {
        self.order(&Request::Restart {
            service: service.to_owned(),
            clear: Vec::new(),
        })
    }

    /// Ends everything in order.
    pub fn shutdown(&mut self, kind: ShutdownKind, reason: &str) -> Result<(), ClientError> {
        self.order(&Request::Shutdown {
            kind,
            reason: reason.to_owned(),
        })
    }

    /// Asks for everything PID 1 knows.
    pub fn status(&mut self) -> Result<Status, ClientError> {
        match self.call(&Request::Status)? {
            Reply::Status(status) => Ok(*status),
            Reply::Error(reason) => Err(ClientError::Refused { reason }),
            Reply::Ok | Reply::Service(_) => Err(ClientError::UnexpectedReply),
        }
    }

    /// Turns the connection into a stream of events.
    pub fn subscribe(mut self) -> Result<Subscription, ClientError> {
        self.order(&Request::Subscribe)?;
        // Events may be hours apart: from here on only the end of the stream ends a read.
        self.stream
            .get_ref()
            .set_read_timeout(None)
            .map_err(ClientError::Receive)?;
        Ok(Subscription {
            stream: self.stream,
        })
    }

    /// Sends any request and waits for its reply.
    pub fn call(&mut self, request: &Request) -> Result<Reply, ClientError> {
        let line = encode(request).map_err(ClientError::Encode)?;
        self.stream
            .get_mut()
            .write_all(&line)
            .map_err(ClientError::Send)?;
        let line = read_line(&mut self.stream)?.ok_or(ClientError::Closed)?;
        decode(&line).map_err(ClientError::Decode)
    }

    fn order(&mut self, request: &Request) -> Result<(), ClientError> {
        match self.call(request)? {
            Reply::Ok => Ok(()),
            Reply::Error(reason) => Err(ClientError::Refused { reason }),
            Reply::Service(_) | Reply::Status(_) => Err(ClientError::UnexpectedReply),
        }
    }
}

/// Events, one at a time; the iterator ends when PID 1 closes the stream.
#[derive(Debug)]
pub struct Subscription {
    stream: BufReader<UnixStream>,
}

impl Subscription {
    /// Bounds the wait for the next event; past it `next` yields [`ClientError::Receive`].
    pub fn set_timeout(&self, timeout: Option<Duration>) -> Result<(), ClientError> {
        self.stream
            .get_ref()
            .set_read_timeout(timeout)
            .map_err(ClientError::Receive)
    }
}

impl Iterator for Subscription {
    type Item = Result<Event, ClientError>;

    fn next(&mut self) -> Option<Self::Item> {
        match read_line(&mut self.stream) {
            Ok(None) => None,
            Ok(Some(line)) => Some(decode(&line).map_err(ClientError::Decode)),
            Err(error) => Some(Err(error)),
        }
    }
}

/// Why a call to PID 1 failed.
#[derive(Debug, Error)]
pub enum ClientError {
    /// PID 1 closed the connection.
    #[error("PID 1 closed the control connection without an answer")]
    Closed,
    /// The socket cannot be reached.
    #[error("cannot connect to PID 1 at {}", path.display())]
    Connect {
        /// Socket that was tried.
        path: PathBuf,
        /// Cause.
        source: io::Error,
    },
    /// The reply is not of this protocol.
    #[error("cannot understand what PID 1 sent")]
    Decode(#[source] serde_json::Error),
    /// The request cannot be sent as a frame.
    #[error("cannot encode the request to PID 1")]
    Encode(#[source] serde_json::Error),
    /// Reading failed or took too long.
    #[error("no answer from PID 1")]
    Receive(#[source] io::Error),
    /// PID 1 said no.
    #[error("PID 1 refused: {reason}")]
    Refused {
        /// Its words.
        reason: String,
    },
    /// Writing failed or took too long.
    #[error("cannot send to PID 1")]
    Send(#[source] io::Error),
    /// A reply of the wrong kind.
    #[error("PID 1 sent a reply of the wrong kind")]
    UnexpectedReply,
}

/// One line without its newline; `None` at the end of the stream.
fn read_line(stream: &mut BufReader<UnixStream>) -> Result<Option<Vec<u8>>, ClientError> {
    let mut line = Vec::new();
    // A frame fits usize and u64 alike on every machine this runs on.
    let limit = u64::try_from(MAX_FRAME).unwrap_or(u64::MAX);
    stream
        .by_ref()
        .take(limit)
        .read_until(b'\n', &mut line)
        .map_err(ClientError::Receive)?;
    if line.pop_if(|byte| *byte == b'\n').is_some() {
        Ok(Some(line))
    } else if line.is_empty() {
        Ok(None)
    } else {
        Err(ClientError::Receive(io::ErrorKind::UnexpectedEof.into()))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;
    use std::thread;

    use super::*;

    /// Answers one connection with fixed lines, one per request.
    fn serve(path: &Path, replies: Vec<&'static str>) -> thread::JoinHandle<Vec<String>> {
        let listener = UnixListener::bind(path).unwrap();
        thread::spawn(move || {
            let (stream, _) = listener.accept().unwrap();
            let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
            let mut stream = stream;
            replies
                .into_iter()
                .map(|reply| {
                    let line = lines.next().unwrap().unwrap();
                    stream.write_all(reply.as_bytes()).unwrap();
                    line
                })
                .collect()
        })
    }

    #[test]
    fn a_refusal_is_an_error_with_the_reason() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let server = serve(&path, vec!["\"ok\"\n", "{\"error\":\"not yours\"}\n"]);
        let mut client = Client::connect_to(&path).unwrap();
        client.phase("config").unwrap();
        let error = client.restart("etcd").unwrap_err();
        assert_eq!(error.to_string(), "PID 1 refused: not yours");
        assert_eq!(
            server.join().unwrap()[1],
            "{\"restart\":{\"service\":\"etcd\"}}"
        );
    }

    #[test]
    fn events_follow_the_reply_until_the_stream_ends() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let server = serve(
            &path,
            vec![
                "\"ok\"\n{\"phase\":{\"name\":\"config\",\"at_ms\":7}}\n{\"condition\":{\"name\":\"config\",\"raised\":true}}\n",
            ],
        );
        let events: Vec<Event> = Client::connect_to(&path)
            .unwrap()
            .subscribe()
            .unwrap()
            .map(Result::unwrap)
            .collect();
        server.join().unwrap();
        assert_eq!(events.len(), 2);
        assert_eq!(
            events[1],
            Event::Condition {
                name: "config".to_owned(),
                raised: true
            }
        );
    }

    #[test]
    fn a_missing_socket_names_its_path() {
        let error = Client::connect_to(Path::new("/nonexistent/sock")).unwrap_err();
        assert!(error.to_string().contains("/nonexistent/sock"));
    }
}
