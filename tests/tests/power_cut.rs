//! The power fails during the first boot, at ten different moments; the node still comes up.

use std::time::Duration;

use keelson_control::ServiceState;
use keelson_qemu::{Durability, Observed};
use keelson_tests::{Boot, Node, READY};

/// From power on to the datastore.
const DATASTORE: Duration = Duration::from_secs(120);

/// When the power fails.
#[derive(Debug)]
enum Moment {
    /// The guest wrote this to its serial port.
    Serial(&'static str),
    /// PID 1 says that a condition holds.
    Condition(&'static str),
    /// PID 1 says that a service is ready.
    Ready(&'static str),
}

/// In the order of a first boot: table and file systems are made, then identity, configuration
/// and keys, then the datastore, images and cluster objects.
const MOMENTS: [Moment; 10] = [
    Moment::Serial("SHA-256 good"),
    Moment::Serial("DATA is added"),
    Moment::Serial("making the file system of STATE"),
    Moment::Serial("making the file system of DATA"),
    Moment::Serial(" s  storage"),
    Moment::Condition("config"),
    Moment::Condition("pki"),
    Moment::Ready("containerd"),
    Moment::Ready("kube-apiserver"),
    Moment::Condition("node-ready"),
];

/// After which cuts the node is followed until it is Ready; after the others until its datastore
/// serves, which shows that disk, configuration and keys are whole.
const FOLLOWED: [usize; 3] = [3, 6, 8];

#[test]
fn a_first_boot_survives_power_cuts_at_ten_moments() {
    for (index, moment) in MOMENTS.iter().enumerate() {
        cut(index, moment);
    }
}

fn cut(index: usize, moment: &Moment) {
    println!("power cut {index}: {moment:?}");
    let boot = Boot {
        durability: Durability::Flushed,
        ..Boot::default()
    };
    Node::with_created(&format!("power-cut-{index}"), &boot, |node| {
        node.start(&boot)?;
        let vm = node.take_vm()?;
        vm.wait(&format!("{moment:?}"), READY, |seen| {
            moment.has_come(seen).then_some(())
        })?;
        vm.power_cut()?;
        node.start(&boot)?;
        if FOLLOWED.contains(&index) {
            let cluster = node.ready()?;
            let nodes = cluster.run(&["get", "nodes", "--no-headers"])?;
            assert_eq!(nodes.lines().count(), 1, "{nodes}");
        } else {
            node.vm()?
                .wait("a datastore that serves", DATASTORE, |seen| {
                    Moment::Ready("etcd").has_come(seen).then_some(())
                })?;
        }
        Ok(())
    });
}

impl Moment {
    fn has_come(&self, seen: Observed<'_>) -> bool {
        let state = |name| seen.service(name).map(|status| status.state);
        match self {
            Self::Serial(text) => seen.serial_line(text).is_some(),
            Self::Condition(name) => seen.condition(name),
            Self::Ready(name) => state(name) == Some(ServiceState::Ready),
        }
    }
}
