//! Who may ask what of PID 1.

use keelson_control::Request;
use keelson_service::{Name, ServiceDefinition};

/// The process at the other end of a connection, as the kernel named it.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Peer<'a> {
    /// Neither root nor a service.
    Other,
    /// Root: may do all.
    Root,
    /// Main process of a service.
    Service {
        /// Its definition.
        definition: &'a ServiceDefinition,
        /// It was told to end.
        ending: bool,
    },
}

/// Says no with the reason.
pub(crate) fn authorize(peer: Peer<'_>, request: &Request) -> Result<(), String> {
    match (peer, request) {
        (Peer::Root, _) => Ok(()),
        (Peer::Other, _) => Err("only root and services may ask PID 1".to_owned()),
        (
            Peer::Service { .. },
            Request::Describe { .. }
            | Request::Message { .. }
            | Request::Phase { .. }
            | Request::Show { .. }
            | Request::Status
            | Request::Subscribe,
        ) => Ok(()),
        (
            Peer::Service {
                definition,
                ending: true,
            },
            Request::Set { .. },
        ) => Err(format!(
            "service {} is being ended: what it knows is for its next run to find out",
            definition.name
        )),
        (
            Peer::Service { definition, .. },
            Request::Set {
                facts,
                raise,
                clear,
            },
        ) => {
            let name = &definition.name;
            let not_declared = |allowed: &[Name], wanted: &str| {
                !allowed.iter().any(|allowed| allowed.as_str() == wanted)
            };
            if let Some(fact) = facts
                .keys()
                .find(|fact| not_declared(&definition.provides_facts, fact))
            {
                return Err(format!("service {name} does not declare fact {fact:?}"));
            }
            let mut conditions = raise.iter().chain(clear);
            match conditions.find(|condition| not_declared(&definition.provides, condition)) {
                Some(condition) => Err(format!(
                    "service {name} does not declare condition {condition:?}"
                )),
                None => Ok(()),
            }
        }
        (
            Peer::Service { definition, .. },
            Request::Limit { .. }
            | Request::Restart { .. }
            | Request::Shutdown { .. }
            | Request::Start { .. }
            | Request::Stop { .. },
        ) => Err(format!(
            "service {} may not do that; only root may",
            definition.name
        )),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use keelson_control::{Level, ShutdownKind};

    use super::*;

    #[test]
    fn a_service_may_only_touch_what_it_declares() {
        let text = "name: netd\ndescription: d\ncommand: [/bin/x]\nprovides: [network]\nprovidesFacts: [node-ip]\n";
        let definition = keelson_service::parse("netd.yaml", text).unwrap();
        let set = |fact: &str, raise: &str, clear: &str| Request::Set {
            facts: BTreeMap::from([(fact.to_owned(), String::new())]),
            raise: vec![raise.to_owned()],
            clear: vec![clear.to_owned()],
        };
        let ok = |peer, request: &Request| authorize(peer, request).is_ok();
        let service = |ending| Peer::Service {
            definition: &definition,
            ending,
        };
        let netd = service(false);
        assert!(ok(netd, &set("node-ip", "network", "network")));
        assert!(!ok(netd, &set("node-name", "network", "network")));
        // Its settings are those of before.
        assert!(!ok(service(true), &set("node-ip", "network", "network")));
        assert!(ok(service(true), &Request::Status));
        assert!(!ok(netd, &set("node-ip", "config", "network")));
        assert!(!ok(netd, &set("node-ip", "network", "config")));
        assert!(ok(
            netd,
            &Request::Message {
                level: Level::Info,
                text: String::new()
            }
        ));
        let shutdown = Request::Shutdown {
            kind: ShutdownKind::Reboot,
            reason: String::new(),
        };
        assert!(!ok(netd, &shutdown));
        let etcd = || "etcd".to_owned();
        for request in [
            Request::Limit {
                services: BTreeMap::new(),
            },
            Request::Restart {
                service: etcd(),
                clear: Vec::new(),
            },
            Request::Start { service: etcd() },
            Request::Stop { service: etcd() },
        ] {
            assert!(!ok(netd, &request), "{request:?}");
        }
        assert!(ok(netd, &Request::Describe { service: etcd() }));
        assert!(ok(Peer::Root, &shutdown));
        assert!(!ok(Peer::Other, &Request::Status));
    }
}
