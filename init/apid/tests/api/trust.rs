//! Keys and certificates that change while connections live.

use std::time::Duration;

use tonic::Code;

use crate::support::authority::{Authority, Pair, Wish};
use crate::support::client::{Client, Way, last_status, next_message};
use crate::support::eventually;
use crate::support::machined::FakeMachined;
use crate::support::node::Node;

const VERSION: &str = "/keelson.node.v1alpha1.System/Version";
const EVENTS: &str = "/keelson.node.v1alpha1.System/Events";

/// Files are looked at once a second, connections every two; the rest is for a busy machine.
const SOON: Duration = Duration::from_secs(10);

#[tokio::test]
async fn a_renewal_is_shown_to_the_next_and_disturbs_nobody() {
    let (node, pair, client, _machined) = start().await;
    let mut stream = client.open(EVENTS).await.unwrap().into_body();
    let renewed = node.authority.serving();
    node.files.replace("serving.pem", &renewed.pem);
    let way = Way::to(&node, Some(&pair));
    let shows_new = async || way.connect().await.unwrap().server == renewed.certificate;
    eventually("the new certificate", SOON, shows_new).await;
    // One that cannot be used changes nothing.
    node.files.replace("serving.pem", "half a fi");
    tokio::time::sleep(Duration::from_millis(1100)).await;
    assert!(shows_new().await);
    std::fs::remove_file(node.files.path("serving.pem")).unwrap();
    tokio::time::sleep(Duration::from_millis(1100)).await;
    assert!(shows_new().await);
    for _ in 0..5 {
        assert!(next_message(&mut stream).await.is_some());
    }
    assert_eq!(client.code(VERSION).await.unwrap(), Code::Ok);
}

#[tokio::test]
async fn a_connection_does_not_outlive_its_certificate() {
    let node = Node::start();
    let _machined = node.machined();
    let wish = Wish {
        until: time::Duration::seconds(4),
        ..Wish::person("ada", "keelson:reader")
    };
    let pair = node.authority.issue(&wish);
    let client = Way::to(&node, Some(&pair)).connect().await.unwrap();
    let mut stream = client.open(EVENTS).await.unwrap().into_body();
    assert!(next_message(&mut stream).await.is_some());
    let status = tokio::time::timeout(SOON, last_status(stream)).await;
    assert_eq!(status.unwrap().unwrap(), Code::Unauthenticated);
    assert_gets_nothing(&node, &pair, &client).await;
}

#[tokio::test]
async fn a_revoked_certificate_loses_what_it_had() {
    let (node, pair, client, _machined) = start().await;
    let mut stream = client.open(EVENTS).await.unwrap().into_body();
    assert!(next_message(&mut stream).await.is_some());
    let other = node.authority.person("bob", "keelson:reader");
    let bob = Way::to(&node, Some(&other)).connect().await.unwrap();
    node.files.set_access("normal", &[&pair]);
    let status = tokio::time::timeout(SOON, last_status(stream)).await;
    assert_eq!(status.unwrap().unwrap(), Code::Unauthenticated);
    assert_gets_nothing(&node, &pair, &client).await;
    assert_eq!(bob.code(VERSION).await.unwrap(), Code::Ok);
}

#[tokio::test]
async fn a_revocation_holds_although_another_file_is_bad() {
    let (node, pair, client, _machined) = start().await;
    node.files.replace("serving.pem", "half a fi");
    node.files.replace("api-ca.crt", "");
    node.files.set_access("normal", &[&pair]);
    let is_out = async || !matches!(client.code(VERSION).await, Ok(Code::Ok));
    eventually("revoked", SOON, is_out).await;
    assert_gets_nothing(&node, &pair, &client).await;
    // Bad revocations, on the other hand, revoke nobody anew and forgive nobody.
    node.files.replace("access.json", "{}");
    tokio::time::sleep(Duration::from_millis(1100)).await;
    assert_gets_nothing(&node, &pair, &client).await;
}

#[tokio::test]
async fn an_authority_that_goes_takes_its_people_with_it() {
    let (node, pair, client, _machined) = start().await;
    let next = Authority::new();
    let both = node.authority.pem() + &next.pem();
    node.files.replace("api-ca.crt", &both);
    let new = next.person("bob", "keelson:reader");
    let way = Way::to(&node, Some(&new));
    let is_in = async || match way.connect().await {
        Ok(client) => client.code(VERSION).await.is_ok(),
        Err(_) => false,
    };
    eventually("people of the new authority come in", SOON, is_in).await;
    assert_eq!(
        client.code(VERSION).await.unwrap(),
        Code::Ok,
        "still trusted"
    );
    node.files.replace("api-ca.crt", &next.pem());
    let is_out = async || !matches!(client.code(VERSION).await, Ok(Code::Ok));
    eventually("people of the old authority are out", SOON, is_out).await;
    assert_gets_nothing(&node, &pair, &client).await;
}

async fn assert_gets_nothing(node: &Node, pair: &Pair, client: &Client) {
    let closed = async || client.is_closed();
    eventually("the connection is closed", SOON, closed).await;
    if let Ok(client) = Way::to(node, Some(pair)).connect().await {
        assert!(client.code(VERSION).await.is_err(), "a new connection");
    }
}

async fn start() -> (Node, Pair, Client, FakeMachined) {
    let node = Node::start();
    let machined = node.machined();
    let pair = node.authority.person("ada", "keelson:reader");
    let client = Way::to(&node, Some(&pair)).connect().await.unwrap();
    (node, pair, client, machined)
}
