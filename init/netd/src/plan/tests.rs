//! What is planned, carried out on a kernel that only remembers.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::desired::{LOCAL_ADDRESS, LeaseState, Local, desired};
use crate::lease::{Lease, LeaseRoute};
use crate::model::{Address, LinkKind, Route};
use crate::netlink::fake::FakeKernel;
use crate::settings::{Interface, Interfaces, Settings, StaticRoute};

fn card(index: u32, name: &str) -> Link {
    Link {
        index,
        name: name.to_owned(),
        kind: LinkKind::Ethernet,
        mac: Some([2, 0, 0, 0, 0, 1]),
        up: false,
        carrier: true,
        mtu: 1500,
        accept_ra: Some(1),
    }
}

fn loopback() -> Link {
    Link {
        kind: LinkKind::Loopback,
        mac: None,
        ..card(1, "lo")
    }
}

fn settings(interfaces: Interfaces) -> Settings {
    Settings {
        host_name: "node".to_owned(),
        interfaces,
        nameservers: vec![],
        search_domains: vec![],
        time_servers: vec![],
        service_networks: vec!["10.96.0.0/12".parse().unwrap()],
    }
}

fn on_link(text: &str) -> LinkAddress {
    let (address, prefix) = text.split_once('/').unwrap();
    LinkAddress::new(address.parse().unwrap(), prefix.parse().unwrap()).unwrap()
}

fn local_address() -> LinkAddress {
    LinkAddress::new(LOCAL_ADDRESS.into(), 32).unwrap()
}

fn lease(address: &str, router: [u8; 4]) -> Lease {
    Lease {
        address: on_link(address),
        routes: vec![LeaseRoute {
            to: "0.0.0.0/0".parse().unwrap(),
            via: Some(router.into()),
        }],
        nameservers: vec![],
        search: None,
        time_servers: vec![],
        mtu: None,
        duration: Some(Duration::from_secs(600)),
        server: [10, 0, 2, 2].into(),
    }
}

fn held(lease: Lease, seconds: u64) -> LeaseState {
    LeaseState::Held {
        lease,
        valid_for: Some(Duration::from_secs(seconds)),
    }
}

#[test]
fn a_lease_is_applied_renewed_and_taken_back() {
    let kernel = FakeKernel::new(vec![card(2, "eth0")]);
    let every = settings(Interfaces::EveryCard);
    let granted = lease("10.0.2.15/24", [10, 0, 2, 2]);

    let first = desired(&every, &kernel.state(), &BTreeMap::new(), &Local::default());
    kernel.apply_all(&plan(&first, &kernel.state()));
    assert!(kernel.state().links[0].up);
    assert_eq!(kernel.state().links[0].accept_ra, Some(2));

    let bound = BTreeMap::from([(2, held(granted.clone(), 600))]);
    let wish = desired(&every, &kernel.state(), &bound, &Local::default());
    kernel.apply_all(&plan(&wish, &kernel.state()));
    assert_eq!(kernel.state().addresses.len(), 1);
    assert_eq!(kernel.state().routes.len(), 1);

    // A second before and after is the same lease; a renewal is not.
    let later = BTreeMap::from([(2, held(granted.clone(), 597))]);
    assert_eq!(
        plan(
            &desired(&every, &kernel.state(), &later, &Local::default()),
            &kernel.state()
        ),
        []
    );
    let renewed = BTreeMap::from([(2, held(granted, 1200))]);
    assert!(matches!(
        plan(
            &desired(&every, &kernel.state(), &renewed, &Local::default()),
            &kernel.state()
        )[..],
        [Operation::AddAddress { link: 2, .. }]
    ));

    let lost = BTreeMap::from([(2, LeaseState::Lost)]);
    kernel.apply_all(&plan(
        &desired(&every, &kernel.state(), &lost, &Local::default()),
        &kernel.state(),
    ));
    assert_eq!(
        (kernel.state().addresses, kernel.state().routes),
        (vec![], vec![])
    );
}

