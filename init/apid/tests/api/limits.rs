//! What one caller can take from the others.

use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body::Frame;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;
use tonic::Code;

use crate::support::authority::Pair;
use crate::support::client::{Client, Way};
use crate::support::machined::{FakeMachined, Frames};
use crate::support::node::Node;

const VERSION: &str = "/keelson.node.v1alpha1.System/Version";
const STATUS: &str = "/keelson.node.v1alpha1.System/Status";
const EVENTS: &str = "/keelson.node.v1alpha1.System/Events";

const ATTACKER: [u8; 4] = [127, 0, 1, 1];

#[tokio::test]
async fn nobody_takes_all_calls() {
    let (node, _machined) = start();
    let eve = node.authority.person("eve", "keelson:reader");
    let mut streams = Vec::new();
    let mut last = None;
    for _ in 0..3 {
        let client = Way::to(&node, Some(&eve)).connect().await.unwrap();
        for _ in 0..31 {
            let response = client.open(EVENTS).await.unwrap();
            match response.headers().get("grpc-status") {
                None => streams.push((client.clone(), response)),
                Some(code) => last = Some(code.clone()),
            }
        }
    }
    assert_eq!(streams.len(), 48);
    assert_eq!(last.unwrap(), "8");
    let bob = client(&node, "bob").await;
    assert_eq!(bob.code(VERSION).await.unwrap(), Code::Ok);
    // What ends makes room.
    drop(streams);
    let client = Way::to(&node, Some(&eve)).connect().await.unwrap();
    let free = async || client.code(VERSION).await.unwrap() == Code::Ok;
    crate::support::eventually("room", Duration::from_secs(5), free).await;
}

#[tokio::test]
async fn a_handshake_has_five_seconds_however_it_is_drawn_out() {
    let (node, _machined) = start();
    let way = Way::to(&node, Some(&pair(&node)));
    let start = Instant::now();
    let mut silent = way.tcp().await.unwrap();
    let mut trickling = way.tcp().await.unwrap();
    // Done with TLS, and then no HTTP/2.
    let mut dumb = way.tls().await.unwrap();
    let mut buffer = [0; 512];
    // A record of TLS that never ends.
    trickling.write_all(&[22, 3, 1, 2, 0]).await.unwrap();
    let trickle = async {
        loop {
            tokio::time::sleep(Duration::from_millis(200)).await;
            if trickling.write_all(&[1]).await.is_err() {
                break;
            }
        }
    };
    let silence = async { while !matches!(silent.read(&mut buffer).await, Ok(0) | Err(_)) {} };
    let mut buffer = [0; 512];
    let dumbness = async { while !matches!(dumb.read(&mut buffer).await, Ok(0) | Err(_)) {} };
    tokio::time::timeout(Duration::from_secs(9), async {
        tokio::join!(trickle, silence, dumbness)
    })
    .await
    .unwrap();
    assert!(
        start.elapsed() > Duration::from_secs(4),
        "{:?}",
        start.elapsed()
    );
}

#[tokio::test]
async fn after_tls_only_http2_is_heard() {
    let (node, _machined) = start();
    let way = Way::to(&node, Some(&pair(&node)));
    let mut stream = way.tls().await.unwrap();
    let _ = stream
        .write_all(b"GET / HTTP/1.1\r\nhost: node\r\n\r\n")
        .await;
    let mut answer = Vec::new();
    let read = tokio::time::timeout(Duration::from_secs(3), stream.read_to_end(&mut answer));
    let _ = read.await.unwrap();
    assert_eq!(answer, b"");
}

#[tokio::test]
async fn a_request_that_trickles_does_not_hold_up_others() {
    let (node, _machined) = start();
    let eve = client(&node, "eve").await;
    let mut slow = Vec::new();
    for _ in 0..20 {
        let (sender, receiver) = mpsc::channel(1);
        let prefix = Bytes::from_static(&[0, 0, 0, 1, 0, 9]);
        sender.send(Frame::data(prefix)).await.unwrap();
        let eve = eve.clone();
        let call = async move { eve.feed(STATUS, Frames(Some(receiver))).await };
        slow.push((sender, tokio::spawn(call)));
    }
    assert_eq!(eve.code(VERSION).await.unwrap(), Code::Ok);
    let bob = client(&node, "bob").await;
    assert_eq!(bob.code(VERSION).await.unwrap(), Code::Ok);
    for (sender, call) in slow {
        assert!(!call.is_finished());
        drop(sender);
    }
}

#[tokio::test]
async fn an_address_with_many_failures_is_shut_out_unless_it_is_known() {
    let (node, _machined) = start();
    let good = pair(&node);
    let way = Way::to(&node, Some(&good)).from(ATTACKER);
    let fail = async |times| {
        for _ in 0..times {
            let mut stream = way.tcp().await.unwrap();
            let _ = stream.write_all(b"GET / HTTP/1.1\r\n\r\n").await;
            let _ = stream.read(&mut [0; 64]).await;
        }
    };
    fail(30).await;
    assert!(way.connect().await.is_err(), "shut out");
    let elsewhere = Way::to(&node, Some(&good));
    let bob = elsewhere.connect().await.unwrap();
    assert_eq!(bob.code(VERSION).await.unwrap(), Code::Ok);
    // Not for ever.
    tokio::time::sleep(Duration::from_secs(11)).await;
    let known = way.connect().await.unwrap();
    assert_eq!(known.code(VERSION).await.unwrap(), Code::Ok);
    // Now somebody is connected from there: others may come in whatever fails.
    fail(60).await;
    let second = way.connect().await.unwrap();
    assert_eq!(second.code(VERSION).await.unwrap(), Code::Ok);
    assert_eq!(known.code(VERSION).await.unwrap(), Code::Ok);
}

#[tokio::test]
async fn large_headers_are_refused() {
    let (node, machined) = start();
    let ada = client(&node, "ada").await;
    let mut request = crate::support::client::request(VERSION, b"");
    let large = "x".repeat(12 * 1024).parse().unwrap();
    request.headers_mut().insert("large", large);
    let answer = ada.send(request).await;
    assert!(!answer.is_ok_and(|answer| answer.code == Code::Ok));
    assert!(machined.seen.methods.lock().unwrap().is_empty());
    let ada = client(&node, "ada").await;
    assert_eq!(ada.code(VERSION).await.unwrap(), Code::Ok);
}

fn start() -> (Node, FakeMachined) {
    let node = Node::start();
    let machined = node.machined();
    (node, machined)
}

fn pair(node: &Node) -> Pair {
    node.authority.person("ada", "keelson:reader")
}

async fn client(node: &Node, name: &'static str) -> Client {
    let pair = node.authority.person(name, "keelson:reader");
    Way::to(node, Some(&pair)).connect().await.unwrap()
}
