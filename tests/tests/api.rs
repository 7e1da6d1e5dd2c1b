//! The node API through the real `keelsonctl`: every verb, roles, the evidence of a restart,
//! configuration that goes back by itself.

use std::fs;
use std::time::Duration;

use anyhow::{Context, ensure};
use keelson_tests::{Keelsonctl, Lines, Node, Transcript, entry, eventually, saved, usual_config};

/// Exit codes of keelsonctl.
const UNREACHABLE: i32 = 3;
const REFUSED: i32 = 4;

/// A line that something is about to write.
const LINE: Duration = Duration::from_secs(60);

/// The API server takes half a minute under emulation.
const BACK: Duration = Duration::from_secs(240);

#[test]
fn every_verb_that_looks() {
    saved::with_operated_node("api-look", |node, _, keelsonctl| {
        let mut transcript = Transcript::new(keelsonctl);
        transcript.shows("What runs there, and how it does", &["version"])?;
        transcript.shows("", &["status"])?;
        transcript.shows("", &["health"])?;
        transcript.shows("How long the boot took", &["boot-report"])?;
        transcript.shows("Services", &["get", "services"])?;
        transcript.shows("", &["describe", "service", "kubelet"])?;
        transcript.shows("Logs", &["logs", "netd", "machined", "--tail", "3"])?;
        transcript.shows("", &["dmesg", "--tail", "3"])?;
        transcript.shows("What happened", &["events", "--tail", "5"])?;
        for resource in ["memory", "disks", "addresses", "routes", "mounts"] {
            transcript.shows(
                if resource == "memory" {
                    "The machine"
                } else {
                    ""
                },
                &["get", resource],
            )?;
        }
        transcript.shows("", &["get", "sockets", "--listening"])?;
        transcript.shows("Certificates", &["cert", "list"])?;
        transcript.shows("Configuration", &["config", "show"])?;
        transcript.write(&node.environment().out.join("transcripts.md"))?;

        for resource in [
            "processes",
            "cgroups",
            "sockets",
            "events",
            "config",
            "certificates",
        ] {
            for form in ["wide", "yaml"] {
                keelsonctl.run(&["get", resource, "-o", form])?;
            }
            keelsonctl.json(&["get", resource])?;
        }
        let services = keelsonctl.json(&["get", "services"])?;
        let kubelet = entry(&services["services"], "name", "kubelet")?;
        ensure!(kubelet["state"] == "ready", "{kubelet}");
        ensure!(kubelet["memoryBytes"].as_u64() > Some(1 << 20), "{kubelet}");
        keelsonctl.run(&["config", "show", "--defaults"])?;
        let schema = keelsonctl.run(&["config", "schema"])?;
        serde_json::from_str::<serde_json::Value>(&schema)?;
        Ok(())
    });
}

#[test]
fn files_are_for_support_and_never_secrets() {
    saved::with_operated_node("api-files", |node, _, keelsonctl| {
        let passwd = keelsonctl.run(&["cat", "/etc/passwd"])?;
        ensure!(passwd.contains("apid:x:903:"), "{passwd}");
        ensure!(
            keelsonctl
                .run(&["ls", "/var/log/keelson"])?
                .contains("kubelet.log")
        );
        for secret in [
            "/run/keelson/secrets/kube-apiserver/serving.pem",
            "/system/state/pki/api-ca.pem",
            "/usr/../run/keelson/secrets/apid/serving.pem",
            "/proc/1/environ",
            "/var/lib/kubelet/pki/kubelet-client-current.pem",
            "/dev/vda",
        ] {
            let words = keelsonctl.output(&["cat", secret], LINE)?;
            ensure!(!words.status.success(), "{secret} was read");
            ensure!(words.stdout.is_empty(), "{secret} was read");
        }
        let archive = node.folder().path().join("support.tar.zst");
        let _ = fs::remove_file(&archive);
        keelsonctl.run(&["support", "-o", &archive.to_string_lossy()])?;
        let tar = zstd::decode_all(fs::File::open(&archive)?)?;
        let text = String::from_utf8_lossy(&tar);
        for wanted in ["support/status.txt", "kubelet.log", "support/kernel.log"] {
            ensure!(text.contains(wanted), "{wanted} is not in the archive");
        }
        ensure!(!text.contains("PRIVATE KEY"), "a key is in the archive");
        Ok(())
    });
}