#[test]
fn a_restart_keeps_what_the_run_before_left() {
    let every = settings(Interfaces::EveryCard);
    for valid_for in [Some(Duration::from_secs(300)), None] {
        let kernel = FakeKernel::new(vec![card(2, "eth0")]);
        kernel.add(Address {
            link: 2,
            address: on_link("10.0.2.15/24"),
            owner: Owner::NetdLease,
            valid_for,
        });
        let wish = desired(&every, &kernel.state(), &BTreeMap::new(), &Local::default());
        kernel.apply_all(&plan(&wish, &kernel.state()));
        assert_eq!(kernel.state().addresses.len(), 1, "{valid_for:?}");
        // The server grants the same again: the address is not touched.
        let granted = LeaseState::Held {
            lease: lease("10.0.2.15/24", [10, 0, 2, 2]),
            valid_for,
        };
        let leases = BTreeMap::from([(2, granted)]);
        let wish = desired(&every, &kernel.state(), &leases, &Local::default());
        assert!(matches!(
            plan(&wish, &kernel.state())[..],
            [Operation::AddRoute { .. }]
        ));
    }
}

#[test]
fn a_static_address_that_is_lent_now_gets_the_other_mark() {
    let kernel = FakeKernel::new(vec![card(2, "eth0")]);
    kernel.add(Address {
        link: 2,
        address: on_link("10.0.2.15/24"),
        owner: Owner::Netd,
        valid_for: None,
    });
    let granted = LeaseState::Held {
        lease: lease("10.0.2.15/24", [10, 0, 2, 2]),
        valid_for: None,
    };
    let leases = BTreeMap::from([(2, granted)]);
    let every = settings(Interfaces::EveryCard);
    let wish = desired(&every, &kernel.state(), &leases, &Local::default());
    kernel.apply_all(&plan(&wish, &kernel.state()));
    assert_eq!(kernel.state().addresses[0].owner, Owner::NetdLease);
    assert_eq!(plan(&wish, &kernel.state()), []);
}

#[test]
fn a_restart_with_other_settings_removes_what_was_static() {
    let kernel = FakeKernel::new(vec![card(2, "eth0")]);
    kernel.add(Address {
        link: 2,
        address: on_link("192.0.2.77/24"),
        owner: Owner::Netd,
        valid_for: None,
    });
    let wish = desired(
        &settings(Interfaces::EveryCard),
        &kernel.state(),
        &BTreeMap::new(),
        &Local::default(),
    );
    kernel.apply_all(&plan(&wish, &kernel.state()));
    assert!(kernel.state().addresses.is_empty());
}

#[test]
fn what_others_made_is_left_alone() {
    let mut pods = card(7, "veth1");
    pods.kind = LinkKind::Virtual;
    let kernel = FakeKernel::new(vec![card(2, "eth0"), pods]);
    for link in [2, 7] {
        kernel.add(Address {
            link,
            address: on_link("10.244.0.1/32"),
            owner: Owner::Other,
            valid_for: None,
        });
    }
    let lost = BTreeMap::from([(2, LeaseState::Lost)]);
    let wish = desired(
        &settings(Interfaces::EveryCard),
        &kernel.state(),
        &lost,
        &Local::default(),
    );
    kernel.apply_all(&plan(&wish, &kernel.state()));
    assert_eq!(kernel.state().addresses.len(), 2);
    assert!(!kernel.state().links[1].up);
}

