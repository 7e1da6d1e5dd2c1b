//! A door for tests/fuzz to the control socket. Compiled for it alone.

use std::io::{self, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

use crate::clients::{Clients, Received};

/// The only connection.
const CONNECTION: u64 = 1;

/// A control socket with one client.
#[derive(Debug)]
pub struct Line {
    clients: Clients,
    client: UnixStream,
}

impl Line {
    /// Listens at a free path and connects to it.
    ///
    /// # Errors
    /// When there is no such path, or no more sockets.
    pub fn open(path: &Path) -> io::Result<Self> {
        let mut clients = Clients::listen(path)?;
        let client = UnixStream::connect(path)?;
        client.set_nonblocking(true)?;
        clients.accept(CONNECTION)?;
        Ok(Self { clients, client })
    }

    /// Sends bytes and gives the lines that PID 1 reads; `None` when it ends the connection.
    ///
    /// # Errors
    /// When they cannot be sent.
    pub fn pass(&mut self, bytes: &[u8]) -> io::Result<Option<Vec<Vec<u8>>>> {
        self.client.write_all(bytes)?;
        Ok(match self.clients.receive(CONNECTION) {
            Received::Closed => None,
            Received::Lines(lines) => Some(lines),
        })
    }
}
