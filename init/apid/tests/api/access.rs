//! Who gets what.

use keelson_api::access::{Audience, Effect, RULES, Refusal, Role, decide};
use rcgen::ExtendedKeyUsagePurpose;
use time::Duration;
use tonic::Code;

use crate::support::authority::{Authority, Pair, Wish};
use crate::support::client::Way;
use crate::support::machined::FakeMachined;
use crate::support::node::{Files, Node};

/// Methods that [`FakeMachined`] does not end at once, or not well.
const ODD: [&str; 6] = [
    "Describe",
    "Events",
    "Kernel",
    "Reboot",
    "Restart",
    "SupportBundle",
];

#[tokio::test]
async fn every_role_gets_what_the_table_says_and_nothing_else() {
    let node = Node::start();
    for role in Role::ALL {
        let machined = node.machined();
        let pair = node.authority.issue(&Wish {
            organizations: vec![organization(role)],
            ..Wish::person("ada", "")
        });
        let client = Way::to(&node, Some(&pair)).connect().await.unwrap();
        let mut allowed = 0;
        for rule in RULES {
            let decision = decide(rule.method, role);
            if decision.is_ok() && ODD.iter().any(|odd| rule.method.ends_with(odd)) {
                continue;
            }
            let answer = client.call(rule.method, b"").await.unwrap();
            match decision {
                Ok(_) => {
                    assert_eq!(answer.code, Code::Ok, "{role} {}", rule.method);
                    allowed += 1;
                }
                Err(refusal) => {
                    assert_eq!(
                        answer.code,
                        Code::PermissionDenied,
                        "{role} {}",
                        rule.method
                    );
                    assert_eq!(answer.text, refusal.to_string());
                    assert!(answer.trailers.is_empty(), "trailers only");
                    assert!(!was_seen(&machined, rule.method), "{role} {}", rule.method);
                }
            }
            if role == Role::Reader && rule.effect != Effect::Reads {
                assert!(!was_seen(&machined, rule.method), "{}", rule.method);
            }
        }
        assert_eq!(machined.seen.methods.lock().unwrap().len(), allowed);
    }
}

#[tokio::test]
async fn what_does_not_exist_is_not_passed_on() {
    let (node, client, machined) = with("keelson:admin").await;
    for method in [
        "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
        "/keelson.node.v1alpha1.System/version",
        "/keelson.node.v1alpha1.System/Version/",
        "/",
    ] {
        let answer = client.call(method, b"").await.unwrap();
        assert_eq!(answer.code, Code::Unimplemented, "{method}");
        assert_eq!(answer.text, Refusal::UnknownMethod.to_string());
    }
    assert!(machined.seen.methods.lock().unwrap().is_empty());
    drop(node);
}

#[tokio::test]
async fn nobody_speaks_in_the_name_of_another() {
    let (_node, client, _machined) = with("keelson:reader").await;
    let mut request = crate::support::client::request(VERSION, b"");
    for (name, value) in [
        ("keelson-person", "root"),
        ("keelson-role", "admin"),
        ("keelson-peer", "192.0.2.1:1"),
        ("keelson-anything", "x"),
        ("authorization", "stays"),
    ] {
        request.headers_mut().append(name, value.parse().unwrap());
    }
    let answer = client.send(request).await.unwrap();
    let heard = |name: &str| -> Vec<&str> {
        let values = answer.headers.get_all(format!("echo-{name}"));
        values.iter().map(|value| value.to_str().unwrap()).collect()
    };
    assert_eq!(heard("keelson-person"), ["ada"]);
    assert_eq!(heard("keelson-role"), ["reader"]);
    assert_eq!(heard("keelson-peer").len(), 1);
    assert!(heard("keelson-peer")[0].starts_with("127.0.0.1:"));
    assert!(heard("keelson-anything").is_empty());
    assert_eq!(heard("authorization"), ["stays"]);
}

#[tokio::test]
async fn who_is_nobody_gets_nothing() {
    let node = Node::start();
    let machined = node.machined();
    let stranger = Authority::new();
    let good = || Wish::person("ada", "keelson:admin");
    let revoked = node.authority.issue(&good());
    node.files.set_access("normal", &[&revoked]);
    // Looked at once a second.
    tokio::time::sleep(std::time::Duration::from_millis(1100)).await;
    let issue = |wish: Wish| Some(node.authority.issue(&wish));
    let callers: [(&str, Option<Pair>); 11] = [
        ("no certificate", None),
        ("another authority", Some(stranger.issue(&good()))),
        ("revoked", Some(revoked.clone())),
        (
            "expired",
            issue(Wish {
                until: Duration::minutes(-1),
                ..good()
            }),
        ),
        (
            "not yet valid",
            issue(Wish {
                from: Duration::minutes(5),
                ..good()
            }),
        ),
        (
            "for servers",
            issue(Wish {
                purpose: ExtendedKeyUsagePurpose::ServerAuth,
                ..good()
            }),
        ),
        (
            "two organizations",
            issue(Wish {
                organizations: vec!["keelson:reader", "keelson:admin"],
                ..good()
            }),
        ),
        (
            "no organization",
            issue(Wish {
                organizations: vec![],
                ..good()
            }),
        ),
        (
            "two names",
            issue(Wish {
                names: vec!["ada", "eve"],
                ..good()
            }),
        ),
        (
            "no name",
            issue(Wish {
                names: vec![],
                ..good()
            }),
        ),
        ("no role", issue(Wish::person("ada", "system:masters"))),
    ];
    for (what, pair) in &callers {
        assert!(!is_answered(&node, pair.as_ref()).await, "{what}");
    }
    assert!(machined.seen.methods.lock().unwrap().is_empty());
    let pair = node.authority.issue(&good());
    assert!(is_answered(&node, Some(&pair)).await, "the good one");
}

