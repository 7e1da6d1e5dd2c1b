//! Every reason to make a certificate anew, and none.

use time::Duration;

use super::*;
use crate::authority::Authority;
use crate::facts::{Datastore, test_facts};
use crate::issue::issue;
use crate::plan::plan;

fn now() -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(1_790_000_000).unwrap()
}

fn api_serving() -> Identity {
    plan(&test_facts(Datastore::Etcd))
        .identities
        .into_iter()
        .find(|identity| identity.common_name == "kube-apiserver" && identity.name == "serving")
        .unwrap()
}

#[test]
fn decision_table() {
    use Decision::{Keep, Make};
    use Rule::{Api, Kubelets, Ours};
    let authority = AuthorityPair::generate(Authority::Cluster, now()).unwrap();
    let stranger = AuthorityPair::generate(Authority::Cluster, now()).unwrap();
    let identity = api_serving();
    let content = issue(&identity, &authority, now()).unwrap();
    let foreign = issue(&identity, &stranger, now()).unwrap();
    let other = issue(&identity, &authority, now()).unwrap();
    let later = issue(&identity, &authority, now() + Duration::days(30)).unwrap();
    let mismatched = {
        let (certificate, _) = content.split_once("-----BEGIN PRIVATE").unwrap();
        let (_, key) = other.split_once("-----BEGIN PRIVATE").unwrap();
        format!("{certificate}-----BEGIN PRIVATE{key}")
    };
    let mut renamed = identity.clone();
    renamed.common_name = "someone-else".to_owned();
    let mut client = identity.clone();
    client.usage = Usage::Client;
    let mut moved = identity.clone();
    moved.addresses.insert("192.0.2.9".parse().unwrap());
    let mut fewer = identity.clone();
    fewer.dns_names.remove("localhost");
    let days = Duration::days;
    let second = Duration::SECOND;
    let life = days(365) + crate::issue::CLOCK_SKEW;
    let renewal = life * 2 / 3 - crate::issue::CLOCK_SKEW;

    let good = Some(content.as_str());
    let table = [
        ("absent", None, &identity, Ours, days(0), Make(Why::Absent)),
        (
            "garbage",
            Some("x"),
            &identity,
            Ours,
            days(0),
            Make(Why::Unreadable),
        ),
        ("fresh", good, &identity, Ours, days(0), Keep),
        ("clock far behind", good, &identity, Ours, days(-9000), Keep),
        (
            "clock back",
            Some(&later),
            &identity,
            Ours,
            days(0),
            Make(Why::NotYetValid),
        ),
        (
            "clock back, kubelet",
            Some(&later),
            &identity,
            Kubelets,
            days(0),
            Make(Why::NotYetValid),
        ),
        (
            "clock back again",
            Some(&later),
            &identity,
            Ours,
            days(30),
            Keep,
        ),
        (
            "before two thirds",
            good,
            &identity,
            Ours,
            renewal - second,
            Keep,
        ),
        (
            "two thirds",
            good,
            &identity,
            Ours,
            renewal,
            Make(Why::DueForRenewal),
        ),
        (
            "two thirds, kubelet",
            good,
            &identity,
            Kubelets,
            renewal,
            Keep,
        ),
        (
            "expired",
            good,
            &identity,
            Ours,
            days(365),
            Make(Why::Expired),
        ),
        (
            "expired, kubelet",
            good,
            &identity,
            Kubelets,
            days(365),
            Make(Why::Expired),
        ),
        (
            "other key",
            Some(&mismatched),
            &identity,
            Ours,
            days(0),
            Make(Why::Unreadable),
        ),
        (
            "other issuer",
            Some(&foreign),
            &identity,
            Ours,
            days(0),
            Make(Why::OtherIssuer),
        ),
        (
            "other subject",
            good,
            &renamed,
            Ours,
            days(0),
            Make(Why::OtherIdentity),
        ),
        (
            "other usage",
            good,
            &client,
            Ours,
            days(0),
            Make(Why::OtherIdentity),
        ),
        (
            "new address",
            good,
            &moved,
            Ours,
            days(0),
            Make(Why::OtherNames),
        ),
        (
            "new address, kubelet",
            good,
            &moved,
            Kubelets,
            days(0),
            Make(Why::OtherNames),
        ),
        (
            "name too many",
            good,
            &fewer,
            Ours,
            days(0),
            Make(Why::OtherNames),
        ),
        ("name too many, node API", good, &fewer, Api, days(0), Keep),
        (
            "new address, node API",
            good,
            &moved,
            Api,
            days(0),
            Make(Why::OtherNames),
        ),
        (
            "two thirds, node API",
            good,
            &identity,
            Api,
            renewal,
            Make(Why::DueForRenewal),
        ),
        (
            "name too many, kubelet",
            good,
            &fewer,
            Kubelets,
            days(0),
            Keep,
        ),
    ];
    for (case, content, identity, rule, age, expected) in table {
        let content = content.map(str::as_bytes);
        let decision = decide(content, identity, &authority, rule, now() + age);
        assert_eq!(decision, expected, "{case}");
    }
}

proptest::proptest! {
    #[test]
    fn any_content_is_judged_without_panic(content: Vec<u8>) {
        let authority = AuthorityPair::generate(Authority::Cluster, now()).unwrap();
        let decision =
            decide(Some(&content), &api_serving(), &authority, Rule::Ours, now());
        proptest::prop_assert_eq!(decision, Decision::Make(Why::Unreadable));
    }
}
