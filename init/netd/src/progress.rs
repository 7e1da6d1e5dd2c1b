//! When the boot may go on, with which address, and what a person at the console is told.

use std::net::Ipv4Addr;
use std::time::Duration;

use keelson_control::Level;

use crate::desired::LOCAL_ADDRESS;

/// How long a boot waits for an address: DHCP servers answer within a few seconds, switches with
/// spanning tree let packets through only after 30.
pub(crate) const ADDRESS_DEADLINE: Duration = Duration::from_secs(30);

/// What netd knows about the node's address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// None yet; the boot waits.
    Waiting,
    /// None came in time: the node gets one of its own, which is not there yet.
    GoingAlone,
    /// The boot went on with this address; it stays the node's until the next boot.
    Settled { node_ip: Ipv4Addr },
}

/// What PID 1 is to be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Report {
    /// The node's address is known: raise `network`.
    Network { node_ip: Ipv4Addr },
    /// A line on the console.
    Message { level: Level, text: String },
}

/// One managed link, for the explanation why there is no address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Situation {
    pub(crate) link: String,
    pub(crate) what: Obstacle,
}

/// Why a link brings no address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Obstacle {
    NoAnswer,
    NoCarrier,
    NothingConfigured,
    Trouble(String),
}

/// Follows the node's address from the start of netd on.
#[derive(Debug)]
pub(crate) struct Progress {
    stage: Stage,
    deadline: Duration,
    /// The address on the uplink that the console was last told.
    told: Option<Ipv4Addr>,
}

impl Progress {
    /// `node_ip` is what an earlier run of netd told PID 1 since the boot.
    pub(crate) fn new(node_ip: Option<Ipv4Addr>, deadline: Duration) -> Self {
        match node_ip {
            Some(node_ip) => Self {
                stage: Stage::Settled { node_ip },
                deadline,
                told: from_network(node_ip),
            },
            None => Self {
                stage: Stage::Waiting,
                deadline,
                told: None,
            },
        }
    }

    /// How long after netd's start the node goes on without a network.
    pub(crate) fn deadline(&self) -> Duration {
        self.deadline
    }

    pub(crate) fn stage(&self) -> Stage {
        self.stage
    }

    /// Whether the node needs the address that never leaves it.
    pub(crate) fn needs_local_address(&self) -> bool {
        match self.stage {
            Stage::Waiting => false,
            Stage::GoingAlone => true,
            Stage::Settled { node_ip } => node_ip == LOCAL_ADDRESS,
        }
    }

    /// Takes in one look at the network.
    pub(crate) fn step(
        &mut self,
        uplink: Option<Ipv4Addr>,
        local_address_ready: bool,
        elapsed: Duration,
        situations: &[Situation],
    ) -> Vec<Report> {
        let mut reports = Vec::new();
        match (self.stage, uplink) {
            (Stage::Waiting | Stage::GoingAlone, Some(node_ip)) => {
                self.settle(node_ip, &mut reports)
            }
            (Stage::Waiting, None) if elapsed >= self.deadline => {
                self.stage = Stage::GoingAlone;
                reports.push(Report::Message {
                    level: Level::Error,
                    text: explain(self.deadline, situations),
                });
            }
            (Stage::Waiting, None) => {}
            (Stage::GoingAlone, None) if local_address_ready => {
                self.settle(LOCAL_ADDRESS, &mut reports);
            }
            (Stage::GoingAlone, None) => {}
            (Stage::Settled { node_ip }, now) => reports.extend(self.compare(node_ip, now)),
        }
        reports
    }

    fn settle(&mut self, node_ip: Ipv4Addr, reports: &mut Vec<Report>) {
        self.stage = Stage::Settled { node_ip };
        self.told = from_network(node_ip);
        reports.push(Report::Network { node_ip });
    }

    /// The cluster's certificates and the API server's address are made for one address.
    fn compare(&mut self, node_ip: Ipv4Addr, now: Option<Ipv4Addr>) -> Option<Report> {
        if now == self.told {
            return None;
        }
        self.told = now;
        let (level, text) = match now {
            Some(address) if address == node_ip => (
                Level::Info,
                format!("network: the node has its address {node_ip} again"),
            ),
            Some(address) => (
                Level::Warn,
                format!(
                    "network: this node now has the address {address}; the cluster uses {node_ip} \
                     until the next restart of the node"
                ),
            ),
            None => (
                Level::Warn,
                "network: the node has lost its address; see to the cable or the DHCP server"
                    .to_owned(),
            ),
        };
        Some(Report::Message { level, text })
    }
}

/// The address as the network gave it: the local one did not come from there.
fn from_network(node_ip: Ipv4Addr) -> Option<Ipv4Addr> {
    (node_ip != LOCAL_ADDRESS).then_some(node_ip)
}