#[tokio::test]
async fn a_node_in_maintenance_answers_three_things_to_everybody() {
    let node = Node::start_in("maintenance");
    let _machined = node.machined();
    let nobody = Way::to(&node, None).connect().await.unwrap();
    for rule in RULES {
        if ODD.iter().any(|odd| rule.method.ends_with(odd)) {
            continue;
        }
        let code = nobody.code(rule.method).await.unwrap();
        let expected = match rule.audience {
            Audience::Certified(_) => Code::Unauthenticated,
            Audience::Anyone(_) | Audience::MaintenanceOnly => Code::Ok,
        };
        assert_eq!(code, expected, "{}", rule.method);
    }
    let answer = nobody.call(VERSION, b"").await.unwrap();
    assert_eq!(answer.headers["echo-keelson-role"], "maintenance");
    assert_eq!(answer.headers["echo-keelson-person"], "");
    // A certificate counts in maintenance, too, and a bad one is worse than none.
    let pair = node.authority.person("ada", "keelson:admin");
    let ada = Way::to(&node, Some(&pair)).connect().await.unwrap();
    assert_eq!(ada.code(STATUS).await.unwrap(), Code::Ok);
    assert_eq!(ada.code(APPLY).await.unwrap(), Code::PermissionDenied);
    let foreign = Authority::new().person("eve", "keelson:admin");
    assert!(!is_answered(&node, Some(&foreign)).await);
    // Then it is configured.
    node.files.set_access("normal", &[]);
    tokio::time::sleep(std::time::Duration::from_millis(1100)).await;
    // It may have been ended already, which is as good.
    let code = nobody.code(VERSION).await.unwrap_or(Code::Unauthenticated);
    assert_eq!(code, Code::Unauthenticated);
    assert!(!is_answered(&node, None).await);
    assert_eq!(ada.code(STATUS).await.unwrap(), Code::Ok);
}

#[tokio::test]
async fn maintenance_works_before_there_is_an_authority() {
    let authority = Authority::new();
    let files = Files::new(&authority, "maintenance");
    std::fs::remove_file(files.path("api-ca.crt")).unwrap();
    let node = Node::start_with(authority, files);
    let _machined = node.machined();
    assert!(is_answered(&node, None).await);
    let pair = node.authority.person("ada", "keelson:admin");
    // The mode first: for a moment there is no authority, and nobody may come in.
    node.files.set_access("normal", &[]);
    tokio::time::sleep(std::time::Duration::from_millis(1100)).await;
    assert!(!is_answered(&node, None).await);
    assert!(!is_answered(&node, Some(&pair)).await);
    node.files.replace("api-ca.crt", &node.authority.pem());
    tokio::time::sleep(std::time::Duration::from_millis(1100)).await;
    assert!(is_answered(&node, Some(&pair)).await);
}

async fn with(organization: &'static str) -> (Node, crate::support::client::Client, FakeMachined) {
    let node = Node::start();
    let machined = node.machined();
    let pair = node.authority.person("ada", organization);
    let client = Way::to(&node, Some(&pair)).connect().await.unwrap();
    (node, client, machined)
}

async fn is_answered(node: &Node, pair: Option<&Pair>) -> bool {
    let Ok(client) = Way::to(node, pair).connect().await else {
        return false;
    };
    client.code(VERSION).await.is_ok()
}

fn was_seen(machined: &FakeMachined, method: &str) -> bool {
    machined.seen.methods.lock().unwrap().contains(method)
}

const fn organization(role: Role) -> &'static str {
    match role {
        Role::Admin => "keelson:admin",
        Role::Operator => "keelson:operator",
        Role::Reader | Role::Maintenance => "keelson:reader",
    }
}

const VERSION: &str = "/keelson.node.v1alpha1.System/Version";
const STATUS: &str = "/keelson.node.v1alpha1.System/Status";
const APPLY: &str = "/keelson.node.v1alpha1.Maintenance/Apply";
