//! What can be wrong with a machine or its surroundings: each gives one clear line.

use std::time::Duration;

use keelson_qemu::{Clock, DiskFormat};
use keelson_tests::{
    Boot, Environment, Node, Plugged, lan::Lan, lan::is_dhcp_request, usual_config,
};

/// Firmware, kernel and the first services.
const EARLY: Duration = Duration::from_secs(90);

/// The node waits 30 s for an address.
const NETWORK: Duration = Duration::from_secs(120);

const SHUTDOWN: Duration = Duration::from_secs(90);

#[test]
fn a_broken_configuration_is_named_and_the_node_can_be_fed_again() {
    let broken = "apiVersion: keelson.dev/v1alpha1\nkind: NodeConfig\nclustre:\n  name: test\n";
    let boot = Boot {
        config: Some(broken.to_owned()),
        ..Boot::default()
    };
    Node::with_booted("broken-config", &boot, |node| {
        let line = node.vm()?.wait_for_serial("clustre", EARLY)?;
        assert!(
            line.contains("keelson.yaml") && line.contains("3:"),
            "{line}"
        );
        let mut vm = node.take_vm()?;
        vm.power_button()?;
        vm.wait_for_end(SHUTDOWN)?;
        drop(vm);
        node.put_config(usual_config("").as_bytes())?;
        node.start(&boot)?;
        node.vm()?.wait_for_condition("config", EARLY)?;
        Ok(())
    });
}

#[test]
fn a_machine_without_its_disk_says_so() {
    let boot = Boot {
        config: None,
        ..Boot::default()
    };
    Node::with_created("no-disk", &boot, |node| {
        node.start_kernel_without_disk()?;
        let line = node.vm()?.wait_for_serial("no disk has", EARLY)?;
        assert!(line.contains("no disk at all"), "{line}");
        // A reset, not a hang: the loader may have another slot.
        node.vm()?
            .wait("a reset", EARLY, |seen| seen.qmp_event("RESET").map(drop))?;
        Ok(())
    });
}

#[test]
fn a_disk_of_1_gib_is_refused() {
    let boot = Boot {
        disk_bytes: 1 << 30,
        config: None,
        ..Boot::default()
    };
    Node::with_booted("small-disk", &boot, |node| {
        let line = node.vm()?.wait_for_serial("the disk has", EARLY)?;
        assert!(
            line.contains("1024 MiB") && line.contains("at least 2048 MiB"),
            "{line}"
        );
        Ok(())
    });
}

#[test]
fn no_network_card() {
    let boot = Boot {
        plugged: Plugged::Nothing,
        ..Boot::default()
    };
    Node::with_booted("no-card", &boot, |node| {
        let line = node.vm()?.wait_for_serial("network: no address", NETWORK)?;
        assert!(line.contains("no network card"), "{line}");
        node.vm()?.wait_for_condition("network", EARLY)?;
        Ok(())
    });
}

#[test]
fn a_dhcp_server_that_never_answers() {
    with_lan("silent-dhcp", |_| None, "no DHCP server answered");
}

/// Every request is answered by a well-addressed packet full of nonsense.
#[test]
fn a_dhcp_server_that_answers_garbage() {
    with_lan(
        "garbage-dhcp",
        |frame| is_dhcp_request(frame).then(|| garbage(frame))?,
        "DHCP",
    );
}

#[test]
fn a_clock_in_1970() {
    let boot = Boot {
        clock: Clock::Epoch,
        ..Boot::default()
    };
    Node::with_booted("clock-1970", &boot, |node| {
        let line = node.vm()?.wait_for_serial("time: ", NETWORK)?;
        assert!(line.contains("clock is wrong"), "{line}");
        node.vm()?.wait_for_condition("pki", EARLY)?;
        Ok(())
    });
}

fn with_lan(
    name: &str,
    answer: impl FnMut(&[u8]) -> Option<Vec<u8>> + Send + 'static,
    expected: &str,
) {
    Node::with_created(name, &Boot::default(), |node| {
        let socket = node.folder().sockets()?.join("lan.sock");
        let lan = Lan::listen(&socket, answer)?;
        node.start(&Boot {
            plugged: Plugged::Socket(socket),
            ..Boot::default()
        })?;
        let line = node.vm()?.wait_for_serial("network: no address", NETWORK)?;
        assert!(line.contains(expected), "{line}");
        assert!(lan.dhcp_requests() >= 2, "{} requests", lan.dhcp_requests());
        // The node goes on alone.
        node.vm()?.wait_for_condition("network", EARLY)?;
        Ok(())
    });
}

/// An answer to a DHCP request from 10.0.2.2 to everybody, with the right transaction and nothing
/// else that makes sense.
fn garbage(request: &[u8]) -> Option<Vec<u8>> {
    let transaction = request.get(46..50).unwrap_or(&[0; 4]);
    let mut dhcp = vec![2, 1, 6, 0];
    dhcp.extend_from_slice(transaction);
    // Fields, then the magic number, then options that run over the end.
    dhcp.resize(236, 0xff);
    dhcp.extend_from_slice(&[99, 130, 83, 99, 53, 200, 2, 54, 4, 1]);
    let udp_length = u16::try_from(8 + dhcp.len()).ok()?;
    let ip_length = 20 + udp_length;
    let mut ip = vec![0x45, 0];
    ip.extend_from_slice(&ip_length.to_be_bytes());
    ip.extend_from_slice(&[0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 2, 2, 255, 255, 255, 255]);
    let sum: u32 = ip
        .chunks(2)
        .map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])))
        .sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    let checksum = !u16::try_from(folded & 0xffff).ok()?;
    ip[10..12].copy_from_slice(&checksum.to_be_bytes());
    // To everybody, from a made-up card.
    let mut frame = vec![0xff; 6];
    frame.extend_from_slice(&[0x52, 0x54, 0, 0, 0, 2, 0x08, 0x00]);
    frame.extend_from_slice(&ip);
    frame.extend_from_slice(&[0, 67, 0, 68]);
    frame.extend_from_slice(&udp_length.to_be_bytes());
    frame.extend_from_slice(&[0, 0]);
    frame.extend_from_slice(&dhcp);
    Some(frame)
}

/// The image's own table is the measure of what must be there.
#[test]
fn the_image_has_the_partitions_of_the_design() {
    let environment = Environment::prepare().unwrap();
    let (base, _) = environment.base().unwrap();
    let tools = &environment.tools;
    let mut end = 0;
    for partition in keelson_bootstate::layout::Partition::ALL {
        let found = keelson_qemu::find_partition(tools, &base.path, base.format, partition);
        if partition == keelson_bootstate::layout::Partition::Data {
            assert!(found.is_err(), "DATA is made at first boot");
            continue;
        }
        let found = found.unwrap();
        assert!(found.start >= end, "{} overlaps", partition.name());
        end = found.end;
    }
    assert_eq!(base.format, DiskFormat::Raw);
}
