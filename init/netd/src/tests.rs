//! The whole daemon in a network namespace of its own, against a DHCP server that the test
//! plays. They need root and the `ip` program, and say so when they cannot run.

mod dhcp_server;
mod lab;
mod pid1;
mod router;

use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;
use std::time::Duration;

use dhcp_server::{Behaviour, DhcpServer};
use keelson_control::{Level, chain};
use lab::{Lab, run_in_namespace};
use pid1::FakePid1;

use crate::desired::LOCAL_ADDRESS;
use crate::outbox::Letter;
use crate::{Paths, serve};

const EVERY_LINK: &str = "
  interfaces:
  - {name: uplink, dhcp4: true}
";

fn network(letter: &Letter) -> Option<Ipv4Addr> {
    match letter {
        Letter::Raise {
            condition: "network",
            facts,
        } => Some(facts["node-ip"].parse().unwrap()),
        _ => None,
    }
}

#[test]
fn dhcp_gives_address_route_mtu_dns_and_is_renewed() {
    run_in_namespace(async {
        let mut lab = Lab::new().await;
        let server = DhcpServer::start(lab.peer(), Behaviour::Serve { lease_seconds: 8 });
        lab.start(EVERY_LINK);
        assert_eq!(lab.wait_for(network).await, Ipv4Addr::new(10, 9, 0, 50));
        assert!(
            lab.ip("-4 addr show dev uplink")
                .contains("inet 10.9.0.50/24")
        );
        assert!(lab.ip("route show default").contains("via 10.9.0.1"));
        assert!(
            lab.ip("route show 192.168.77.0/24")
                .contains("via 10.9.0.2")
        );
        assert!(lab.ip("link show uplink").contains("mtu 1400"));
        assert!(lab.ip("-4 addr show dev lo").contains("127.0.0.1/8"));
        lab.until(|lab| {
            lab.resolv_conf()
                .contains("nameserver 10.9.0.3\nsearch lab.example")
        })
        .await;
        // Renewed by unicast at half the time: the address outlives the first lease.
        let granted = server.grants();
        lab.until(|_| server.grants() >= granted + 2).await;
        assert!(
            lab.ip("-4 addr show dev uplink")
                .contains("inet 10.9.0.50/24")
        );
    });
}

#[test]
fn a_lease_nobody_renews_is_given_up_and_a_new_one_taken() {
    run_in_namespace(async {
        let mut lab = Lab::new().await;
        let server = DhcpServer::start(lab.peer(), Behaviour::Serve { lease_seconds: 4 });
        lab.start(EVERY_LINK);
        lab.wait_for(network).await;
        server.behave(Behaviour::Silent);
        lab.until(|lab| !lab.ip("-4 addr show dev uplink").contains("inet "))
            .await;
        assert!(!lab.ip("route show default").contains("via 10.9.0.1"));
        let lost = lab.wait_for(|letter| match letter {
            Letter::Message {
                level: Level::Warn,
                text,
            } => Some(text.clone()),
            _ => None,
        });
        assert!(lost.await.contains("lost its address"));
        server.behave(Behaviour::Serve { lease_seconds: 600 });
        lab.until(|lab| {
            lab.ip("-4 addr show dev uplink")
                .contains("inet 10.9.0.50/24")
        })
        .await;
    });
}

#[test]
fn a_lease_without_an_end_survives_netd() {
    run_in_namespace(async {
        let mut lab = Lab::new().await;
        let for_ever = Behaviour::Serve {
            lease_seconds: u32::MAX,
        };
        let server = DhcpServer::start(lab.peer(), for_ever);
        lab.start(EVERY_LINK);
        lab.wait_for(network).await;
        lab.kill();
        server.behave(Behaviour::Silent);
        lab.start_impatiently(EVERY_LINK);
        assert_eq!(lab.wait_for(network).await, Ipv4Addr::new(10, 9, 0, 50));
        assert!(lab.ip("route show default").contains("via 10.9.0.1"));
        // Configured now: the address stays, and a restart with DHCP again takes it away.
        lab.kill();
        lab.start("\n  interfaces:\n  - {name: uplink, addresses: [10.9.0.50/24]}\n");
        lab.wait_for(network).await;
        lab.kill();
        lab.start_impatiently(EVERY_LINK);
        assert_eq!(lab.wait_for(network).await, LOCAL_ADDRESS);
    });
}

