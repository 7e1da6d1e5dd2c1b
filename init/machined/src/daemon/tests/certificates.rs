//! Certificates of the node and of people: made, renewed, moved with the clock, revoked.

use std::collections::BTreeMap;

use keelson_api::v1alpha1::Certificate;
use time::Duration;

use super::lab::{Lab, Runs, config, in_lab};
use crate::daemon::Mode;
use crate::daemon::handle::RequestError;

fn request() -> String {
    let key = rcgen::KeyPair::generate().unwrap();
    let params = rcgen::CertificateParams::default();
    params.serialize_request(&key).unwrap().pem().unwrap()
}

async fn running(lab: &Lab) -> Runs {
    let runs = lab.start_until("pki").await;
    lab.start_services();
    runs
}

/// Every certificate by name.
async fn list(runs: &Runs) -> BTreeMap<String, Certificate> {
    let list = runs.handle.certificates().await.unwrap();
    list.into_iter()
        .map(|certificate| (certificate.name.clone(), certificate))
        .collect()
}

/// The clock jumps, and the daemon has looked.
async fn jump(lab: &Lab, runs: &Runs, by: Duration) -> BTreeMap<String, Certificate> {
    lab.machine.now.set(lab.machine.now.get() + by);
    lab.machine.news.notify_one();
    // Requests are answered between two looks.
    list(runs).await;
    list(runs).await
}

#[test]
fn every_certificate_is_listed_with_its_renewal() {
    in_lab(Some(&config("")), async |lab| {
        let runs = running(lab).await;
        let list = list(&runs).await;
        let names: Vec<_> = list.keys().map(String::as_str).collect();
        assert_eq!(
            names,
            [
                "api-ca",
                "apid/serving",
                "cluster-ca",
                "cluster/admin",
                "clusterd/client",
                "etcd-ca",
                "etcd/peer",
                "etcd/serving",
                "front-proxy-ca",
                "kube-apiserver/etcd-client",
                "kube-apiserver/front-proxy-client",
                "kube-apiserver/kubelet-client",
                "kube-apiserver/serving",
                "kube-controller-manager/client",
                "kube-controller-manager/serving",
                "kube-proxy/client",
                "kube-scheduler/client",
                "kube-scheduler/serving",
                "kubelet/client",
                "kubelet/server",
            ]
        );
        assert_eq!(list["api-ca"].kind, "authority");
        assert_eq!(list["api-ca"].renewed_at, "");
        assert_eq!(list["apid/serving"].kind, "node");
        // 2026-09-21 and two thirds of a year and an hour.
        assert_eq!(list["apid/serving"].not_after, "2027-09-21T14:13:20.000Z");
        assert_eq!(list["apid/serving"].renewed_at, "2027-05-22T21:53:20.000Z");
        assert_eq!(list["kubelet/client"].renewed_at, "");
    });
}

#[test]
fn leaves_follow_the_clock_wherever_it_jumps() {
    in_lab(Some(&config("")), async |lab| {
        let runs = running(lab).await;
        let first = list(&runs).await;
        let made_again = |before: &BTreeMap<String, Certificate>,
                          after: &BTreeMap<String, Certificate>| {
            after
                .values()
                .filter(|now| before[&now.name].fingerprint != now.fingerprint)
                .map(|now| now.name.clone())
                .collect::<Vec<_>>()
        };
        let leaves: Vec<_> = first
            .values()
            .filter(|known| known.kind != "authority")
            .map(|known| known.name.clone())
            .collect();

        let soon = jump(lab, &runs, Duration::days(200)).await;
        assert_eq!(made_again(&first, &soon), [""; 0]);
        let renewed = jump(lab, &runs, Duration::days(60)).await;
        let ours: Vec<_> = leaves
            .iter()
            .filter(|name| !name.starts_with("kubelet/"))
            .cloned()
            .collect();
        assert_eq!(made_again(&soon, &renewed), ours);
        // clusterd reads its pair when it starts; all others look at their files.
        assert_eq!(lab.world.borrow().restarts, ["clusterd"]);

        let expired = jump(lab, &runs, Duration::days(400)).await;
        assert_eq!(made_again(&renewed, &expired), leaves);
        assert_eq!(
            lab.world.borrow().restarts,
            ["clusterd", "clusterd", "kubelet"]
        );
        let back = jump(lab, &runs, Duration::days(-300)).await;
        assert_eq!(made_again(&expired, &back), leaves);
        let served = lab.text("run/keelson/secrets/apid/serving.pem");
        let served = keelson_pki::summary(served.as_bytes()).unwrap();
        assert_eq!(served.fingerprint, back["apid/serving"].fingerprint);
        assert!(served.not_before <= lab.machine.now.get());
    });
}

#[test]
fn the_api_is_known_by_every_address_and_keeps_its_authority() {
    in_lab(Some(&config("hostname: node-1\n")), async |lab| {
        let runs = running(lab).await;
        let first = list(&runs).await;
        lab.machine
            .addresses
            .borrow_mut()
            .insert("2001:db8::7".parse().unwrap());
        let second = jump(lab, &runs, Duration::ZERO).await;
        assert_ne!(
            first["apid/serving"].fingerprint,
            second["apid/serving"].fingerprint
        );
        assert_eq!(first["api-ca"].fingerprint, second["api-ca"].fingerprint);
        // The address goes: the certificate that has it as well goes on serving.
        lab.machine.addresses.borrow_mut().clear();
        let third = jump(lab, &runs, Duration::ZERO).await;
        assert_eq!(
            second["apid/serving"].fingerprint,
            third["apid/serving"].fingerprint
        );
        let summary = runs.handle.summary();
        assert_eq!(
            summary.borrow().addresses,
            ["192.0.2.7".parse::<std::net::IpAddr>().unwrap()]
        );
        assert_eq!(summary.borrow().node_name, "node-1");
    });
}