#[test]
fn roles_and_revocation() {
    saved::with_operated_node("api-roles", |node, _, admin| {
        let folder = node.folder().path().to_owned();
        let issue = |person: &str, role: &str| -> anyhow::Result<Keelsonctl> {
            let path = folder.join(format!("{person}.yaml"));
            let _ = fs::remove_file(&path);
            let file = path.to_string_lossy().into_owned();
            admin.run(&[
                "cert", "issue", "--person", person, "--role", role, "-o", &file,
            ])?;
            Ok(admin.with_config(&path))
        };
        let reader = issue("rita", "reader")?;
        let operator = issue("otto", "operator")?;

        reader.run(&["get", "services"])?;
        for change in [
            vec!["restart", "kube-proxy"],
            vec!["stop", "kube-proxy"],
            vec!["reboot"],
            vec!["shutdown"],
            vec!["config", "confirm"],
            vec!["kubeconfig"],
            vec!["cat", "/etc/passwd"],
        ] {
            let words = reader.fails(&change, REFUSED)?;
            ensure!(words.contains("role"), "{change:?}: {words}");
        }
        operator.run(&["restart", "kube-proxy"])?;
        for secret in [vec!["kubeconfig"], vec!["config", "confirm"]] {
            operator.fails(&secret, REFUSED)?;
        }
        let kubeconfig = admin.run(&["kubeconfig"])?;
        ensure!(kubeconfig.contains("client-key-data"));

        let audit = admin.run(&["logs", "audit"])?;
        for line in [
            "person=\"otto\" role=operator",
            "what=\"restart service kube-proxy\" result=\"ok\"",
            "what=\"read the kubeconfig\"",
        ] {
            ensure!(audit.contains(line), "no {line} in:\n{audit}");
        }
        ensure!(
            !audit.contains("person=\"rita\""),
            "a reader changed something:\n{audit}"
        );

        let certificates = admin.json(&["cert", "list"])?;
        let fingerprint = certificates["certificates"]
            .as_array()
            .context("no certificates")?
            .iter()
            .find(|certificate| {
                certificate["subject"]
                    .as_str()
                    .is_some_and(|s| s.contains("otto"))
            })
            .and_then(|certificate| certificate["fingerprint"].as_str())
            .context("otto's certificate is not listed")?
            .to_owned();
        admin.run(&["cert", "revoke", &fingerprint])?;
        eventually("the end of otto's certificate", LINE, || {
            operator.fails(&["status"], REFUSED).map(drop)
        })?;
        reader.run(&["status"])?;
        Ok(())
    });
}

#[test]
fn a_restart_leaves_evidence_and_is_followed_live() {
    saved::with_operated_node("api-evidence", |_, cluster, keelsonctl| {
        let mut events = Lines::of(keelsonctl.spawn(&["events", "--watch", "--kind", "service"])?)?;
        let mut logs =
            Lines::of(keelsonctl.spawn(&["logs", "-f", "--tail", "1", "kube-proxy"])?)?;
        cluster.exec("inside", &["kill", "kube-proxy"])?;
        events.wait_for(&["kube-proxy", "signal"])?;
        logs.wait_for(&["kube-proxy"])?;
        eventually("kube-proxy", BACK, || {
            let services = keelsonctl.run(&["get", "services"])?;
            let line = services.lines().find(|line| line.contains("kube-proxy"));
            ensure!(
                line.is_some_and(|line| line.contains("ready")),
                "{services}"
            );
            Ok(())
        })?;
        let described = keelsonctl.run(&["describe", "service", "kube-proxy"])?;
        ensure!(described.contains("signal 9"), "{described}");

        keelsonctl.run(&["stop", "kube-scheduler"])?;
        eventually("the scheduler's end", LINE, || {
            let services = keelsonctl.run(&["get", "services"])?;
            let line = services
                .lines()
                .find(|line| line.contains("kube-scheduler"));
            ensure!(
                line.is_some_and(|line| line.contains("stopped")),
                "{services}"
            );
            Ok(())
        })?;
        let unhealthy = keelsonctl.fails(&["health"], 5)?;
        drop(unhealthy);
        keelsonctl.run(&["start", "kube-scheduler"])?;
        eventually("a healthy node", BACK, || keelsonctl.run(&["health"]))?;
        let refused = keelsonctl.fails(&["stop", "machined"], 1)?;
        ensure!(refused.contains("machined"), "{refused}");
        let unknown = keelsonctl.fails(&["restart", "kubelett"], 1)?;
        ensure!(unknown.contains("kubelet"), "{unknown}");
        Ok(())
    });
}

