//! Connections with a finished handshake: who holds how much, and who makes room.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::rc::{Rc, Weak};
use std::time::Instant;

use tokio::sync::Notify;
use tonic::Status;

use crate::call::Call;
use crate::caller::{Caller, Outcast};
use crate::gate::Prefix;
use crate::limits;

/// One connection.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) caller: Caller,
    pub(crate) peer: SocketAddr,
    calls: RefCell<Vec<Weak<Call>>>,
    in_flight: Cell<usize>,
    idle_since: Cell<Instant>,
    ending: Cell<Option<Ending>>,
    told: Notify,
}

/// Why a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Ending {
    #[error("it was idle and its place was needed")]
    Displaced,
    #[error("it was idle for long")]
    Idle,
    #[error("{0}")]
    Outcast(Outcast),
    #[error("a response was not read for long and calls are scarce")]
    Unread,
    #[error("the node API is being stopped")]
    Stopping,
}

/// Who shares a limit: a person, or an address as long as nobody shows a certificate.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Owner<'a> {
    Person(&'a str),
    Address(Prefix),
}

impl Session {
    pub(crate) fn new(caller: Caller, peer: SocketAddr) -> Rc<Self> {
        Rc::new(Self {
            caller,
            peer,
            calls: RefCell::default(),
            in_flight: Cell::new(0),
            idle_since: Cell::new(Instant::now()),
            ending: Cell::new(None),
            told: Notify::new(),
        })
    }

    /// Tells the connection to end; the first reason counts.
    pub(crate) fn end(&self, ending: Ending) {
        if self.ending.get().is_none() {
            self.ending.set(Some(ending));
            self.told.notify_one();
        }
    }

    /// Waits until the connection is told to end.
    pub(crate) async fn ending(&self) -> Ending {
        loop {
            if let Some(ending) = self.ending.get() {
                return ending;
            }
            self.told.notified().await;
        }
    }

    /// Ends all calls in flight with `status`.
    pub(crate) fn fail_calls(&self, status: &Status) {
        let calls: Vec<Rc<Call>> = self.living();
        for call in calls {
            call.fail(status.clone());
        }
    }

    pub(crate) fn began(&self, call: &Rc<Call>) {
        let mut calls = self.calls.borrow_mut();
        calls.retain(|call| call.strong_count() > 0);
        calls.push(Rc::downgrade(call));
        self.in_flight.set(self.in_flight.get() + 1);
    }

    pub(crate) fn ended(&self) {
        self.in_flight.set(self.in_flight.get().saturating_sub(1));
        self.idle_since.set(Instant::now());
    }

    /// Why this connection should end for the sake of others, if it should.
    pub(crate) fn waste(&self, all: &Connections, now: Instant) -> Option<Ending> {
        if self.is_idle() {
            let idle = now.saturating_duration_since(self.idle_since.get());
            return (idle >= limits::IDLE && all.idle() > limits::IDLE_KEPT)
                .then_some(Ending::Idle);
        }
        let unread = self
            .living()
            .iter()
            .any(|call| call.is_unread_for(limits::UNREAD, now));
        (unread && all.calls() > limits::CALLS_SCARCE).then_some(Ending::Unread)
    }

    fn living(&self) -> Vec<Rc<Call>> {
        self.calls
            .borrow()
            .iter()
            .filter_map(Weak::upgrade)
            .collect()
    }

    fn is_idle(&self) -> bool {
        self.in_flight.get() == 0
    }

    fn owner(&self) -> Owner<'_> {
        match &self.caller {
            Caller::Certified(certified) => Owner::Person(&certified.person.name),
            Caller::Nobody => Owner::Address(self.prefix()),
        }
    }

    fn prefix(&self) -> Prefix {
        Prefix::from(self.peer.ip())
    }
}

/// All connections.
#[derive(Debug, Default)]
pub(crate) struct Connections {
    next: Cell<u64>,
    open: RefCell<BTreeMap<u64, Rc<Session>>>,
    emptied: Notify,
}

/// A connection's place; free again when dropped.
#[derive(Debug)]
pub(crate) struct Place<'a> {
    number: u64,
    connections: &'a Connections,
}

/// Too many calls in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Busy {
    #[error(
        "this node answers {} calls at a time; try again when others have ended",
        limits::CALLS
    )]
    Node,
    #[error(
        "one caller has at most {} calls in flight; end some of them",
        limits::CALLS_PER_OWNER
    )]
    Caller,
}

