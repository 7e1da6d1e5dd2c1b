//! Every kind of bad configuration gives one clear line, quickly and without a panic.
#![expect(clippy::unwrap_used, reason = "a helper that fails fails the test")]

use std::time::{Duration, Instant};

use keelson_config::NodeConfig;
use proptest::prelude::*;

/// A body below a correct head, and the whole line that it must give.
#[track_caller]
fn refused(body: &str, line: &str) {
    let text = format!("apiVersion: keelson.dev/v1alpha1\nkind: NodeConfig\n{body}");
    refused_file(text, line);
}

#[track_caller]
fn refused_file(text: impl AsRef<[u8]>, line: &str) {
    let error = NodeConfig::parse(text, "keelson.yaml").unwrap_err();
    assert_eq!(error.to_string(), line, "\n{}", error.report());
}

#[test]
fn keys() {
    refused(
        "network:\n  interfaces:\n  - name: eth0\n    dhcp: true\n",
        "keelson.yaml:6:5: network.interfaces[0].dhcp: this key is unknown; did you mean `dhcp4`?",
    );
    refused(
        "frobnicate: 1\n",
        "keelson.yaml:3:1: frobnicate: this key is unknown; remove it; known here: apiVersion, \
         kind, hostname, network, registries, api, services, upgrade, cluster",
    );
    refused(
        "hostname: a\nhostname: b\n",
        "keelson.yaml:4:1: hostname: this key is given twice; keep one of the two",
    );
    refused(
        "network:\n  interfaces:\n  - name: eth0\n    name: eth1\n",
        "keelson.yaml:6:5: network.interfaces[0].name: this key is given twice; keep one of the two",
    );
    refused(
        "network:\n  interfaces:\n  - dhcp4: true\n",
        "keelson.yaml:5:5: network.interfaces[0].name: this key is missing; add it",
    );
    refused(
        "x: &a {name: b}\ncluster:\n  <<: *a\n",
        "keelson.yaml:3:1: x: this key is unknown; remove it; known here: apiVersion, kind, \
         hostname, network, registries, api, services, upgrade, cluster",
    );
}

#[test]
fn types() {
    refused(
        "network:\n  interfaces:\n  - name: eth0\n    dhcp4: yes\n",
        "keelson.yaml:6:12: network.interfaces[0].dhcp4: expected a boolean; write true or false",
    );
    refused(
        "network:\n  interfaces: eth0\n",
        "keelson.yaml:4:15: network.interfaces: expected a list; begin each entry with `- `, or write [a, b]",
    );
    refused(
        "network: [1]\n",
        "keelson.yaml:3:10: network: expected a mapping; write indented `key: value` lines here",
    );
    refused(
        "network:\n  interfaces:\n  - {name: eth0, mtu: big}\n",
        "keelson.yaml:5:23: network.interfaces[0].mtu: expected a whole number that is not \
         negative; write such a value, or remove the key",
    );
    refused(
        "cluster:\n  datastore: mysql\n",
        "keelson.yaml:4:14: cluster.datastore: \"mysql\" is not one of the allowed values; write `etcd` or `sqlite`",
    );
    refused(
        "network:\n  nameservers: [10.0.0.1, foo]\n",
        "keelson.yaml:4:27: network.nameservers[1]: this is not an IP address; write it like \
         192.0.2.1 or 2001:db8::1, without a prefix length",
    );
    refused(
        "hostname: Foo\n",
        "keelson.yaml:3:11: hostname: \"Foo\" is not a host name: write it in lower case: foo",
    );
    refused(
        "cluster:\n  name:\n",
        "keelson.yaml:4:7: cluster.name: the value is missing; give one after the ':', or remove the key to get the default",
    );
}

#[test]
fn upgrades() {
    refused(
        "upgrade: {healthDeadline: 30s}\n",
        "keelson.yaml:3:27: upgrade.healthDeadline: 30s is out of range; use 1m to 2h",
    );
    refused(
        "upgrade: {stableFor: 10m}\n",
        "keelson.yaml:3:22: upgrade.stableFor: 10m is not shorter than healthDeadline 10m, so no version \
         could ever prove itself; give less than healthDeadline",
    );
    refused(
        "upgrade: {drainTimeout: 5 minutes}\n",
        "keelson.yaml:3:25: upgrade.drainTimeout: \"5 minutes\" is not a span of time: write a whole number \
         and s, m or h, such as 10m",
    );
    refused(
        "upgrade:\n  checks:\n  - http://a/\n  - http://a/\n",
        "keelson.yaml:6:5: upgrade.checks[1]: http://a/ is listed twice; remove one",
    );
    refused(
        "upgrade: {checks: [\"https://a/\"]}\n",
        "keelson.yaml:3:20: upgrade.checks[0]: \"https://a/\" is not a check: it must begin with http:// or tcp://",
    );
}

