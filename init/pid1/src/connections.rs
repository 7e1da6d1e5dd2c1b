//! Clients of the control socket in the event loop.

use keelson_control::Level;
use keelson_sys::epoll::{Interest, Readiness};

use crate::clients::Received;
use crate::node::{Node, Source};

impl Node {
    /// Takes all who wait to be connected.
    pub(crate) fn accept(&mut self) {
        loop {
            let token = self.next_token;
            match self.clients.accept(token) {
                Ok(None) => return,
                Ok(Some(stream)) => {
                    if self.epoll.add(stream, token, Interest::Read).is_ok() {
                        self.next_token += 1;
                        self.sources.insert(token, Source::Client);
                    } else {
                        self.clients.close(token);
                    }
                }
                Err(error) => {
                    self.say(
                        Level::Error,
                        &format!("cannot accept a connection: {error}"),
                    );
                    return;
                }
            }
        }
    }

    /// A client sent something, or takes more.
    pub(crate) fn client_ready(&mut self, token: u64, event: Readiness) {
        if event.writable && !self.clients.flush(token) {
            self.close_client(token);
            return;
        }
        if event.readable {
            match self.clients.receive(token) {
                Received::Closed => {
                    self.close_client(token);
                    return;
                }
                Received::Lines(lines) => {
                    for line in lines {
                        self.answer(token, &line);
                    }
                }
            }
        }
        self.adjust_interest(token);
    }

    /// Waits for room to write only while something is to be written.
    pub(crate) fn adjust_interest(&mut self, token: u64) {
        let interest = if self.clients.wants_to_write(token) {
            Interest::ReadWrite
        } else {
            Interest::Read
        };
        if let Some(stream) = self.clients.stream(token) {
            // Fails only for a descriptor that is not in the queue, and this one is.
            let _ = self.epoll.modify(stream, token, interest);
        }
    }

    pub(crate) fn close_client(&mut self, token: u64) {
        self.clients.close(token);
        self.sources.remove(&token);
    }
}
