//! A machined that answers every method: by what its last part says, or with an empty message.

use std::collections::HashSet;
use std::convert::Infallible;
use std::path::Path;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body::{Body, Frame};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use keelson_api::v1alpha1::VersionResponse;
use prost::Message;
use tokio::net::UnixListener;
use tokio::sync::{mpsc, oneshot};

use super::client::framed;

/// Runs until dropped; then its connections break, as those of a killed process do.
pub struct FakeMachined {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
    pub seen: Arc<Seen>,
}

/// What came through.
#[derive(Default)]
pub struct Seen {
    pub methods: Mutex<HashSet<String>>,
    pub request_bytes: AtomicU64,
}

/// Messages of a stream that ends: `System/BootReport` answers with them.
pub const STREAMED: usize = 500;

impl FakeMachined {
    pub fn start(socket: &Path) -> Self {
        let _ = std::fs::remove_file(socket);
        let socket = socket.to_owned();
        let seen = Arc::new(Seen::default());
        let shared = Arc::clone(&seen);
        let (stop, stopped) = oneshot::channel();
        let (ready, is_ready) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                let listener = UnixListener::bind(&socket).unwrap();
                ready.send(()).unwrap();
                tokio::select! {
                    _ = stopped => {}
                    () = serve(listener, shared) => {}
                }
            });
        });
        is_ready.recv().unwrap();
        Self {
            stop: Some(stop),
            thread: Some(thread),
            seen,
        }
    }
}

impl Drop for FakeMachined {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

async fn serve(listener: UnixListener, seen: Arc<Seen>) {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let seen = Arc::clone(&seen);
        tokio::spawn(async move {
            let service = service_fn(move |request| answer(request, Arc::clone(&seen)));
            let _ = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

async fn answer(
    request: Request<Incoming>,
    seen: Arc<Seen>,
) -> Result<Response<Frames>, Infallible> {
    let method = request.uri().path().to_owned();
    seen.methods.lock().unwrap().insert(method.clone());
    let (parts, mut body) = request.into_parts();
    let mut response = Response::new(Frames::default());
    let headers = response.headers_mut();
    headers.insert("content-type", HeaderValue::from_static("application/grpc"));
    for (name, value) in &parts.headers {
        let echo = http::HeaderName::try_from(format!("echo-{name}")).unwrap();
        headers.append(echo, value.clone());
    }
    let (sender, receiver) = mpsc::channel(1);
    *response.body_mut() = Frames(Some(receiver));
    match method.rsplit('/').next().unwrap() {
        "Version" => {
            let version = VersionResponse {
                version: "1.2.3".to_owned(),
                ..VersionResponse::default()
            };
            send(sender, vec![framed(&version.encode_to_vec())], "0");
        }
        // Not found, with the details that only trailers carry.
        "Describe" => send(sender, Vec::new(), "5"),
        "BootReport" => {
            let messages = (0..STREAMED).map(|n| framed(&n.to_be_bytes())).collect();
            send(sender, messages, "0");
        }
        // A message every 20 ms, for ever.
        "Events" => {
            tokio::spawn(async move {
                for number in 0_u64.. {
                    let message = framed(&number.to_be_bytes());
                    if sender.send(Frame::data(message)).await.is_err() {
                        return;
                    }
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            });
        }
        // As much as is taken, for ever: in large pieces, and in those of log lines.
        large @ ("SupportBundle" | "Kernel") => {
            let size = if large == "Kernel" { 35 } else { 16 * 1024 };
            tokio::spawn(async move {
                let message = framed(&vec![7; size]);
                while sender.send(Frame::data(message.clone())).await.is_ok() {}
            });
        }
        // No answer, ever.
        "Reboot" => std::future::pending().await,
        // A little late.
        "Restart" => {
            tokio::time::sleep(Duration::from_millis(1500)).await;
            send(sender, vec![framed(b"late")], "0");
        }
        _ => {
            let mut length = 0;
            while let Some(Ok(frame)) = body.frame().await {
                let bytes = u64::try_from(frame.data_ref().map_or(0, Bytes::len)).unwrap();
                length += bytes;
                seen.request_bytes.fetch_add(bytes, Ordering::Relaxed);
            }
            send(sender, vec![framed(&length.to_be_bytes())], "0");
        }
    }
    Ok(response)
}

fn send(sender: mpsc::Sender<Frame<Bytes>>, messages: Vec<Bytes>, status: &'static str) {
    tokio::spawn(async move {
        for message in messages {
            if sender.send(Frame::data(message)).await.is_err() {
                return;
            }
        }
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", HeaderValue::from_static(status));
        trailers.insert("grpc-message", HeaderValue::from_static("from machined"));
        trailers.insert("detail-bin", HeaderValue::from_static("AAEC"));
        let _ = sender.send(Frame::trailers(trailers)).await;
    });
}

/// A body made of what comes through a channel.
#[derive(Default)]
pub struct Frames(pub Option<mpsc::Receiver<Frame<Bytes>>>);

impl Body for Frames {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match &mut self.0 {
            None => Poll::Ready(None),
            Some(receiver) => receiver.poll_recv(context).map(|frame| frame.map(Ok)),
        }
    }
}
