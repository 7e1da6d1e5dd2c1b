//! The secured stream below HTTP/2, and what it remembers for messages to people.

use std::future::{Ready, ready};
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use http::Uri;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tower_service::Service;

/// Why TLS ended. HTTP/2 keeps only a text of it, and with TLS 1.3 a node refuses a client's
/// certificate after the handshake, while the first call is under way.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ended(Arc<Mutex<Option<rustls::Error>>>);

impl Ended {
    pub(crate) fn why(&self) -> Option<rustls::Error> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn note(&self, error: &io::Error) -> bool {
        let Some(cause) = tls_error(error) else {
            return false;
        };
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(cause.clone());
        true
    }
}

/// What TLS said, inside the error of a stream.
pub(crate) fn tls_error(error: &io::Error) -> Option<&rustls::Error> {
    error.get_ref()?.downcast_ref()
}

/// A stream that notes why it ended.
#[derive(Debug)]
pub(crate) struct Watched<S> {
    stream: S,
    ended: Ended,
    /// A write failed, and what was sent to us before is still to be read.
    failed: Option<io::Error>,
}

impl<S> Watched<S> {
    pub(crate) fn new(stream: S, ended: Ended) -> Self {
        Self {
            stream,
            ended,
            failed: None,
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_read(context, buffer);
        if let Poll::Ready(Err(error)) = &polled {
            self.ended.note(error);
        }
        polled
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Watched<S> {
    /// Hands a write's error on, once it is known why. A node that refuses us says so and closes,
    /// and writing often fails before that is read. A stream that cannot be written to always
    /// becomes readable, if only for its end, so this does not wait for ever.
    fn poll_failed(&mut self, context: &mut Context<'_>, error: io::Error) -> Poll<io::Error> {
        if self.ended.note(&error) {
            return Poll::Ready(error);
        }
        // Nobody needs what else was sent.
        let mut scratch = [0; 4096];
        loop {
            let mut buffer = ReadBuf::new(&mut scratch);
            match Pin::new(&mut self.stream).poll_read(context, &mut buffer) {
                Poll::Pending => {
                    self.failed = Some(error);
                    return Poll::Pending;
                }
                Poll::Ready(Ok(())) if !buffer.filled().is_empty() => {}
                Poll::Ready(Ok(())) => return Poll::Ready(error),
                Poll::Ready(Err(why)) => {
                    self.ended.note(&why);
                    return Poll::Ready(error);
                }
            }
        }
    }

    fn poll_with<T>(
        &mut self,
        context: &mut Context<'_>,
        act: impl FnOnce(Pin<&mut S>, &mut Context<'_>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        let polled = match self.failed.take() {
            Some(error) => Poll::Ready(Err(error)),
            None => act(Pin::new(&mut self.stream), context),
        };
        match polled {
            Poll::Ready(Err(error)) => self.poll_failed(context, error).map(Err),
            polled => polled,
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_with(context, |stream, context| stream.poll_write(context, bytes))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_with(context, S::poll_flush)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// Hands out one stream that exists already; a second one is never made.
#[derive(Debug)]
pub(crate) struct Once<S>(Option<TokioIo<S>>);

impl<S> Once<S> {
    pub(crate) fn new(stream: S) -> Self {
        Self(Some(TokioIo::new(stream)))
    }
}

impl<S> Service<Uri> for Once<S> {
    type Response = TokioIo<S>;
    type Error = io::Error;
    type Future = Ready<io::Result<TokioIo<S>>>;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _uri: Uri) -> Self::Future {
        ready(
            self.0
                .take()
                .ok_or_else(|| io::Error::from(io::ErrorKind::ConnectionAborted)),
        )
    }
}
