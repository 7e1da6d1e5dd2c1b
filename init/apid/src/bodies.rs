//! The bodies of a call as they pass: nothing is kept, everything is counted.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame};
use hyper::body::Incoming;
use tokio::time::{Sleep, sleep};
use tonic::{Code, Status};

use crate::call::{Call, Half};
use crate::framing::Framing;
use crate::gather::{Gather, Patience};
use crate::headers;
use crate::limits;

/// What the client sends, on its way to machined.
#[derive(Debug)]
pub(crate) struct RequestBody<B = Incoming> {
    body: B,
    call: Rc<Call>,
    framing: Framing,
    deadline: Pin<Box<Sleep>>,
}

/// The request ends before its end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RequestError<E: std::error::Error + 'static> {
    #[error("the call was ended")]
    Ended,
    #[error("the client did not send the rest")]
    Client(#[source] E),
}

impl<B> RequestBody<B> {
    pub(crate) fn new(body: B, call: Rc<Call>) -> Self {
        Self {
            body,
            call,
            framing: Framing::new(),
            deadline: Box::pin(sleep(limits::REQUEST_DEADLINE)),
        }
    }
}

impl<B> Body for RequestBody<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: std::error::Error + 'static,
{
    type Data = Bytes;
    type Error = RequestError<B::Error>;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let this = &mut *self;
        if this.call.poll_failure(Half::Request, context).is_ready() {
            return Poll::Ready(Some(Err(RequestError::Ended)));
        }
        if this.deadline.as_mut().poll(context).is_ready() {
            this.call.fail(Status::deadline_exceeded(format!(
                "the request was not complete after {} s",
                limits::REQUEST_DEADLINE.as_secs()
            )));
            return Poll::Ready(Some(Err(RequestError::Ended)));
        }
        let Some(frame) = ready!(Pin::new(&mut this.body).poll_frame(context)) else {
            return Poll::Ready(None);
        };
        let mut frame = match frame {
            Ok(frame) => frame,
            Err(error) => return Poll::Ready(Some(Err(RequestError::Client(error)))),
        };
        if let Some(data) = frame.data_ref()
            && let Err(error) = this.framing.pass(data)
        {
            this.call
                .fail(Status::resource_exhausted(error.to_string()));
            return Poll::Ready(Some(Err(RequestError::Ended)));
        }
        if let Some(trailers) = frame.trailers_mut() {
            headers::drop_ours(trailers);
        }
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }
}

/// What machined answers, on its way to the client. Ends with a status in any case.
#[derive(Debug, Default)]
pub(crate) struct ResponseBody {
    passing: Option<Passing>,
}

#[derive(Debug)]
struct Passing {
    body: Gather<Incoming>,
    call: Rc<Call>,
}

impl ResponseBody {
    pub(crate) fn new(body: Incoming, call: Rc<Call>) -> Self {
        Self {
            passing: Some(Passing {
                body: Gather::new(body, Patience::Moment),
                call,
            }),
        }
    }

    fn end_with(&mut self, status: &Status) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        self.passing = None;
        let mut trailers = HeaderMap::new();
        // Fails on a message that no header can carry; the code goes without it then.
        if status.add_header(&mut trailers).is_err() {
            let code = i32::from(status.code());
            trailers.insert(Status::GRPC_STATUS, code.into());
        }
        Poll::Ready(Some(Ok(Frame::trailers(trailers))))
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let Some(passing) = &mut self.passing else {
            return Poll::Ready(None);
        };
        passing.call.handed_out(false);
        if let Poll::Ready(status) = passing.call.poll_failure(Half::Response, context) {
            return self.end_with(&status);
        }
        match ready!(Pin::new(&mut passing.body).poll_frame(context)) {
            Some(Ok(frame)) => {
                passing.call.handed_out(frame.is_data());
                Poll::Ready(Some(Ok(frame)))
            }
            Some(Err(_)) => {
                let status = Status::new(Code::Unavailable, MACHINED_ENDED);
                self.end_with(&status)
            }
            None => {
                self.passing = None;
                Poll::Ready(None)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.passing
            .as_ref()
            .is_none_or(|passing| passing.body.is_end_stream())
    }
}

/// Said when machined goes away within a call.
pub(crate) const MACHINED_ENDED: &str = "the node's machined ended while it answered; it is \
    started again at once. If the call changes something, look whether it did before you repeat it";

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::net::SocketAddr;

    use super::*;
    use crate::caller::Caller;
    use crate::connections::{Connections, Session};

    /// Sends its data, then nothing, and does not end.
    struct Trickle(Option<Bytes>);

    impl Body for Trickle {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            self.0.take().map_or(Poll::Pending, |data| {
                Poll::Ready(Some(Ok(Frame::data(data))))
            })
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_has_a_minute() {
        let all = Connections::default();
        let session = Session::new(Caller::Nobody, SocketAddr::from(([192, 0, 2, 1], 1)));
        let call = all.begin_call(&session).unwrap();
        let trickle = Trickle(Some(Bytes::from_static(&[0, 0, 0, 0, 9, 1])));
        let mut body = RequestBody::new(trickle, Rc::clone(&call));
        let mut next = async || std::future::poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await;
        assert!(next().await.unwrap().unwrap().is_data());
        let start = tokio::time::Instant::now();
        assert!(matches!(next().await, Some(Err(RequestError::Ended))));
        assert_eq!(
            start.elapsed().as_secs(),
            limits::REQUEST_DEADLINE.as_secs()
        );
        assert_eq!(call.failure().await.code(), Code::DeadlineExceeded);
    }

    #[tokio::test]
    async fn a_call_that_ends_wakes_both_halves() {
        let all = Connections::default();
        let session = Session::new(Caller::Nobody, SocketAddr::from(([192, 0, 2, 1], 1)));
        let call = all.begin_call(&session).unwrap();
        let mut body = RequestBody::new(Trickle(None), Rc::clone(&call));
        let local = tokio::task::LocalSet::new();
        let next = local.spawn_local(async move {
            std::future::poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await
        });
        let failure = local.spawn_local({
            let call = Rc::clone(&call);
            async move { call.failure().await }
        });
        local
            .run_until(async {
                tokio::task::yield_now().await;
                session.fail_calls(&Status::unauthenticated("out"));
                session.fail_calls(&Status::unavailable("the first counts"));
                assert!(matches!(
                    next.await.unwrap(),
                    Some(Err(RequestError::Ended))
                ));
                assert_eq!(failure.await.unwrap().message(), "out");
            })
            .await;
    }
}
