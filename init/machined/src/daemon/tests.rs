//! The daemon against a PID 1 and a netd of the test's own.

mod certificates;
mod change;
mod cut;
mod lab;
mod maintenance;
mod pid1;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use lab::{config, in_lab};
use pid1::LEASE;

#[test]
fn a_node_with_the_shortest_configuration_comes_up_with_the_defaults() {
    in_lab(Some(&config("")), async |lab| {
        let runs = lab.start_until("pki").await;
        let id = lab.text("system/state/machine-id");
        let name = format!("keelson-{}", &id[..6]);
        assert_eq!(lab.text("run/keelson/etc/machine-id"), id);
        assert_eq!(lab.text("run/keelson/etc/hostname"), format!("{name}\n"));
        assert_eq!(*lab.machine.host_name.borrow(), name);
        let hosts = lab.text("run/keelson/etc/hosts");
        assert!(hosts.contains(&format!("{LEASE} {name}\n")), "{hosts}");
        assert_eq!(lab.world.borrow().facts["node-name"], name);
        assert_eq!(lab.world.borrow().facts["datastore"], "etcd");
        assert!(
            lab.text("run/keelson/rendered/kubelet.yaml")
                .contains("10.96.0.10")
        );
        assert!(lab.text("run/keelson/node-config.yaml").contains(&name));
        let kubeconfig = runs.kubeconfig.borrow().clone().unwrap();
        assert!(kubeconfig.contains("server: https://127.0.0.1:6443"));
        assert!(
            lab.text("run/keelson/secrets/kube-apiserver/encryption.yaml")
                .contains("secretbox")
        );
        assert!(
            lab.text("var/lib/kubelet/pki/kubelet-client-current.pem")
                .contains("PRIVATE KEY")
        );
    });
}

#[test]
fn the_pod_network_of_the_last_boot_is_forgotten_but_not_that_of_this_one() {
    in_lab(Some(&config("")), async |lab| {
        let path = lab.paths().old_pod_network();
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, "of the last boot").unwrap();
        let runs = lab.start_until("pki").await;
        assert!(!path.exists());
        runs.kill().await;
        std::fs::write(&path, "of this boot").unwrap();
        lab.world.borrow_mut().clear("pki");
        lab.start_until("pki").await;
        assert!(path.exists());
    });
}

#[test]
fn a_restart_changes_nothing() {
    in_lab(Some(&config("")), async |lab| {
        lab.start_until("pki").await.kill().await;
        let first = snapshot(lab.root.path());
        lab.world.borrow_mut().clear("pki");
        lab.start_until("pki").await;
        assert_eq!(snapshot(lab.root.path()), first);
        assert_eq!(lab.world.borrow().restarts, [""; 0]);
    });
}

#[test]
fn a_file_on_the_firmware_partition_is_taken_over_but_not_in_the_middle_of_a_boot() {
    let first = config(
        "hostname: first\ncluster:\n  datastore: sqlite\nregistries:\n  - host: docker.io\n    \
         endpoint: http://192.0.2.1:5000\n",
    );
    in_lab(Some(&first), async |lab| {
        let runs = lab.start_until("pki").await;
        assert_eq!(lab.text("system/state/config/keelson.yaml"), first);
        assert_eq!(
            lab.world.borrow().facts["datastore-endpoint"],
            "unix:///run/kine/kine.sock"
        );
        let mirror = lab.text("run/keelson/rendered/certs.d/docker.io/hosts.toml");
        assert!(
            mirror.contains("server = \"http://192.0.2.1:5000\""),
            "{mirror}"
        );
        // containerd speaks TLS to any host whose file says a word about verification.
        assert!(!mirror.contains("skip_verify"), "{mirror}");
        assert!(!lab.exists("run/keelson/secrets/etcd"));
        runs.kill().await;

        *lab.firmware.0.borrow_mut() = Some(first.replace("first", "second"));
        lab.world.borrow_mut().clear("pki");
        let runs = lab.start_until("pki").await;
        assert_eq!(lab.text("run/keelson/etc/hostname"), "first\n");
        runs.kill().await;

        lab.reboot();
        lab.start_until("pki").await;
        assert_eq!(lab.text("run/keelson/etc/hostname"), "second\n");
    });
}

/// Every file with its content.
fn snapshot(root: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    let mut folders = vec![root.join("run"), root.join("system"), root.join("var")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let kind = std::fs::symlink_metadata(&path).unwrap();
            if kind.is_dir() {
                folders.push(path);
            } else if kind.is_file() {
                files.insert(path.clone(), std::fs::read(path).unwrap());
            }
        }
    }
    files
}
