//! Connections to the control socket: bounded in number, input and output.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use keelson_control::{MAX_FRAME, Reply, encode};
use keelson_sys::peer::{self, Peer};

/// Connections at a time. Five helpers and a few people's tools need a dozen; a service that
/// opens more without end must not use up descriptors.
const MAX_CLIENTS: usize = 64;

/// Bytes that may wait for a client that does not read. A status and a burst of events fit.
const MAX_PENDING: usize = 4 * MAX_FRAME;

/// Read from one client before the others have their turn.
const READ_BYTES: usize = 16 * 1024;

/// The listening socket and its connections.
#[derive(Debug)]
pub(crate) struct Clients {
    listener: UnixListener,
    connections: BTreeMap<u64, Connection>,
}

#[derive(Debug)]
struct Connection {
    stream: UnixStream,
    peer: Peer,
    input: Vec<u8>,
    output: Vec<u8>,
    subscribed: bool,
}

/// What came of reading.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Received {
    /// The connection is over.
    Closed,
    /// Whole lines, without their newlines.
    Lines(Vec<Vec<u8>>),
}

impl Clients {
    /// Listens at a path that must be free. Everyone may connect; who may ask what is decided by
    /// the peer's identity.
    pub(crate) fn listen(path: &Path) -> io::Result<Self> {
        let listener = UnixListener::bind(path)?;
        listener.set_nonblocking(true)?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o666))?;
        Ok(Self {
            listener,
            connections: BTreeMap::new(),
        })
    }

    pub(crate) fn listener(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }

    /// Takes the next connection under a token; `None` when there is none at the moment or it
    /// was one too many.
    pub(crate) fn accept(&mut self, token: u64) -> io::Result<Option<BorrowedFd<'_>>> {
        let stream = match self.listener.accept() {
            Ok((stream, _)) => stream,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
            Err(error) => return Err(error),
        };
        if self.connections.len() >= MAX_CLIENTS {
            return Ok(None);
        }
        stream.set_nonblocking(true)?;
        let peer = peer::identity(&stream)?;
        let connection = Connection {
            stream,
            peer,
            input: Vec::new(),
            output: Vec::new(),
            subscribed: false,
        };
        let connection = self
            .connections
            .entry(token)
            .insert_entry(connection)
            .into_mut();
        Ok(Some(connection.stream.as_fd()))
    }

    pub(crate) fn peer(&self, token: u64) -> Option<Peer> {
        self.connections
            .get(&token)
            .map(|connection| connection.peer)
    }

    pub(crate) fn stream(&self, token: u64) -> Option<BorrowedFd<'_>> {
        self.connections
            .get(&token)
            .map(|connection| connection.stream.as_fd())
    }

    /// Reads what is there, once.
    pub(crate) fn receive(&mut self, token: u64) -> Received {
        let Some(connection) = self.connections.get_mut(&token) else {
            return Received::Closed;
        };
        let mut buffer = [0; READ_BYTES];
        match connection.stream.read(&mut buffer) {
            Ok(0) => return Received::Closed,
            Ok(length) => connection.input.extend_from_slice(&buffer[..length]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return Received::Closed,
        }
        let mut lines = Vec::new();
        while let Some(end) = connection.input.iter().position(|byte| *byte == b'\n') {
            let mut line: Vec<u8> = connection.input.drain(..=end).collect();
            line.pop();
            lines.push(line);
        }
        if connection.input.len() >= MAX_FRAME {
            return Received::Closed;
        }
        Received::Lines(lines)
    }

    /// Queues a reply; false when the client must go.
    pub(crate) fn reply(&mut self, token: u64, reply: &Reply) -> bool {
        let line = match encode(reply) {
            Ok(line) => line,
            Err(error) => {
                let refusal = Reply::Error(error.to_string());
                // A short text always fits a frame.
                encode(&refusal).unwrap_or_default()
            }
        };
        self.send(token, &line)
    }

    /// Queues a line; false when the client does not keep up or is gone.
    pub(crate) fn send(&mut self, token: u64, line: &[u8]) -> bool {
        let Some(connection) = self.connections.get_mut(&token) else {
            return false;
        };
        if connection.output.len() + line.len() > MAX_PENDING {
            return false;
        }
        connection.output.extend_from_slice(line);
        self.flush(token)
    }

    /// Writes what the client takes at the moment; false when it is gone.
    pub(crate) fn flush(&mut self, token: u64) -> bool {
        let Some(connection) = self.connections.get_mut(&token) else {
            return false;
        };
        while !connection.output.is_empty() {
            match connection.stream.write(&connection.output) {
                Ok(written) => drop(connection.output.drain(..written)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return false,
            }
        }
        true
    }

    /// Whether something waits to be written.
    pub(crate) fn wants_to_write(&self, token: u64) -> bool {
        self.connections
            .get(&token)
            .is_some_and(|connection| !connection.output.is_empty())
    }

    pub(crate) fn subscribe(&mut self, token: u64) {
        if let Some(connection) = self.connections.get_mut(&token) {
            connection.subscribed = true;
        }
    }

    /// Tokens of all subscribers.
    pub(crate) fn subscribers(&self) -> Vec<u64> {
        self.connections
            .iter()
            .filter(|(_, c)| c.subscribed)
            .map(|(token, _)| *token)
            .collect()
    }

    /// Forgets a connection.
    pub(crate) fn close(&mut self, token: u64) {
        self.connections.remove(&token);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connected() -> (tempfile::TempDir, Clients, UnixStream) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("control.sock");
        let mut clients = Clients::listen(&path).unwrap();
        let stream = UnixStream::connect(&path).unwrap();
        assert!(clients.accept(1).unwrap().is_some());
        (dir, clients, stream)
    }

    #[test]
    fn the_peer_is_whom_the_kernel_says() {
        let (_dir, clients, _stream) = connected();
        let uid = rustix::process::getuid().as_raw();
        assert_eq!(
            clients.peer(1),
            Some(Peer {
                uid,
                pid: Some(std::process::id())
            })
        );
    }

    #[test]
    fn lines_arrive_whole_and_endless_ones_end_the_connection() {
        let (_dir, mut clients, mut stream) = connected();
        stream.write_all(b"\"status\"\n\"sub").unwrap();
        assert_eq!(
            clients.receive(1),
            Received::Lines(vec![b"\"status\"".to_vec()])
        );
        stream.write_all(b"scribe\"\n").unwrap();
        assert_eq!(
            clients.receive(1),
            Received::Lines(vec![b"\"subscribe\"".to_vec()])
        );
        stream.set_nonblocking(true).unwrap();
        let mut closed = false;
        for _ in 0..100 {
            let _ = stream.write(&[b'x'; 8192]);
            if clients.receive(1) == Received::Closed {
                closed = true;
                break;
            }
        }
        assert!(closed);
    }

    #[test]
    fn a_subscriber_that_does_not_read_is_dropped() {
        let (_dir, mut clients, _stream) = connected();
        clients.subscribe(1);
        assert_eq!(clients.subscribers(), [1]);
        let line = [b'x'; 60_000];
        let sent = (0..100).take_while(|_| clients.send(1, &line)).count();
        assert!(sent < 100, "kept everything");
    }

    #[test]
    fn connections_are_bounded() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("control.sock");
        let mut clients = Clients::listen(&path).unwrap();
        let streams: Vec<_> = (0..MAX_CLIENTS + 1)
            .map(|_| UnixStream::connect(&path).unwrap())
            .collect();
        let taken = (0..)
            .zip(&streams)
            .filter(|(token, _)| clients.accept(*token).unwrap().is_some());
        assert_eq!(taken.count(), MAX_CLIENTS);
    }
}