#[test]
fn rules() {
    refused(
        "cluster:\n  podCIDR: 10.96.0.0/16\n",
        "keelson.yaml:4:12: cluster.podCIDR: 10.96.0.0/16 overlaps with serviceCIDR 10.96.0.0/12; choose two separate networks",
    );
    refused(
        "cluster:\n  serviceCIDR: 10.0.0.0/11\n",
        "keelson.yaml:4:16: cluster.serviceCIDR: the prefix length 11 of 10.0.0.0/11 is out of range \
         (the API server accepts no larger range, and cluster DNS needs the tenth address); use a length from 12 to 28",
    );
    refused(
        "cluster:\n  podCIDR: fd00:10::/56\n",
        "keelson.yaml:3:1: cluster.serviceCIDR: 10.96.0.0/12 is IPv4, podCIDR fd00:10::/56 is IPv6; use the same family for both",
    );
    refused(
        "cluster:\n  podCIDR: 169.254.0.0/16\n",
        "keelson.yaml:4:12: cluster.podCIDR: 169.254.0.0/16 holds loopback, link-local or multicast \
         addresses; use a private network, such as 10.244.0.0/16 or fd00:10:244::/56",
    );
    let eth0 = "network:\n  interfaces:\n  - name: eth0\n    addresses: [192.0.2.10/24]\n";
    refused(
        &format!("{eth0}    routes:\n    - to: default\n      via: 192.0.3.1\n"),
        "keelson.yaml:9:12: network.interfaces[0].routes[0].via: the gateway 192.0.3.1 is not on \
         the link of eth0; use a gateway inside 192.0.2.0/24",
    );
    refused(
        &format!("{eth0}    routes:\n    - to: fd00::/8\n      via: 192.0.2.1\n"),
        "keelson.yaml:9:12: network.interfaces[0].routes[0].via: the gateway 192.0.2.1 is IPv4, the \
         target fd00::/8 is not; give a gateway of the family of fd00::/8",
    );
    refused(
        &format!("{eth0}  - name: eth0\n"),
        "keelson.yaml:7:11: network.interfaces[1].name: eth0 is already configured by network.interfaces[0]; put both into one entry",
    );
    refused(
        &format!("{eth0}cluster:\n  podCIDR: 192.0.0.0/16\n"),
        "keelson.yaml:8:12: cluster.podCIDR: 192.0.0.0/16 overlaps with the node's network \
         192.0.2.0/24 (network.interfaces[0].addresses[0]); choose a network that the node's own networks do not use",
    );
    refused(
        "registries:\n- {host: a.example, endpoint: http://b.example, insecureSkipVerify: true}\n",
        "keelson.yaml:4:69: registries[0].insecureSkipVerify: http://b.example has no TLS certificate to skip; remove the key, or use https://",
    );
}

#[test]
fn limits_and_authorities() {
    refused(
        "services:\n  etcd:\n    memoryMax: 64M\n",
        "keelson.yaml:5:16: services.etcd.memoryMax: \"64M\" is not a size of memory: write a whole \
         number and Ki, Mi or Gi, such as 64Mi",
    );
    refused(
        "services:\n  etcd: {cpuWeight: 0}\n",
        "keelson.yaml:4:21: services.etcd.cpuWeight: \"0\" is not a share of the processors: it must \
         be from 1 to 10000; 100 is normal",
    );
    refused(
        "services:\n  etcd:\n    memoryMax: 64Mi\n    memoryHigh: 65Mi\n",
        "keelson.yaml:6:17: services.etcd.memoryHigh: 65Mi is more than memoryMax 64Mi, so it would \
         never be reached; give less than memoryMax",
    );
    refused(
        "services:\n  etdc: {}\n",
        "keelson.yaml:4:3: services.etdc: \"etdc\" is not a service of the node: write one of apid, \
         clusterd, containerd, etcd, images, kine, kube-apiserver, kube-controller-manager, \
         kube-proxy, kube-scheduler, kubelet, machined, netd, storage",
    );
    let one = "-----BEGIN CERTIFICATE-----\n    MIIB\n    -----END CERTIFICATE-----\n";
    refused(
        &format!("api:\n  clientAuthorities:\n  - |\n    {one}  - |\n    {one}"),
        "keelson.yaml:10:5: api.clientAuthorities[1]: this certificate is already listed at \
         api.clientAuthorities[0]; remove one of the two",
    );
}

