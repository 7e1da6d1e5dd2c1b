//! One call in flight: what its request, its response and its connection must know of each other.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use tonic::Status;

use crate::connections::Session;

/// One call in flight. Its place is free again when request and response are gone.
#[derive(Debug)]
pub(crate) struct Call {
    session: Rc<Session>,
    /// Why it ends before machined's answer does.
    failure: RefCell<Option<Status>>,
    wakers: RefCell<[Option<Waker>; 2]>,
    /// When data was handed out that the client has not taken since.
    unread: Cell<Option<Instant>>,
}

/// The two halves of a call; each runs in a task of its own.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Half {
    Request,
    Response,
}

impl Call {
    pub(crate) fn begin(session: &Rc<Session>) -> Rc<Self> {
        let call = Rc::new(Self {
            session: Rc::clone(session),
            failure: RefCell::default(),
            wakers: RefCell::default(),
            unread: Cell::default(),
        });
        session.began(&call);
        call
    }

    /// Ends the call with `status`, unless it has failed already.
    pub(crate) fn fail(&self, status: Status) {
        self.failure.borrow_mut().get_or_insert(status);
        for waker in self.wakers.borrow_mut().iter_mut() {
            if let Some(waker) = waker.take() {
                waker.wake();
            }
        }
    }

    /// Why the call ends; as long as it does not, `half` is woken when it does.
    pub(crate) fn poll_failure(&self, half: Half, context: &Context<'_>) -> Poll<Status> {
        if let Some(status) = &*self.failure.borrow() {
            return Poll::Ready(status.clone());
        }
        let [request, response] = &mut *self.wakers.borrow_mut();
        let waker = match half {
            Half::Request => request,
            Half::Response => response,
        };
        *waker = Some(context.waker().clone());
        Poll::Pending
    }

    /// Waits until the call fails; only as long as there is no response that polls for it.
    pub(crate) async fn failure(&self) -> Status {
        std::future::poll_fn(|context| self.poll_failure(Half::Response, context)).await
    }

    /// Takes down that the client was handed data, or that it took everything.
    pub(crate) fn handed_out(&self, data: bool) {
        self.unread.set(data.then(Instant::now));
    }

    /// Whether the client has left data lie for `time`.
    pub(crate) fn is_unread_for(&self, time: Duration, now: Instant) -> bool {
        self.unread
            .get()
            .is_some_and(|since| now.saturating_duration_since(since) >= time)
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.session.ended();
    }
}
