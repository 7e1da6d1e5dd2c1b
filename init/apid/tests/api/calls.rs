//! Calls on their way to machined and back.

use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body::Frame;
use http_body_util::Full;
use keelson_api::MAX_MESSAGE_BYTES;
use keelson_api::v1alpha1::VersionRequest;
use keelson_api::v1alpha1::system_client::SystemClient;
use tokio::sync::mpsc;
use tonic::Code;

use crate::support::client::{Client, Way, framed, last_status, next_message};
use crate::support::eventually;
use crate::support::machined::{FakeMachined, Frames, STREAMED};
use crate::support::node::Node;

const VERSION: &str = "/keelson.node.v1alpha1.System/Version";
const STATUS: &str = "/keelson.node.v1alpha1.System/Status";
const DESCRIBE: &str = "/keelson.node.v1alpha1.Services/Describe";
const BOOT_REPORT: &str = "/keelson.node.v1alpha1.System/BootReport";
const EVENTS: &str = "/keelson.node.v1alpha1.System/Events";
const REBOOT: &str = "/keelson.node.v1alpha1.System/Reboot";
const BUNDLE: &str = "/keelson.node.v1alpha1.System/SupportBundle";

#[tokio::test]
async fn tonic_talks_through_it() {
    let (_node, client, _machined) = start().await;
    let mut system = SystemClient::new(client);
    let version = system.version(VersionRequest {}).await.unwrap();
    assert_eq!(version.into_inner().version, "1.2.3");
}

#[tokio::test]
async fn headers_messages_and_trailers_arrive_as_they_were_sent() {
    let (_node, client, _machined) = start().await;
    let answer = client.call(DESCRIBE, b"").await.unwrap();
    assert_eq!(answer.code, Code::NotFound);
    assert_eq!(answer.text, "from machined");
    assert_eq!(answer.trailers["detail-bin"], "AAEC");
    let answer = client.call(BOOT_REPORT, b"").await.unwrap();
    assert_eq!(answer.code, Code::Ok);
    let expected: Vec<Bytes> = (0..STREAMED)
        .map(|number| Bytes::copy_from_slice(&number.to_be_bytes()))
        .collect();
    assert_eq!(answer.messages, expected);
}

#[tokio::test]
async fn large_messages_pass_and_too_large_ones_are_seen_by_their_length() {
    let (_node, client, machined) = start().await;
    let largest = vec![1; MAX_MESSAGE_BYTES];
    let answer = client.call(STATUS, &largest).await.unwrap();
    assert_eq!(answer.code, Code::Ok);
    let length = u64::try_from(MAX_MESSAGE_BYTES + 5).unwrap();
    assert_eq!(
        answer.messages,
        [Bytes::copy_from_slice(&length.to_be_bytes())]
    );
    let seen = || {
        machined
            .seen
            .request_bytes
            .load(std::sync::atomic::Ordering::Relaxed)
    };
    let before = seen();
    for length in [MAX_MESSAGE_BYTES + 1, 64 * 1024 * 1024] {
        // The message of 64 MiB is there to be sent, but its first bytes are enough.
        let answer = client.call(STATUS, &vec![1; length]).await.unwrap();
        assert_eq!(answer.code, Code::ResourceExhausted, "{}", answer.text);
        assert!(answer.text.contains("4194304"), "{}", answer.text);
    }
    assert!(seen() - before < 1024, "{} bytes passed", seen() - before);
    assert_eq!(client.code(VERSION).await.unwrap(), Code::Ok);
}

#[tokio::test]
async fn the_second_message_of_a_request_is_measured_too() {
    let (_node, client, _machined) = start().await;
    let (sender, receiver) = mpsc::channel(4);
    sender.send(Frame::data(framed(b"small"))).await.unwrap();
    let prefix = framed(&vec![0; MAX_MESSAGE_BYTES + 1]).slice(..5);
    sender.send(Frame::data(prefix)).await.unwrap();
    let response = client.feed(STATUS, Frames(Some(receiver))).await.unwrap();
    assert_eq!(response.headers()["grpc-status"], "8");
}