#[test]
fn garbage_and_refusals_do_no_harm() {
    run_in_namespace(async {
        let mut lab = Lab::new().await;
        let server = DhcpServer::start(lab.peer(), Behaviour::Garbage);
        lab.start(EVERY_LINK);
        lab.until(|_| server.answers() >= 2000).await;
        // Nothing usable came, and the daemon lives: a good answer is still taken.
        assert!(!lab.ip("-4 addr show dev uplink").contains("inet "));
        server.behave(Behaviour::Serve { lease_seconds: 600 });
        assert_eq!(lab.wait_for(network).await, Ipv4Addr::new(10, 9, 0, 50));
    });
}

#[test]
fn an_impossible_offer_is_named() {
    run_in_namespace(async {
        let mut lab = Lab::new().await;
        let _server = DhcpServer::start(lab.peer(), Behaviour::OfferLoopback);
        lab.start_impatiently(EVERY_LINK);
        let text = lab.told(Level::Error).await;
        assert!(
            text.contains(
                "uplink: the DHCP server's answer cannot be used: the server offered 127.0.0.1"
            ),
            "{text}"
        );
        assert_eq!(lab.wait_for(network).await, LOCAL_ADDRESS);
    });
}

#[test]
fn a_silent_network_ends_at_the_deadline_with_a_node_of_its_own() {
    run_in_namespace(async {
        let mut lab = Lab::new().await;
        lab.start_impatiently(EVERY_LINK);
        let text = lab.told(Level::Error).await;
        assert!(text.contains("uplink: no DHCP server answered"), "{text}");
        assert_eq!(lab.wait_for(network).await, LOCAL_ADDRESS);
        assert!(lab.ip("addr show dev lo").contains("inet 198.18.0.1/32"));
        assert!(
            lab.ip("route get 10.96.0.1")
                .contains("dev lo src 198.18.0.1")
        );
        lab.until(|lab| lab.resolv_conf().contains("nameserver 198.18.0.1"))
            .await;
    });
}

#[test]
fn a_cable_that_comes_later_is_used() {
    run_in_namespace(async {
        let mut lab = Lab::new().await;
        lab.peer_ip("link set dev uplink-peer down");
        lab.start_impatiently(EVERY_LINK);
        let text = lab.told(Level::Error).await;
        assert!(text.contains("uplink: no carrier"), "{text}");
        lab.wait_for(network).await;
        let _server = DhcpServer::start(lab.peer(), Behaviour::Serve { lease_seconds: 600 });
        lab.plug_in();
        let text = lab.told(Level::Warn).await;
        assert!(
            text.contains("10.9.0.50") && text.contains("next restart"),
            "{text}"
        );
    });
}

#[test]
fn static_addresses_routes_and_dns_come_from_the_configuration() {
    run_in_namespace(async {
        let mut lab = Lab::new().await;
        lab.start(
            "
  interfaces:
  - name: uplink
    addresses: [192.0.2.10/24, '2001:db8::10/64']
    routes:
    - {to: default, via: 192.0.2.1}
    - {to: default, via: '2001:db8::1'}
    mtu: 1420
  nameservers: [192.0.2.53]
  searchDomains: [static.example]
",
        );
        assert_eq!(lab.wait_for(network).await, Ipv4Addr::new(192, 0, 2, 10));
        assert!(lab.ip("route show default").contains("via 192.0.2.1"));
        assert!(lab.ip("-6 route show default").contains("via 2001:db8::1"));
        assert!(lab.ip("link show uplink").contains("mtu 1420"));
        lab.until(|lab| {
            lab.resolv_conf()
                .contains("nameserver 192.0.2.53\nsearch static.example")
        })
        .await;
        assert_eq!(lab.accept_ra("uplink"), "2");
        // What somebody takes away comes back.
        lab.ip("addr del 192.0.2.10/24 dev uplink");
        lab.until(|lab| lab.ip("route show default").contains("via 192.0.2.1"))
            .await;
    });
}

