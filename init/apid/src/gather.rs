//! Joins small pieces of a body.
//!
//! HTTP/2 of both our neighbours counts small frames that nobody has read yet and ends the whole
//! connection when they are many. The one to machined is everybody's: nobody may end it by
//! sending a request byte by byte, or with frames that hold nothing at all.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http_body::{Body, Frame};

/// A piece of this size goes on as it is; it is far above what counts as small (256 bytes).
const LARGE: usize = 4 * 1024;

/// A body in larger pieces.
#[derive(Debug)]
pub(crate) struct Gather<B: Body> {
    body: B,
    patience: Patience,
    small: BytesMut,
    then: Option<Then<B::Error>>,
}

/// How long small pieces wait for more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Patience {
    /// As long as more is there already: somebody waits for each message of a stream.
    Moment,
    /// Until the end: nobody can do anything with a part of a request.
    Whole,
}

/// What follows the small pieces.
#[derive(Debug)]
enum Then<E> {
    End,
    Error(E),
    Trailers(HeaderMap),
}

impl<B: Body> Gather<B> {
    pub(crate) fn new(body: B, patience: Patience) -> Self {
        Self {
            body,
            patience,
            small: BytesMut::new(),
            then: None,
        }
    }
}

impl<B> Body for Gather<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Unpin,
{
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let this = &mut *self;
        loop {
            if this.small.len() >= LARGE || (this.then.is_some() && !this.small.is_empty()) {
                return this.gathered();
            }
            match this.then.take() {
                None => {}
                Some(Then::Error(error)) => return Poll::Ready(Some(Err(error))),
                Some(Then::Trailers(trailers)) => {
                    this.then = Some(Then::End);
                    return Poll::Ready(Some(Ok(Frame::trailers(trailers))));
                }
                Some(Then::End) => {
                    this.then = Some(Then::End);
                    return Poll::Ready(None);
                }
            }
            match Pin::new(&mut this.body).poll_frame(context) {
                Poll::Ready(None) => this.then = Some(Then::End),
                Poll::Ready(Some(Err(error))) => this.then = Some(Then::Error(error)),
                Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                    Ok(data) if this.small.is_empty() && data.len() >= LARGE => {
                        return Poll::Ready(Some(Ok(Frame::data(data))));
                    }
                    Ok(data) => this.small.extend_from_slice(&data),
                    Err(frame) => this.then = frame.into_trailers().ok().map(Then::Trailers),
                },
                Poll::Pending if this.small.is_empty() || this.patience == Patience::Whole => {
                    return Poll::Pending;
                }
                Poll::Pending => return this.gathered(),
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self.then {
            Some(Then::End) => self.small.is_empty(),
            Some(Then::Error(_) | Then::Trailers(_)) => false,
            None => self.small.is_empty() && self.body.is_end_stream(),
        }
    }
}

impl<B: Body> Gather<B> {
    fn gathered(&mut self) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        Poll::Ready(Some(Ok(Frame::data(self.small.split().freeze()))))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;

    /// Gives what it holds, one after the other.
    struct Script(VecDeque<Poll<Result<Frame<Bytes>, &'static str>>>);

    impl Body for Script {
        type Data = Bytes;
        type Error = &'static str;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, &'static str>>> {
            match self.0.pop_front() {
                None => Poll::Ready(None),
                Some(frame) => frame.map(Some),
            }
        }
    }

    fn data(size: usize) -> Poll<Result<Frame<Bytes>, &'static str>> {
        Poll::Ready(Ok(Frame::data(Bytes::from(vec![7; size]))))
    }

    /// Sizes of what comes out; words for what has none.
    fn run(
        patience: Patience,
        script: impl IntoIterator<Item = Poll<Result<Frame<Bytes>, &'static str>>>,
    ) -> Vec<String> {
        let mut gather = Gather::new(Script(script.into_iter().collect()), patience);
        let mut context = Context::from_waker(std::task::Waker::noop());
        let mut out = Vec::new();
        loop {
            out.push(match Pin::new(&mut gather).poll_frame(&mut context) {
                Poll::Pending => "pending".to_owned(),
                Poll::Ready(None) => {
                    assert!(gather.is_end_stream());
                    return out;
                }
                Poll::Ready(Some(Err(error))) => {
                    out.push(error.to_owned());
                    return out;
                }
                Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                    Ok(data) => data.len().to_string(),
                    Err(_) => "trailers".to_owned(),
                },
            });
        }
    }

    #[test]
    fn a_request_in_crumbs_is_one_piece() {
        let crumbs = || (0..300).flat_map(|_| [data(1), data(0), Poll::Pending]);
        let out = run(Patience::Whole, crumbs());
        assert_eq!(out.iter().filter(|piece| *piece != "pending").count(), 1);
        assert_eq!(out.last().unwrap(), "300");
        let out = run(Patience::Moment, crumbs());
        assert_eq!(out.iter().filter(|piece| *piece == "1").count(), 300);
        assert!(!out.contains(&"0".to_owned()));
    }

    #[test]
    fn what_is_there_at_once_goes_on_at_once() {
        let script = [
            data(10),
            data(10),
            Poll::Pending,
            data(5000),
            data(3000),
            data(3000),
        ];
        assert_eq!(run(Patience::Moment, script), ["20", "5000", "6000"]);
    }

    #[test]
    fn what_follows_comes_last() {
        let trailers = || Poll::Ready(Ok(Frame::trailers(HeaderMap::new())));
        let script = [data(1), Poll::Pending, data(1), trailers()];
        assert_eq!(run(Patience::Whole, script), ["pending", "2", "trailers"]);
        let script = [data(1), Poll::Ready(Err("broken"))];
        assert_eq!(run(Patience::Whole, script), ["1", "broken"]);
        assert_eq!(run(Patience::Whole, [data(0)]), [""; 0]);
    }
}
