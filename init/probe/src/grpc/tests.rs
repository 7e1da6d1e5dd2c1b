//! Against an HTTP/2 server of others, and against one that breaks every rule.

use std::convert::Infallible;
use std::io::Cursor;
use std::os::unix::net::UnixListener;
use std::thread::{self, JoinHandle};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use proptest::prelude::*;

use super::*;

const LONG: Duration = Duration::from_secs(20);

/// Serves one connection with a real HTTP/2 implementation; returns what was asked.
fn serve(path: &Path, answer: &'static [u8]) -> JoinHandle<Vec<String>> {
    let listener = UnixListener::bind(path).unwrap();
    thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        stream.set_nonblocking(true).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let (asked, questions) = std::sync::mpsc::channel();
        runtime.block_on(async move {
            let stream = tokio::net::UnixStream::from_std(stream).unwrap();
            let service = service_fn(|request: Request<Incoming>| {
                let asked = asked.clone();
                async move {
                    let (parts, body) = request.into_parts();
                    let header = |name: &str| parts.headers[name].to_str().unwrap().to_owned();
                    asked.send(parts.method.to_string()).unwrap();
                    asked.send(parts.uri.path().to_owned()).unwrap();
                    asked.send(header("content-type")).unwrap();
                    asked.send(header("te")).unwrap();
                    let body = body.collect().await.unwrap().to_bytes();
                    asked.send(format!("{body:?}")).unwrap();
                    Ok::<_, Infallible>(Response::new(Full::new(Bytes::from_static(answer))))
                }
            });
            // It ends with the connection, which the client just drops.
            let _ = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
        questions.try_iter().collect()
    })
}

fn folder() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s");
    (folder, path)
}

#[test]
fn a_server_that_serves_is_well() {
    let (_folder, path) = folder();
    let server = serve(&path, b"\0\0\0\0\x02\x08\x01");
    ask(&path, LONG).unwrap();
    assert_eq!(
        server.join().unwrap(),
        [
            "POST",
            "/grpc.health.v1.Health/Check",
            "application/grpc",
            "trailers",
            r#"b"\0\0\0\0\0""#,
        ]
    );
}

#[test]
fn other_answers_are_not() {
    for (answer, expected) in [
        (&b"\0\0\0\0\x02\x08\x02"[..], "does not serve"),
        (b"\0\0\0\0\0", "does not serve"),
        // What a call of an unknown service looks like: headers only.
        (b"", "refuses"),
    ] {
        let (_folder, path) = folder();
        let server = serve(&path, answer);
        let error = ask(&path, LONG).unwrap_err().to_string();
        assert!(error.contains(expected), "{answer:?}: {error}");
        server.join().unwrap();
    }
}

#[test]
fn a_server_that_does_not_answer_runs_into_the_deadline() {
    let (_folder, path) = folder();
    let listener = UnixListener::bind(&path).unwrap();
    let begun = Instant::now();
    // The kernel accepts for it, until its queue is full and connecting waits too.
    let mut waiting = Vec::new();
    for _ in 0..2 {
        let error = ask(&path, Duration::from_millis(100)).unwrap_err();
        assert!(matches!(error, GrpcError::Exchange { .. }), "{error}");
    }
    rustix::net::listen(&listener, 0).unwrap();
    let error = loop {
        match connect(&path, Instant::now() + Duration::from_millis(100)) {
            Ok(stream) => waiting.push(stream),
            Err(error) => break error,
        }
        assert!(waiting.len() < 1000, "its queue never fills");
    };
    assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
    assert!(begun.elapsed() < LONG);
}

#[test]
fn nobody_there_is_named() {
    let error = ask(Path::new("/nonexistent/s"), LONG).unwrap_err();
    assert!(error.to_string().contains("/nonexistent/s"));
}

/// Reads what a hostile server sends, takes everything that is written.
struct Server(Cursor<Vec<u8>>);

impl Read for Server {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl Write for Server {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        Ok(buffer.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

proptest! {
    #[test]
    fn any_bytes_are_handled(bytes: Vec<u8>) {
        let _ = converse(Server(Cursor::new(bytes)));
    }

    #[test]
    fn any_frames_are_handled(
        frames in proptest::collection::vec((0_u8..12, any::<u8>(), 0_u32..3, any::<Vec<u8>>()), 0..100),
    ) {
        let bytes: Vec<u8> = frames
            .iter()
            .flat_map(|(kind, flags, stream, payload)| encode(*kind, *flags, *stream, payload))
            .collect();
        if let Ok(Some(body)) = converse(Server(Cursor::new(bytes))) {
            prop_assert!(!body.is_empty());
        }
    }
}