impl Connections {
    /// Gives a connection a place. When all are taken, an idle one makes room: of the caller with
    /// the most connections, the one that was idle longest.
    pub(crate) fn join(&self, session: &Rc<Session>) -> Place<'_> {
        let mut open = self.open.borrow_mut();
        if open.len() >= limits::CONNECTIONS
            && let Some(number) = first_to_go(&open)
            && let Some(displaced) = open.remove(&number)
        {
            displaced.end(Ending::Displaced);
        }
        let number = self.next.get();
        self.next.set(number + 1);
        open.insert(number, Rc::clone(session));
        Place {
            number,
            connections: self,
        }
    }

    /// Begins a call, if there are not too many.
    pub(crate) fn begin_call(&self, session: &Rc<Session>) -> Result<Rc<Call>, Busy> {
        if self.calls() >= limits::CALLS {
            return Err(Busy::Node);
        }
        let owner = session.owner();
        let own: usize = self
            .open
            .borrow()
            .values()
            .filter(|other| other.owner() == owner)
            .map(|other| other.in_flight.get())
            .sum();
        if own >= limits::CALLS_PER_OWNER {
            return Err(Busy::Caller);
        }
        Ok(Call::begin(session))
    }

    /// Whether somebody with a certificate is connected from there.
    pub(crate) fn knows(&self, prefix: Prefix) -> bool {
        self.open.borrow().values().any(|session| {
            matches!(session.caller, Caller::Certified(_)) && session.prefix() == prefix
        })
    }

    /// Tells all to end.
    pub(crate) fn end_all(&self) {
        for session in self.open.borrow().values() {
            session.end(Ending::Stopping);
        }
    }

    /// Waits until none is left.
    pub(crate) async fn emptied(&self) {
        while !self.open.borrow().is_empty() {
            self.emptied.notified().await;
        }
    }

    fn calls(&self) -> usize {
        let open = self.open.borrow();
        open.values().map(|session| session.in_flight.get()).sum()
    }

    fn idle(&self) -> usize {
        let open = self.open.borrow();
        open.values().filter(|session| session.is_idle()).count()
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut open = self.connections.open.borrow_mut();
        open.remove(&self.number);
        if open.is_empty() {
            self.connections.emptied.notify_one();
        }
    }
}

fn first_to_go(open: &BTreeMap<u64, Rc<Session>>) -> Option<u64> {
    let mut held: BTreeMap<Owner<'_>, usize> = BTreeMap::new();
    for session in open.values() {
        *held.entry(session.owner()).or_default() += 1;
    }
    open.iter()
        .filter(|(_, session)| session.is_idle())
        .max_by_key(|(_, session)| {
            let most = held.get(&session.owner()).copied();
            (most, std::cmp::Reverse(session.idle_since.get()))
        })
        .map(|(number, _)| *number)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn from(last: u8) -> Rc<Session> {
        let peer = SocketAddr::from(([192, 0, 2, last], 4711));
        Session::new(Caller::Nobody, peer)
    }

    #[test]
    fn the_longest_idle_of_whoever_holds_most_makes_room() {
        let all = Connections::default();
        let (person, busy) = (from(1), from(2));
        let mut places = vec![all.join(&person), all.join(&busy)];
        let call = all.begin_call(&busy).unwrap();
        let crowd: Vec<_> = (0..limits::CONNECTIONS).map(|_| from(2)).collect();
        places.extend(crowd.iter().map(|session| all.join(session)));
        assert_eq!(all.open.borrow().len(), limits::CONNECTIONS);
        let displaced: Vec<_> = crowd
            .iter()
            .map(|session| session.ending.get().is_some())
            .collect();
        assert_eq!(
            displaced[..3],
            [true, true, false],
            "two too many, the oldest"
        );
        assert_eq!((person.ending.get(), busy.ending.get()), (None, None));
        drop(call);
        drop(places);
        assert!(all.open.borrow().is_empty());
    }

    #[test]
    fn calls_are_counted_by_caller_and_in_all() {
        let all = Connections::default();
        let sessions = [from(1), from(1), from(2), from(3)];
        let _places: Vec<_> = sessions.iter().map(|session| all.join(session)).collect();
        let [first, second, third, fourth] = &sessions;
        let mut calls: Vec<_> = (0..limits::CALLS_PER_OWNER)
            .map(|_| all.begin_call(first).unwrap())
            .collect();
        assert_eq!(all.begin_call(second).unwrap_err(), Busy::Caller);
        while let Ok(call) = all.begin_call(third) {
            calls.push(call);
        }
        assert_eq!(calls.len(), limits::CALLS);
        assert_eq!(all.begin_call(fourth).unwrap_err(), Busy::Node);
        calls.pop();
        assert!(all.begin_call(fourth).is_ok());
    }

    #[test]
    fn idle_connections_go_when_they_are_many() {
        let all = Connections::default();
        let crowd: Vec<_> = (0..=limits::IDLE_KEPT).map(|_| from(1)).collect();
        let mut places: Vec<_> = crowd.iter().map(|session| all.join(session)).collect();
        let now = Instant::now();
        assert_eq!(crowd[0].waste(&all, now), None);
        let later = now + limits::IDLE;
        assert_eq!(crowd[0].waste(&all, later), Some(Ending::Idle));
        places.pop();
        assert_eq!(crowd[0].waste(&all, later), None, "few");
    }

    #[test]
    fn answers_that_are_not_read_go_when_calls_are_scarce() {
        let all = Connections::default();
        let (slow, other) = (from(1), from(2));
        let _places = [all.join(&slow), all.join(&other)];
        let call = all.begin_call(&slow).unwrap();
        let later = Instant::now() + limits::UNREAD + Duration::from_secs(1);
        let mut calls: Vec<_> = (0..limits::CALLS_SCARCE)
            .map(|_| all.begin_call(&other).unwrap())
            .collect();
        assert_eq!(slow.waste(&all, later), None, "nothing lies unread");
        call.handed_out(true);
        assert_eq!(slow.waste(&all, Instant::now()), None, "not for long");
        assert_eq!(slow.waste(&all, later), Some(Ending::Unread));
        calls.pop();
        assert_eq!(slow.waste(&all, later), None, "enough for all");
        call.handed_out(false);
        calls.push(all.begin_call(&other).unwrap());
        assert_eq!(slow.waste(&all, later), None, "read at last");
    }
}
