//! Ways to a secret, each of which must fail.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use proptest::prelude::*;

use super::*;

#[test]
fn secrets_are_out_of_reach_by_name() {
    let node = Node::new();
    for path in [
        "/dev/secret",
        "/proc/1/environ",
        "/proc/kcore",
        "/root/.ssh/key",
        "/run/keelson/boot.json",
        "/run/keelson/node-config.yaml",
        "/run/keelson/secrets/etcd/peer.pem",
        "/system/state/pki/ca.pem",
        "/var/lib/kubelet/pki/current.pem",
        "/var/logs/x",
    ] {
        node.refuses(path);
    }
    let error = node.read("/system/state/pki/ca.pem").unwrap_err();
    assert_eq!(
        error.to_string(),
        "/system/state/pki/ca.pem is out of reach: readable is what everyone on the node may read \
         in /etc, /proc (some files), /proc/pressure, /proc/sys, /run/keelson/etc, \
         /run/keelson/netd, /run/keelson/rendered, /sys, /usr, /var/log"
    );
}

#[test]
fn dots_do_not_lead_out() {
    let node = Node::new();
    for path in [
        "/etc/../system/state/pki/ca.pem",
        "/var/log/../lib/kubelet/pki/current.pem",
        "etc/hosts",
        "",
        "..",
        "/etc/..",
    ] {
        let result = node.read(path);
        assert!(
            matches!(result, Err(FilesError::Path { .. })),
            "{path}: {result:?}"
        );
    }
}

#[test]
fn links_do_not_lead_out() {
    let node = Node::new();
    node.link("/var/log/absolute", "/system/state/pki/ca.pem");
    node.link("/var/log/upwards", "../lib/kubelet/pki/current.pem");
    node.link("/var/log/pods/folder", "/");
    node.link("/var/log/pods/far", "../../../../../../..");
    node.link("/var/log/chain", "chain2");
    node.link("/var/log/chain2", "/etc/chain3");
    node.link("/etc/chain3", "/run/keelson/secrets/etcd/peer.pem");
    node.link("/etc/magic", "/proc/self/root/system/state/pki/ca.pem");
    node.link("/etc/cwd", "/proc/self/cwd");
    node.link("/etc/process", "/proc/1/environ");
    node.link("/proc/version", "../system/state/pki/ca.pem");
    node.link("/proc/uptime", "/system/state/pki/ca.pem");
    for path in [
        "/var/log/absolute",
        "/var/log/upwards",
        "/var/log/pods/folder/system/state/pki/ca.pem",
        "/var/log/pods/far/system/state/pki/ca.pem",
        "/var/log/chain",
        "/etc/magic",
        "/etc/cwd",
        "/etc/process",
        "/proc/version",
        "/proc/uptime",
    ] {
        node.refuses(path);
    }
    node.link("/etc/round", "round");
    let result = node.read("/etc/round");
    assert!(
        matches!(result, Err(FilesError::TooManyLinks { .. })),
        "{result:?}"
    );
    // Not even a list of what is there.
    for path in ["/var/log/pods/folder", "/var/log/pods/far"] {
        let entries = list(&node.root(), path);
        assert!(matches!(entries, Err(FilesError::Refused { .. })), "{path}");
    }
}

#[test]
fn a_folder_of_the_table_that_is_a_link_is_not_followed() {
    let node = Node::new();
    fs::remove_dir_all(node.at("/var/log")).unwrap();
    node.link("/var/log", "lib/kubelet");
    let result = node.read("/var/log/pki/current.pem");
    assert!(matches!(result, Err(FilesError::Open { .. })), "{result:?}");
}

#[test]
fn only_what_everyone_may_read_is_public() {
    let node = Node::new();
    node.write("/run/keelson/rendered/key.pem", SECRET, 0o640);
    node.write("/etc/private/open", SECRET, 0o644);
    fs::set_permissions(node.at("/etc/private"), fs::Permissions::from_mode(0o700)).unwrap();
    node.write("/proc/sys/net/ipv6/conf/all/stable_secret", SECRET, 0o600);
    node.write(
        "/sys/bus/thunderbolt/devices/0/key",
        &attribute(SECRET),
        0o600,
    );
    node.write("/sys/firmware/table", SECRET, 0o444);
    node.write("/sys/devices/pci/config", &attribute(SECRET), 0o644);
    for path in [
        "/run/keelson/rendered/key.pem",
        "/etc/private/open",
        "/proc/sys/net/ipv6/conf/all/stable_secret",
        "/sys/bus/thunderbolt/devices/0/key",
        "/sys/firmware/table",
        "/sys/devices/pci/config",
    ] {
        node.refuses(path);
    }
}

#[test]
fn a_second_name_for_a_secret_is_refused() {
    let node = Node::new();
    fs::hard_link(
        node.at("/system/state/pki/ca.pem"),
        node.at("/var/log/innocent.log"),
    )
    .unwrap();
    node.refuses("/var/log/innocent.log");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever is asked for, and whatever links a pod makes below its own logs.
    #[test]
    fn no_path_and_no_link_reaches_a_secret(
        path in "(/(var|log|pods|l|etc|proc|self|root|run|keelson|secrets|system|state|pki|ca\\.pem|\\.\\.|\\.)){1,9}",
        target in "/?((\\.\\.|var|lib|system|state|pki|ca\\.pem|proc|self|root|run|keelson|secrets|etcd|peer\\.pem)/){0,8}(ca\\.pem|peer\\.pem)?",
    ) {
        let node = Node::new();
        if !target.is_empty() {
            node.link("/var/log/pods/l", &target);
        }
        for path in [path.clone(), "/var/log/pods/l".to_owned(), format!("/var/log/pods/l{path}")] {
            if let Ok(content) = node.read(&path) {
                prop_assert!(!content.contains(SECRET), "{path} by {target}");
            }
            let _ = list(&node.root(), &path);
        }
    }

    #[test]
    fn never_panics(path: String) {
        let node = Node::new();
        let _ = node.read(&path);
        let _ = list(&node.root(), &format!("/var/log/{path}"));
    }
}
