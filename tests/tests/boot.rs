//! From the firmware to a Ready node, and back down.

use std::time::Duration;

use keelson_tests::{Boot, Node, READY, eventually, saved, usual_config};

/// Pods get their time to end, then services, then disks are unmounted.
const SHUTDOWN: Duration = Duration::from_secs(120);

/// The boot itself happens once per image: its machine is saved for the other suites.
#[test]
fn boots_to_ready_through_firmware() {
    let (saved, environment) = saved::ensure().unwrap();
    let report = saved.report;
    println!(
        "the node was Ready {} ms after the kernel started",
        report.ready_ms
    );
    for phase in &report.phases {
        println!("{:>8} ms  {}", phase.at_ms, phase.name);
    }
    assert!(
        report.phases.is_sorted_by_key(|phase| phase.at_ms),
        "{:?}",
        report.phases
    );
    assert!(
        report
            .phases
            .iter()
            .all(|phase| phase.at_ms <= report.ready_ms)
    );
    let seen = |name: &str| report.phases.iter().any(|phase| phase.name == name);
    for name in [
        "storage",
        "config",
        "network",
        "pki",
        "kube-apiserver",
        "kubelet",
    ] {
        assert!(seen(name), "phase {name} is missing in {:?}", report.phases);
    }
    assert!(environment.out.join("test-report.json").is_file());
}

#[test]
fn the_power_button_ends_it_and_a_reboot_keeps_cluster_and_data() {
    saved::with_node("reboot", |node, cluster| {
        cluster.run(&["create", "configmap", "kept", "--from-literal=a=b"])?;
        cluster.exec("inside", &["write", "/host/var/kept-by-a-test", "on DATA"])?;
        let uid = |cluster: &keelson_tests::Kubectl| {
            cluster.run(&[
                "get",
                "namespace",
                "kube-system",
                "-o",
                "jsonpath={.metadata.uid}",
            ])
        };
        let before = uid(cluster)?;

        let mut vm = node.take_vm()?;
        vm.forget();
        vm.power_button()?;
        let how = vm.wait_for_end(SHUTDOWN)?;
        assert_eq!(how, "exit status: 0", "{}", vm.serial_tail());
        vm.look(|seen| {
            assert!(
                seen.serial_line("powering off").is_some(),
                "{}",
                seen.serial
            );
            assert!(
                seen.serial_line("Kernel panic").is_none(),
                "{}",
                seen.serial
            );
        });
        drop(vm);

        node.start(&Boot::default())?;
        let cluster = node.ready()?;
        assert_eq!(uid(&cluster)?, before, "it is another cluster");
        let kept = cluster.run(&["get", "configmap", "kept", "-o", "jsonpath={.data.a}"])?;
        assert_eq!(kept, "b");
        let read = || Ok(cluster.exec("inside", &["read", "/host/var/kept-by-a-test"])?);
        assert_eq!(
            eventually("the pod after the reboot", READY, read)?,
            "on DATA"
        );
        Ok(())
    });
}

#[test]
fn a_node_with_sqlite_becomes_ready_and_survives_the_end_of_kine() {
    let boot = Boot {
        config: Some(usual_config("  datastore: sqlite\n")),
        ..Boot::default()
    };
    Node::with_booted("sqlite", &boot, |node| {
        let cluster = node.ready()?;
        cluster.run(&["create", "configmap", "kept", "--from-literal=a=b"])?;
        node.vm()?.look(|seen| {
            assert!(
                seen.service("etcd").is_none_or(|etcd| etcd.pid.is_none()),
                "etcd runs"
            );
            assert!(
                seen.service("kine").is_some_and(|kine| kine.pid.is_some()),
                "no kine"
            );
            let ended = seen.serial_line("ended");
            assert!(ended.is_none(), "a service did not start well: {ended:?}");
        });
        cluster.apply("workload.yaml")?;
        cluster.wait(&["--for=condition=Ready", "pod", "inside"], READY)?;
        let before = cluster.exec("inside", &["kill", "kine"])?;
        let again = || {
            let pid = cluster.exec("inside", &["pid", "kine"])?;
            anyhow::ensure!(pid != before, "kine has not been started again");
            Ok(cluster.run(&["get", "configmap", "kept", "-o", "jsonpath={.data.a}"])?)
        };
        assert_eq!(
            eventually("the cluster on a restarted kine", READY, again)?,
            "b"
        );
        Ok(())
    });
}