#[test]
fn people_get_certificates_that_can_be_revoked_for_good() {
    in_lab(Some(&config("")), async |lab| {
        let runs = running(lab).await;
        let hour = Some(std::time::Duration::from_secs(3600));
        let admission = runs
            .handle
            .issue(&request(), "Ada", "operator", hour)
            .await
            .unwrap();
        let summary = keelson_pki::summary(admission.certificate.as_bytes()).unwrap();
        assert_eq!(summary.subject, "O=keelson:operator, CN=Ada");
        assert_eq!(summary.not_after, lab.machine.now.get() + Duration::HOUR);
        let listed = &list(&runs).await["api/Ada"];
        assert_eq!(listed.subject, summary.subject);
        assert_eq!(listed.fingerprint, summary.fingerprint);
        assert_eq!(listed.not_after[..19], "2026-09-21T15:13:20"[..]);
        for (person, role) in [("Ada", "root"), ("Ada", "maintenance"), ("a,b", "admin")] {
            let refused = runs.handle.issue(&request(), person, role, None).await;
            assert!(
                matches!(refused, Err(RequestError::Invalid(_))),
                "{person} {role}"
            );
        }

        runs.handle.revoke(&summary.fingerprint).await.unwrap();
        let revoked = format!(
            "{{\"mode\":\"normal\",\"revoked\":[\"{}\"]}}",
            summary.fingerprint
        );
        assert_eq!(lab.text("run/keelson/apid/access.json"), revoked);
        assert!(list(&runs).await["api/Ada"].revoked);
        let unknown = runs.handle.revoke(&"0".repeat(64)).await;
        assert!(matches!(unknown, Err(RequestError::NotFound(_))));
        let malformed = runs.handle.revoke("zz").await;
        assert!(matches!(malformed, Err(RequestError::Invalid(_))));

        // Its last day does not bring it back, nor does a reboot.
        jump(lab, &runs, Duration::days(2)).await;
        runs.handle
            .issue(&request(), "Eve", "reader", None)
            .await
            .unwrap();
        runs.kill().await;
        lab.reboot();
        lab.start_until("pki").await;
        assert_eq!(lab.text("run/keelson/apid/access.json"), revoked);
    });
}

#[test]
fn authorities_of_others_are_believed_while_the_configuration_names_them() {
    in_lab(Some(&config("")), async |lab| {
        let runs = running(lab).await;
        let own = lab.text("run/keelson/rendered/api-ca.crt");
        let mut params = rcgen::CertificateParams::default();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let key = rcgen::KeyPair::generate().unwrap();
        let other = params.self_signed(&key).unwrap().pem();
        let indented = other.trim_end().replace('\n', "\n    ");
        let yaml = config(&format!(
            "api:\n  clientAuthorities:\n  - |\n    {}\n",
            indented.replace('\r', "")
        ));
        runs.handle.apply(yaml, Mode::Keep, None).await.unwrap();
        lab.until("the other authority", |lab| {
            let both = lab.text("run/keelson/rendered/api-ca.crt");
            both.starts_with(&own) && both.matches("BEGIN").count() == 2
        })
        .await;
        // What another authority signed can be revoked, though this node has never seen it.
        runs.handle.revoke(&"0".repeat(64)).await.unwrap();
        assert!(list(&runs).await.contains_key("api.clientAuthorities[0]"));
        runs.handle
            .apply(config(""), Mode::Keep, None)
            .await
            .unwrap();
        lab.until("the node's own alone", |lab| {
            lab.text("run/keelson/rendered/api-ca.crt") == own
        })
        .await;
        assert!(
            lab.text("run/keelson/apid/access.json")
                .contains(&"0".repeat(64))
        );
    });
}

#[test]
fn a_cluster_whose_keys_are_lost_gets_no_new_ones_but_the_api_serves() {
    in_lab(Some(&config("")), async |lab| {
        std::fs::create_dir_all(lab.root.path().join("var/lib/etcd/member")).unwrap();
        let runs = lab.start_until("api").await;
        lab.until("the reason", |lab| {
            let world = lab.world.borrow();
            world.messages.iter().any(|line| {
                line.contains("STATE holds no keys") && line.contains("/var/lib/etcd/member")
            })
        })
        .await;
        assert!(!lab.exists("system/state/pki/cluster-ca.pem"));
        assert!(!lab.world.borrow().has("pki"));
        assert!(list(&runs).await.contains_key("apid/serving"));
        // Somebody mends it.
        std::fs::remove_dir(lab.root.path().join("var/lib/etcd/member")).unwrap();
        lab.until("pki", |lab| lab.world.borrow().has("pki")).await;
    });
}

#[test]
fn a_damaged_list_of_people_keeps_the_api_down_and_says_what_to_do() {
    in_lab(Some(&config("")), async |lab| {
        std::fs::write(lab.paths().people(), "{").unwrap();
        lab.start_until("pki").await;
        let world = lab.world.borrow();
        assert!(!world.has("api"));
        let text = world.messages.join("\n");
        assert!(text.contains("people.json is damaged"), "{text}");
    });
}

#[test]
fn a_daemon_that_cannot_read_its_identity_ends_with_the_reason() {
    in_lab(Some(&config("")), async |lab| {
        std::fs::write(lab.root.path().join("system/state/machine-id"), "x").unwrap();
        let error = lab.start().end().await;
        assert!(error.contains("32 hexadecimal digits"), "{error}");
    });
}