#[test]
fn no_device_at_all_is_said_and_the_node_starts_alone() {
    run_in_namespace(async {
        let mut lab = Lab::new().await;
        lab.ip("link del uplink");
        lab.start_impatiently(EVERY_LINK);
        let text = lab.told(Level::Error).await;
        assert!(text.contains("no network card"), "{text}");
        assert_eq!(lab.wait_for(network).await, LOCAL_ADDRESS);
        assert!(lab.elapsed() < Duration::from_secs(30));
    });
}

#[test]
fn a_router_gives_ipv6_although_the_node_forwards() {
    run_in_namespace(async {
        let mut lab = Lab::new().await;
        fs::write("/proc/sys/net/ipv6/conf/all/forwarding", "1").unwrap();
        lab.start(EVERY_LINK);
        let _router = router::advertise(lab.peer());
        lab.until(|lab| {
            lab.ip("-6 addr show dev uplink")
                .contains("inet6 2001:db8:7:")
        })
        .await;
        lab.until(|lab| {
            lab.ip("-6 route show default")
                .contains("dev uplink proto ra")
        })
        .await;
        lab.until(|lab| {
            lab.resolv_conf()
                .contains("nameserver 2001:db8:7::53\nsearch router.example")
        })
        .await;
    });
}

const WHOLE_CONFIG: &str = "
apiVersion: keelson.dev/v1alpha1
kind: NodeConfig
hostname: lab
network:
  interfaces:
  - {name: uplink, addresses: [192.0.2.10/24]}
";

/// What `keelson netd` runs, with places of the test's own.
fn places(folder: &Path) -> Paths {
    Paths {
        config: folder.join("node-config.yaml"),
        control: folder.join("control.sock"),
        resolv_conf: folder.join("resolv.conf"),
    }
}

#[test]
fn the_whole_program_tells_pid_1_once_per_boot() {
    run_in_namespace(async {
        let _lab = Lab::new().await;
        let folder = tempfile::tempdir().unwrap();
        let paths = places(folder.path());
        fs::write(&paths.config, WHOLE_CONFIG).unwrap();
        let pid1 = FakePid1::listen(&paths.control);
        // Started, killed and started again, as PID 1 would after a crash.
        for _ in 0..2 {
            let served = tokio::time::timeout(Duration::from_secs(2), serve(&paths)).await;
            assert!(served.is_err(), "it ended: {served:?}");
            assert!(
                pid1.holds("network") && pid1.holds("time"),
                "{:?}",
                pid1.status()
            );
        }
        let status = pid1.status();
        assert_eq!(status.conditions, ["network", "time"]);
        assert_eq!(status.facts["node-ip"], "192.0.2.10");
        let said = pid1.messages();
        assert_eq!(said.len(), 1, "{said:?}");
        assert!(
            said[0].starts_with("time: no time server is configured or offered"),
            "{said:?}"
        );
    });
}

#[test]
fn a_missing_or_wrong_configuration_and_a_missing_pid_1_are_named() {
    run_in_namespace(async {
        let folder = tempfile::tempdir().unwrap();
        let paths = places(folder.path());
        let fails = async || chain(&serve(&paths).await.unwrap_err());
        assert!(fails().await.contains("node-config.yaml"));
        fs::write(
            &paths.config,
            "apiVersion: keelson.dev/v1alpha1\nkind: NodeConfig\nnetwrok: {}\n",
        )
        .unwrap();
        assert!(fails().await.contains("netwrok"), "{}", fails().await);
        fs::write(&paths.config, WHOLE_CONFIG).unwrap();
        assert!(
            fails().await.contains("cannot ask PID 1"),
            "{}",
            fails().await
        );
    });
}
