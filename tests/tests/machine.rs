//! The VM library itself, on a bare machine: firmware only, no disk, no image needed.

use std::net::TcpStream;
use std::path::Path;
use std::time::Duration;

use keelson_qemu::{
    Acceleration, Clock, DiskFormat, Firmware, Lifetime, Network, Start, Tools, UserNetwork, Vm,
    VmSpec, create_overlay, create_variables,
};
use keelson_tests::Environment;

/// The firmware gives up on booting after a few seconds of searching.
const FIRMWARE: Duration = Duration::from_secs(60);

fn bare(tools: &Tools, variables: &Path, start: Start) -> VmSpec {
    VmSpec {
        name: "bare".to_owned(),
        acceleration: Acceleration::of_this_host(),
        memory_mib: 256,
        cpus: 2,
        firmware: Firmware::Uefi {
            code: tools.firmware_code(),
            variables: variables.to_owned(),
        },
        kernel: None,
        disks: vec![],
        // With a card the firmware would try to boot from the network, for minutes.
        networks: vec![],
        kernel_arguments: vec![],
        clock: Clock::Host,
        start,
    }
}

#[test]
fn a_machine_is_watched_saved_restored_and_cut() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let environment = Environment::prepare().unwrap();
    let tools = &environment.tools;
    create_variables(tools, &path("variables.qcow2")).unwrap();

    let spec = bare(tools, &path("variables.qcow2"), Start::PowerOn);
    let mut vm = Vm::launch(
        tools,
        &spec,
        &path("one"),
        &path("one/s"),
        Lifetime::WithCaller,
    )
    .unwrap();
    vm.wait_for_serial("UEFI Interactive Shell", FIRMWARE)
        .unwrap();
    vm.reset().unwrap();
    vm.wait("a reset", FIRMWARE, |seen| {
        seen.qmp_event("RESET").map(drop)
    })
    .unwrap();
    vm.forget();
    vm.wait_for_serial("UEFI Interactive Shell", FIRMWARE)
        .unwrap();
    vm.save(&path("memory")).unwrap();

    create_overlay(
        tools,
        &path("variables.qcow2"),
        DiskFormat::Qcow2,
        &path("overlay.qcow2"),
        None,
    )
    .unwrap();
    let spec = bare(tools, &path("overlay.qcow2"), Start::Restore);
    let mut vm = Vm::launch(
        tools,
        &spec,
        &path("two"),
        &path("two/s"),
        Lifetime::WithCaller,
    )
    .unwrap();
    vm.restore(&path("memory")).unwrap();
    // The shell that was saved still counts down and then prompts (no end of line follows); it
    // does not start again.
    vm.wait("the prompt", FIRMWARE, |seen| {
        seen.serial.contains("Shell>").then_some(())
    })
    .unwrap();
    assert!(vm.look(|seen| seen.serial_line("UEFI Interactive Shell").is_none()));
    vm.power_cut().unwrap();
}

#[test]
fn qemu_that_cannot_start_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let environment = Environment::prepare().unwrap();
    let tools = &environment.tools;
    let spec = bare(tools, Path::new("/nothing/here.qcow2"), Start::PowerOn);
    let state = folder.path().join("state");
    let error = Vm::launch(tools, &spec, &state, &state, Lifetime::WithCaller).unwrap_err();
    assert!(error.to_string().contains("/nothing/here.qcow2"), "{error}");
}

#[test]
fn ports_are_forwarded_from_free_ones() {
    let folder = tempfile::tempdir().unwrap();
    let environment = Environment::prepare().unwrap();
    let tools = &environment.tools;
    let variables = folder.path().join("variables.qcow2");
    create_variables(tools, &variables).unwrap();
    let mut spec = bare(tools, &variables, Start::PowerOn);
    spec.networks = vec![Network::User(UserNetwork {
        forwards: vec![6443, 22],
        ..UserNetwork::default()
    })];
    let state = folder.path().join("state");
    let vm = Vm::launch(tools, &spec, &state, &state, Lifetime::WithCaller).unwrap();
    let [api, ssh] = [6443, 22].map(|port| vm.forwarded_port(port).unwrap());
    assert_ne!(api, ssh);
    // QEMU listens, and on the loopback address only.
    TcpStream::connect(("127.0.0.1", api)).unwrap();
    assert_eq!(vm.forwarded_port(80), None);
}