/// One line that says what every link lacks.
fn explain(deadline: Duration, situations: &[Situation]) -> String {
    let seconds = deadline.as_secs();
    let mut why: Vec<String> = situations
        .iter()
        .map(|situation| {
            let link = &situation.link;
            match &situation.what {
                Obstacle::NoAnswer => format!("{link}: no DHCP server answered"),
                Obstacle::NoCarrier => format!("{link}: no carrier, is the cable in?"),
                Obstacle::NothingConfigured => {
                    format!("{link}: neither dhcp4 nor an address is configured")
                }
                Obstacle::Trouble(reason) => format!("{link}: {reason}"),
            }
        })
        .collect();
    if why.is_empty() {
        why.push(
            "no network device that the configuration names, or no network card at all".to_owned(),
        );
    }
    format!(
        "network: no address after {seconds} s ({}); this node starts alone with {LOCAL_ADDRESS} \
         and uses a network from its next restart on",
        why.join("; ")
    )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LAN: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 15);
    const OTHER: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 99);

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn an_address_lets_the_boot_go_on_once() {
        let mut progress = Progress::new(None, ADDRESS_DEADLINE);
        assert_eq!(progress.step(None, false, at(1), &[]), []);
        assert_eq!(
            progress.step(Some(LAN), false, at(2), &[]),
            [Report::Network { node_ip: LAN }]
        );
        assert_eq!(progress.step(Some(LAN), false, at(3), &[]), []);
    }

    #[test]
    fn without_an_address_the_node_goes_alone_and_says_why() {
        let mut progress = Progress::new(None, ADDRESS_DEADLINE);
        let eth0 = Situation {
            link: "eth0".to_owned(),
            what: Obstacle::NoCarrier,
        };
        let eth1 = Situation {
            link: "eth1".to_owned(),
            what: Obstacle::NoAnswer,
        };
        let reports = progress.step(None, false, at(30), &[eth0, eth1]);
        let [
            Report::Message {
                level: Level::Error,
                text,
            },
        ] = &reports[..]
        else {
            panic!("{reports:?}")
        };
        assert!(
            text.contains("eth0: no carrier") && text.contains("eth1: no DHCP server answered"),
            "{text}"
        );
        assert!(progress.needs_local_address());
        assert_eq!(progress.step(None, false, at(31), &[]), []);
        assert_eq!(
            progress.step(None, true, at(31), &[]),
            [Report::Network {
                node_ip: LOCAL_ADDRESS
            }]
        );
        assert_eq!(progress.step(None, true, at(32), &[]), []);
        // The cable comes later: said once, used after a restart.
        assert_eq!(progress.step(Some(LAN), true, at(60), &[]).len(), 1);
        assert_eq!(progress.step(Some(LAN), true, at(61), &[]), []);
        assert!(progress.needs_local_address());
    }

    #[test]
    fn no_device_at_all_is_said() {
        let mut progress = Progress::new(None, ADDRESS_DEADLINE);
        let reports = progress.step(None, false, at(30), &[]);
        assert!(
            matches!(&reports[..], [Report::Message { text, .. }] if text.contains("no network card"))
        );
    }

    #[test]
    fn a_changed_and_a_lost_address_are_said_once() {
        let mut progress = Progress::new(Some(LAN), ADDRESS_DEADLINE);
        assert_eq!(progress.step(Some(LAN), false, at(0), &[]), []);
        assert_eq!(progress.step(Some(OTHER), false, at(1), &[]).len(), 1);
        assert_eq!(progress.step(Some(OTHER), false, at(2), &[]), []);
        assert_eq!(progress.step(None, false, at(3), &[]).len(), 1);
        assert_eq!(progress.step(None, false, at(4), &[]), []);
        let back = progress.step(Some(LAN), false, at(5), &[]);
        assert!(
            matches!(
                &back[..],
                [Report::Message {
                    level: Level::Info,
                    ..
                }]
            ),
            "{back:?}"
        );
    }

    proptest! {
        /// `network` is raised at most once, and always once the deadline and the local address came.
        #[test]
        fn the_condition_is_raised_exactly_once(
            looks in proptest::collection::vec((proptest::option::of(1u8..4), any::<bool>()), 0..40)
        ) {
            let mut progress = Progress::new(None, ADDRESS_DEADLINE);
            let mut raised = 0;
            for (second, (address, ready)) in (0u64..).zip(looks) {
                let uplink = address.map(|last| Ipv4Addr::new(10, 0, 0, last));
                for report in progress.step(uplink, ready, at(second), &[]) {
                    raised += usize::from(matches!(report, Report::Network { .. }));
                }
            }
            progress.step(None, false, at(100), &[]);
            prop_assert!(raised <= 1);
            raised += progress.step(None, true, at(101), &[]).iter().filter(|report| matches!(report, Report::Network { .. })).count();
            prop_assert_eq!(raised, 1);
        }
    }
}
