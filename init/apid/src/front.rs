//! What all connections share, and how they come in.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::time::Instant;

use keelson_control::chain;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::{spawn_local, yield_now};
use tokio::time::{sleep, timeout};

use crate::connection;
use crate::connections::Connections;
use crate::gate::{Gate, Handshakes, Prefix, Standing};
use crate::handshake::{self, Arrival, HandshakeError};
use crate::journal::{Journal, Kind};
use crate::limits;
use crate::machined::Machined;
use crate::trust::Trust;

/// What all connections share.
#[derive(Debug)]
pub(crate) struct Front {
    pub(crate) trust: Trust,
    pub(crate) machined: Machined,
    pub(crate) connections: Connections,
    pub(crate) journal: Rc<Journal>,
    gate: RefCell<Gate>,
    handshakes: RefCell<Handshakes<oneshot::Sender<()>>>,
}

impl Front {
    pub(crate) fn new(trust: Trust, machined: Machined, journal: Rc<Journal>) -> Rc<Self> {
        Rc::new(Self {
            trust,
            machined,
            connections: Connections::default(),
            journal,
            gate: RefCell::default(),
            handshakes: RefCell::new(Handshakes::new()),
        })
    }

    /// Lets callers in until `stop`, then gives those who are in time to end.
    pub(crate) async fn serve(self: &Rc<Self>, listener: TcpListener, stop: impl Future) {
        let mut stop = pin!(stop);
        loop {
            let accepted = tokio::select! {
                biased;
                _ = stop.as_mut() => break,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, peer)) => self.receive(stream, peer),
                Err(error) => {
                    let text = format_args!("cannot accept a connection: {error}");
                    self.journal.warn(Kind::Accept, text);
                    sleep(limits::ACCEPT_RETRY).await;
                }
            }
            // Whoever was displaced must go before the next one comes: the number of descriptors
            // is bounded by it.
            yield_now().await;
        }
        drop(listener);
        self.connections.end_all();
        let grace = limits::STOP_GRACE + limits::FAREWELL * 2;
        // Those that are not over then end with the process.
        let _ = timeout(grace, self.connections.emptied()).await;
    }

    fn receive(self: &Rc<Self>, stream: TcpStream, peer: SocketAddr) {
        let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
        let prefix = Prefix::from(peer.ip());
        let known = self.connections.knows(prefix);
        let shut = self.gate.borrow().is_shut(prefix, Instant::now());
        let standing = match (known, shut) {
            (false, true) => return,
            (false, false) => Standing::Unknown,
            (true, false) => Standing::Known,
            (true, true) => Standing::KnownButShut,
        };
        let (place, displaced) = oneshot::channel();
        let ticket = self.handshakes.borrow_mut().enter(prefix, standing, place);
        let front = Rc::clone(self);
        spawn_local(async move {
            let result = tokio::select! {
                result = front.shake(stream, peer) => result,
                _ = displaced => Err(HandshakeError::Displaced),
            };
            front.handshakes.borrow_mut().leave(ticket);
            match result {
                Ok(arrival) => connection::serve(front, arrival).await,
                Err(error) => front.failed(prefix, peer, &error),
            }
        });
    }

    async fn shake(&self, stream: TcpStream, peer: SocketAddr) -> Result<Arrival, HandshakeError> {
        let snapshot = self.trust.now();
        timeout(
            limits::HANDSHAKE_DEADLINE,
            handshake::shake(stream, peer, &snapshot),
        )
        .await
        .unwrap_or(Err(HandshakeError::Late))
    }

    fn failed(&self, prefix: Prefix, peer: SocketAddr, error: &HandshakeError) {
        // Checks whether the port is open look like this, our own supervisor's among them.
        if !matches!(error, HandshakeError::Closed) {
            let text = format_args!("a handshake with {peer} failed: {}", chain(error));
            self.journal.warn(Kind::FailedHandshake, text);
        }
        if self.gate.borrow_mut().failed(prefix, Instant::now()) {
            let text = format_args!(
                "{} failed handshakes of {prefix}: it is shut out for {} s",
                limits::FAILURES,
                limits::SHUT_OUT.as_secs()
            );
            self.journal.warn(Kind::ShutOut, text);
        }
    }
}