#[tokio::test]
async fn only_grpc_is_spoken() {
    let (node, _, machined) = start().await;
    let pair = node.authority.person("ada", "keelson:admin");
    let way = Way::to(&node, Some(&pair));
    let stream = way.tls().await.unwrap();
    let io = hyper_util::rt::TokioIo::new(stream);
    let executor = hyper_util::rt::TokioExecutor::new();
    let (mut sender, connection) = hyper::client::conn::http2::handshake(executor, io)
        .await
        .unwrap();
    tokio::spawn(connection);
    for builder in [
        Request::get("https://node/"),
        Request::get(format!("https://node{VERSION}")).header("content-type", "application/grpc"),
        Request::post(format!("https://node{VERSION}")).header("content-type", "application/json"),
    ] {
        let request = builder.body(Full::<Bytes>::default()).unwrap();
        let response = sender.send_request(request).await.unwrap();
        assert_eq!(response.status(), StatusCode::UNSUPPORTED_MEDIA_TYPE);
    }
    assert!(machined.seen.methods.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_call_that_its_caller_gives_up_ends_at_machined_too() {
    let (_node, client, _machined) = start().await;
    // More than may be in flight at a time: it only works if each is over before long.
    for _ in 0..200 {
        let mut response = client.open(EVENTS).await.unwrap().into_body();
        assert!(next_message(&mut response).await.is_some());
    }
    assert_eq!(client.code(VERSION).await.unwrap(), Code::Ok);
}

#[tokio::test]
async fn without_machined_every_call_is_told_so_at_once() {
    let (_node, client, machined) = start().await;
    assert_eq!(client.code(VERSION).await.unwrap(), Code::Ok);
    let waiting = {
        let client = client.clone();
        tokio::spawn(async move { client.call(REBOOT, b"").await })
    };
    let mut stream = client.open(EVENTS).await.unwrap().into_body();
    assert!(next_message(&mut stream).await.is_some());
    tokio::task::spawn_blocking(move || drop(machined))
        .await
        .unwrap();
    let cut = waiting.await.unwrap().unwrap();
    assert_eq!(cut.code, Code::Unavailable, "{}", cut.text);
    assert!(cut.text.contains("look whether it did"), "{}", cut.text);
    assert_eq!(last_status(stream).await.unwrap(), Code::Unavailable);
    let start = Instant::now();
    let answer = client.call(VERSION, b"").await.unwrap();
    assert_eq!(answer.code, Code::Unavailable);
    assert!(answer.text.contains("api.sock"), "{}", answer.text);
    assert!(start.elapsed() < Duration::from_secs(1));
}

#[tokio::test]
async fn machined_may_be_restarted_between_two_calls() {
    let (node, client, machined) = start().await;
    let mut machined = Some(machined);
    for round in 0..20 {
        assert_eq!(client.code(VERSION).await.unwrap(), Code::Ok, "{round}");
        // Dropped before the next one is made: both have the same socket.
        drop(machined.take());
        machined = Some(node.machined());
    }
}

#[tokio::test]
async fn a_machined_that_is_stopped_holds_nobody_for_long() {
    let node = Node::start();
    // Connections are accepted by the kernel alone.
    let _silent = std::os::unix::net::UnixListener::bind(node.files.path("api.sock")).unwrap();
    let pair = node.authority.person("ada", "keelson:reader");
    let client = Way::to(&node, Some(&pair)).connect().await.unwrap();
    let answer = tokio::time::timeout(Duration::from_secs(20), client.call(VERSION, b""));
    assert_eq!(answer.await.unwrap().unwrap().code, Code::Unavailable);
}

#[tokio::test]
async fn who_does_not_read_holds_up_nobody() {
    let (node, client, _machined) = start().await;
    let mut unread = Vec::new();
    for _ in 0..2 {
        let pair = node.authority.person("eve", "keelson:operator");
        let client = Way::to(&node, Some(&pair))
            .connect_with(64 * 1024)
            .await
            .unwrap();
        for _ in 0..24 {
            unread.push(client.open(BUNDLE).await.unwrap());
        }
    }
    for _ in 0..20 {
        let start = Instant::now();
        let answer = client.call(BOOT_REPORT, b"").await.unwrap();
        assert_eq!(answer.messages.len(), STREAMED);
        assert!(start.elapsed() < Duration::from_secs(1));
    }
    // They were only waiting.
    for response in &mut unread {
        assert!(next_message(response.body_mut()).await.is_some());
    }
}

#[tokio::test]
async fn calls_in_flight_may_end_before_it_stops() {
    let (mut node, client, _machined) = start().await;
    let restart = {
        let client = client.clone();
        let method = "/keelson.node.v1alpha1.Services/Restart";
        tokio::spawn(async move { client.call(method, b"").await })
    };
    let mut stream = client.open(EVENTS).await.unwrap().into_body();
    assert!(next_message(&mut stream).await.is_some());
    let way = Way::to(&node, None);
    let start = Instant::now();
    node.stop();
    let refused = async || way.tcp().await.is_err();
    eventually("no new connections", Duration::from_secs(1), refused).await;
    assert_eq!(restart.await.unwrap().unwrap().code, Code::Ok);
    // A stream would never end.
    assert_eq!(last_status(stream).await.unwrap(), Code::Unavailable);
    tokio::task::spawn_blocking(move || node.join())
        .await
        .unwrap();
    assert!(
        start.elapsed() < Duration::from_secs(4),
        "{:?}",
        start.elapsed()
    );
}

async fn start() -> (Node, Client, FakeMachined) {
    let node = Node::start();
    let machined = node.machined();
    let pair = node.authority.person("ada", "keelson:operator");
    let client = Way::to(&node, Some(&pair)).connect().await.unwrap();
    (node, client, machined)
}