#[test]
fn a_configuration_on_trial_that_breaks_the_network_goes_back() {
    saved::with_operated_node("api-trial", |node, cluster, keelsonctl| {
        let good = usual_config("");
        let file = node.folder().path().join("broken.yaml");
        let broken = good.replace(
            "network:\n",
            "network:\n  interfaces:\n  - name: eth0\n    addresses: [192.0.2.77/24]\n",
        );
        fs::write(&file, broken)?;
        let file = file.to_string_lossy().into_owned();
        keelsonctl.run(&["config", "validate", "-f", &file])?;
        let diff = keelsonctl.run(&["config", "diff", "-f", &file])?;
        ensure!(diff.contains("network.interfaces"), "{diff}");
        keelsonctl.run(&["apply", "-f", &file, "--dry-run"])?;
        keelsonctl.run(&["status"])?;
        // It waits for the end of the trial, and loses the network meanwhile.
        let trial = Lines::of(keelsonctl.spawn(&["apply", "-f", &file, "--try", "30s"])?)?;
        eventually("a node that is gone", LINE, || {
            keelsonctl
                .fails(&["status", "--timeout", "3s"], UNREACHABLE)
                .map(drop)
        })?;
        eventually("the old configuration", Duration::from_secs(90), || {
            keelsonctl.run(&["status", "--timeout", "3s"])
        })?;
        drop(trial);
        let shown = keelsonctl.run(&["config", "show"])?;
        ensure!(!shown.contains("192.0.2.77"), "{shown}");
        eventually("a healthy node", BACK, || keelsonctl.run(&["health"]))?;
        for service in ["kube-apiserver", "kubelet"] {
            let described = keelsonctl.run(&["describe", "service", service])?;
            ensure!(!described.contains("192.0.2.77"), "{described}");
        }
        cluster.run(&["get", "nodes"])?;

        let wrong = node.folder().path().join("wrong.yaml");
        fs::write(
            &wrong,
            "apiVersion: keelson.dev/v1alpha1\nkind: NodeConfig\nhostnam: x\n",
        )?;
        let words = keelsonctl.fails(&["apply", "-f", &wrong.to_string_lossy()], 1)?;
        ensure!(
            words.contains("hostnam") && words.contains(":3:"),
            "{words}"
        );
        Ok(())
    });
}

#[test]
fn metrics_name_what_matters() {
    saved::with_operated_node("api-metrics", |_, _, keelsonctl| {
        let text = keelsonctl.run(&["metrics"])?;
        for name in [
            "keelson_service_state{",
            "keelson_service_restarts_total{",
            "keelson_cgroup_memory_bytes{",
            "keelson_certificate_not_after_seconds{",
            "keelson_boot_phase_seconds{",
        ] {
            ensure!(text.contains(name), "no {name} in:\n{text}");
        }
        Ok(())
    });
}

#[test]
fn a_reboot_through_the_api_comes_back() {
    saved::with_operated_node("api-reboot", |node: &mut Node, _, keelsonctl| {
        let output = keelsonctl.output(
            &["reboot", "--reason", "test", "--wait=5m"],
            Duration::from_secs(330),
        )?;
        ensure!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        let serial = node.folder().path().join("serial.log");
        let serial = fs::read_to_string(serial)?;
        ensure!(
            serial.contains("asked for it through the node API (reboot: test)"),
            "{serial}"
        );
        Ok(())
    });
}