#[test]
fn documents() {
    let empty = "keelson.yaml: the configuration is empty; give at least apiVersion and kind";
    for text in ["", "\n\n", "# only a comment\n---\n", "\u{feff}"] {
        refused_file(text, empty);
    }
    refused_file(
        "apiVersion: keelson.dev/v2\nkind: NodeConfig\nnew: key\n",
        "keelson.yaml:1:13: apiVersion: this node cannot read apiVersion \"keelson.dev/v2\"; \
         write `apiVersion: keelson.dev/v1alpha1`",
    );
    refused_file(
        "apiVersion: keelson.dev/v1alpha1\nkind: Pod\n",
        "keelson.yaml:2:7: kind: this node cannot read kind \"Pod\"; write `kind: NodeConfig`",
    );
    refused_file(
        "kind: NodeConfig\n",
        "keelson.yaml: apiVersion: this key is missing; write `apiVersion: keelson.dev/v1alpha1`",
    );
    refused(
        "---\nkind: NodeConfig\n",
        "keelson.yaml:4:1: the file holds more than one YAML document; keep one document with kind NodeConfig and remove the `---` after it",
    );
    refused_file(
        "hello\n",
        "keelson.yaml:1:1: expected a mapping; write indented `key: value` lines here",
    );
    refused_file(
        b"apiVersion: \xff\xfe",
        "keelson.yaml:1:13: this is not UTF-8 text; save the file as UTF-8",
    );
    refused_file(
        b"a: b\n\0\0\0",
        "keelson.yaml:2:1: the file contains the control character 0x00; is this a text file?",
    );
}

#[test]
fn hostile_documents_are_refused_at_once() {
    let bomb = {
        let mut text =
            "apiVersion: keelson.dev/v1alpha1\nkind: NodeConfig\nnetwork:\n  searchDomains:\n"
                .to_owned();
        text.push_str("  - &a0 [x,x,x,x,x,x,x,x,x]\n");
        for i in 1..20 {
            let refs = vec![format!("*a{}", i - 1); 9].join(",");
            text.push_str(&format!("  - &a{i} [{refs}]\n"));
        }
        text
    };
    let deep: String = (0..400).map(|i| format!("{}a:\n", " ".repeat(i))).collect();
    let limit = keelson_config::MAX_BYTES;
    let inputs = [
        "[".repeat(2 * 1024 * 1024),
        "[".repeat(limit),
        "{".repeat(limit),
        "- ".repeat(limit / 2),
        "a: ".repeat(limit / 3),
        "? ".repeat(limit / 2),
        "&a ".repeat(limit / 3),
        "!a ".repeat(limit / 3),
        "---\n".repeat(limit / 4),
        "%YAML 1.2\n".repeat(limit / 10),
        format!("\"{}", "a".repeat(limit - 1)),
        format!("hostname: {}\n", "a".repeat(limit - 20)),
        "- {}\n".repeat(limit / 5),
        bomb,
        deep,
    ];
    for input in &inputs {
        let start = Instant::now();
        let error = NodeConfig::parse(input, "x").unwrap_err();
        let head: String = input.chars().take(20).collect();
        assert!(error.to_string().len() < 400, "{head}: {error}");
        assert!(error.report().len() < 1000, "{head}: {}", error.report());
        // Milliseconds in truth; the allowance is for a debug build on a busy machine.
        assert!(
            start.elapsed() < Duration::from_secs(5),
            "{head}: {:?}",
            start.elapsed()
        );
    }
}

#[test]
fn report_shows_the_line() {
    let text = "apiVersion: keelson.dev/v1alpha1\nkind: NodeConfig\nhostname: Foo\ncluster: {}\n";
    let error = NodeConfig::parse(text, "keelson.yaml").unwrap_err();
    assert_eq!(
        error.report().lines().skip(1).collect::<Vec<_>>(),
        [
            "    2 | kind: NodeConfig",
            "    3 | hostname: Foo",
            "      |           ^",
            "    4 | cluster: {}"
        ]
    );
}

proptest! {
    #[test]
    fn any_bytes_are_handled(bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
        let _ = NodeConfig::parse(&bytes, "x");
    }

    #[test]
    fn any_yaml_like_text_is_handled(text in "[-a-z0-9:{}\\[\\]&*!|>'\"#%@,? \n\t~<]{0,300}") {
        let _ = NodeConfig::parse(format!("apiVersion: keelson.dev/v1alpha1\nkind: NodeConfig\n{text}"), "x");
        let _ = NodeConfig::parse(text, "x");
    }

    /// Damage at any place of a correct file gives a value or an error with a place, no panic.
    #[test]
    fn damaged_files_are_handled(at in 0..FULL.len(), byte: u8, cut: bool) {
        let mut bytes = FULL.as_bytes().to_vec();
        if cut { bytes.truncate(at) } else { bytes[at] = byte }
        if let Err(error) = NodeConfig::parse(&bytes, "x") {
            prop_assert!(!error.problem.is_empty());
        }
    }
}

const FULL: &str = include_str!("full.yaml");

#[test]
fn the_full_example_is_accepted() {
    let config = NodeConfig::parse(FULL, "full.yaml")
        .map_err(|e| e.report())
        .unwrap();
    assert_eq!(config.network.interfaces.len(), 3);
}