#[test]
fn a_gateway_outside_the_network_is_marked_on_link() {
    let kernel = FakeKernel::new(vec![card(2, "eth0")]);
    let cloud = BTreeMap::from([(2, held(lease("10.128.0.7/32", [10, 128, 0, 1]), 600))]);
    let wish = desired(
        &settings(Interfaces::EveryCard),
        &kernel.state(),
        &cloud,
        &Local::default(),
    );
    assert!(wish.links[&2].routes[0].onlink);
    let lan = BTreeMap::from([(2, held(lease("10.128.0.7/24", [10, 128, 0, 1]), 600))]);
    let wish = desired(
        &settings(Interfaces::EveryCard),
        &kernel.state(),
        &lan,
        &Local::default(),
    );
    assert!(!wish.links[&2].routes[0].onlink);
}

#[test]
fn a_node_alone_gets_an_address_and_a_route_to_its_services() {
    let kernel = FakeKernel::new(vec![loopback()]);
    let services: Cidr = "10.96.0.0/12".parse().unwrap();
    let local = Local {
        address: Some(local_address()),
        routes: vec![services],
    };
    let alone = settings(Interfaces::EveryCard);
    let wish = desired(&alone, &kernel.state(), &BTreeMap::new(), &local);
    kernel.apply_all(&plan(&wish, &kernel.state()));
    assert_eq!(kernel.state().addresses[0].address, local_address());
    assert_eq!(kernel.state().routes[0].to, services);
    // A network came: the address stays (the cluster uses it), the route goes.
    let moved = Local {
        address: Some(local_address()),
        routes: vec![],
    };
    let wish = desired(&alone, &kernel.state(), &BTreeMap::new(), &moved);
    kernel.apply_all(&plan(&wish, &kernel.state()));
    assert_eq!(kernel.state().addresses.len(), 1);
    assert_eq!(kernel.state().routes, Vec::<Route>::new());
}

fn any_address() -> impl Strategy<Value = LinkAddress> {
    // Few values, so that runs meet the same ones again.
    (0u8..3, 0u8..3, 8u8..=32)
        .prop_map(|(b, d, prefix)| LinkAddress::new(IpAddr::from([10, b, 0, d]), prefix).unwrap())
}

fn any_interface() -> impl Strategy<Value = Interface> {
    let routes = proptest::collection::vec((any_address(), any::<[u8; 4]>()), 0..3);
    (
        any::<bool>(),
        proptest::collection::vec(any_address(), 0..3),
        routes,
        proptest::option::of(1280u32..9000),
    )
        .prop_map(|(dhcp4, addresses, routes, mtu)| Interface {
            name: "eth0".to_owned(),
            dhcp4,
            addresses,
            routes: routes
                .into_iter()
                .map(|(to, via)| StaticRoute {
                    to: to.network(),
                    via: via.into(),
                })
                .collect(),
            mtu,
        })
}

fn any_lease() -> impl Strategy<Value = LeaseState> {
    prop_oneof![
        Just(LeaseState::Unknown),
        Just(LeaseState::Lost),
        (any_address(), any::<[u8; 4]>(), 10u64..100_000).prop_map(|(address, router, seconds)| {
            held(lease(&address.to_string(), router), seconds)
        }),
    ]
}

proptest! {
    /// Whatever is wanted, one after the other, the kernel gets there and stays there.
    #[test]
    fn carrying_out_a_plan_leaves_nothing_to_do(
        steps in proptest::collection::vec((any_interface(), any_lease(), any::<bool>()), 1..6)
    ) {
        let kernel = FakeKernel::new(vec![loopback(), card(2, "eth0"), card(3, "eth1")]);
        for (interface, state, alone) in steps {
            let wanted = settings(Interfaces::Named(vec![interface]));
            let leases = BTreeMap::from([(2, state)]);
            let local = if alone {
                Local { address: Some(local_address()), routes: wanted.service_networks.clone() }
            } else {
                Local::default()
            };
            let wish = || desired(&wanted, &kernel.state(), &leases, &local);
            kernel.apply_all(&plan(&wish(), &kernel.state()));
            prop_assert_eq!(plan(&wish(), &kernel.state()), vec![]);
            // eth1 was not named: untouched.
            prop_assert!(!kernel.state().links[2].up);
        }
    }
}
