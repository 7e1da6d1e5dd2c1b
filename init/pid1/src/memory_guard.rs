//! What dies when memory is short: pods, before the machine stands still.
//!
//! Kubelet evicts pods when little memory is left, but it looks every ten seconds and asks
//! nicely. The kernel kills when nothing can be reclaimed, which a machine that reads its own
//! programs from the disk again and again may never admit. In between stands this: when all
//! tasks wait for memory for a good part of the time, one pod ends, the least protected first.
//! The node's own services are never chosen; their order is `oom_score_adj`, for the kernel.

use std::cmp::Reverse;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::pressure::Pressure;

/// The kernel's notice: all tasks waited for memory for 0.3 s within 2 s.
pub(crate) const TRIGGER: &str = "full 300000 2000000";

/// Time for a kill to show: processes end, pages become free, the average falls.
pub(crate) const PAUSE: Duration = Duration::from_secs(10);

/// Share of the last ten seconds in which all tasks waited. Two seconds of full stall reach it.
const FULL: f64 = 15.0;

/// A pod that is thrashing at its own limit stalls too, on a machine with plenty of memory: that
/// is its own affair. Memory is short below a twentieth of all of it, and below this much.
/// Kubelet's eviction (50 MiB by its stricter count) comes first.
const SHORT_BYTES: u64 = 64 << 20;
const SHORT_PART: u64 = 20;

/// A pod of which little more than its sandbox is left frees nothing.
const SMALLEST_BYTES: u64 = 4 << 20;

/// What the machine has, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Memory {
    pub(crate) total: u64,
    /// Without making tasks wait.
    pub(crate) available: u64,
}

/// What was promised to a pod, the least first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Class {
    /// Nothing.
    BestEffort,
    /// A part.
    Burstable,
    /// All it may use.
    Guaranteed,
}

/// A pod's cgroup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pod {
    pub(crate) group: PathBuf,
    pub(crate) class: Class,
    pub(crate) bytes: u64,
    /// Kept for it by the kernel.
    pub(crate) protected: u64,
}

/// Whether memory is so short that a pod must end.
pub(crate) fn is_short(pressure: Pressure, memory: Memory) -> bool {
    let short = SHORT_BYTES.max(memory.total / SHORT_PART);
    pressure.full >= FULL && memory.available < short
}

/// The pod to end: of the class with the weakest promise the one that uses most beyond what is
/// kept for it.
pub(crate) fn choose(pods: &[Pod]) -> Option<&Pod> {
    pods.iter()
        .filter(|pod| pod.bytes >= SMALLEST_BYTES)
        .min_by_key(|pod| {
            let excess = pod.bytes.saturating_sub(pod.protected);
            (pod.class, Reverse(excess), &pod.group)
        })
}

/// The pods below kubelet's cgroup. Those that go away meanwhile are left out.
pub(crate) fn pods(kubepods: &Path) -> Vec<Pod> {
    let classes = [
        (Class::BestEffort, kubepods.join("besteffort")),
        (Class::Burstable, kubepods.join("burstable")),
        (Class::Guaranteed, kubepods.to_owned()),
    ];
    let mut pods = Vec::new();
    for (class, folder) in classes {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let group = entry.path();
            if !entry.file_name().as_encoded_bytes().starts_with(b"pod") {
                continue;
            }
            let Some(bytes) = number(&group.join("memory.current")) else {
                continue;
            };
            let protected = ["memory.min", "memory.low"].map(|file| number(&group.join(file)));
            pods.push(Pod {
                group,
                class,
                bytes,
                protected: protected.into_iter().flatten().max().unwrap_or(0),
            });
        }
    }
    pods
}

/// Reads `/proc/meminfo`.
pub(crate) fn memory() -> io::Result<Memory> {
    let text = fs::read_to_string("/proc/meminfo")?;
    parse_memory(&text).ok_or_else(|| io::Error::other("/proc/meminfo lacks a line"))
}

fn parse_memory(text: &str) -> Option<Memory> {
    let bytes = |key: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(key))?;
        let kib: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
        kib.checked_mul(1024)
    };
    Some(Memory {
        total: bytes("MemTotal:")?,
        available: bytes("MemAvailable:")?,
    })
}

fn number(path: &Path) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn pod(name: &str, class: Class, mib: u64, protected_mib: u64) -> Pod {
        Pod {
            group: name.into(),
            class,
            bytes: mib * MIB,
            protected: protected_mib * MIB,
        }
    }

    fn chosen(pods: &[Pod]) -> &str {
        choose(pods).map_or("", |pod| pod.group.to_str().unwrap())
    }

    #[test]
    fn the_weakest_promise_dies_first_and_the_greediest_of_its_kind() {
        let mut pods = vec![
            pod("guaranteed", Class::Guaranteed, 900, 0),
            pod("burst-small", Class::Burstable, 40, 0),
            pod("burst-big", Class::Burstable, 300, 0),
            // Uses more, but most of it was promised.
            pod("burst-promised", Class::Burstable, 500, 450),
            pod("best-small", Class::BestEffort, 10, 0),
            pod("best-big", Class::BestEffort, 20, 0),
            pod("best-empty", Class::BestEffort, 1, 0),
        ];
        let mut order = Vec::new();
        while let Some(pod) = choose(&pods).cloned() {
            pods.retain(|other| *other != pod);
            order.push(pod.group.to_str().unwrap().to_owned());
        }
        assert_eq!(
            order,
            [
                "best-big",
                "best-small",
                "burst-big",
                "burst-promised",
                "burst-small",
                "guaranteed"
            ]
        );
        assert_eq!(chosen(&pods), "", "a sandbox alone is not worth a kill");
    }

    #[test]
    fn only_a_machine_without_memory_is_short() {
        let pressure = |full| Pressure { some: full, full };
        let memory = |total, available| Memory {
            total: total * MIB,
            available: available * MIB,
        };
        assert!(is_short(pressure(16.0), memory(1024, 60)));
        assert!(is_short(pressure(16.0), memory(8192, 400)));
        // One pod stalls at its own limit.
        assert!(!is_short(pressure(90.0), memory(1024, 500)));
        // Memory is full, and nobody waits.
        assert!(!is_short(pressure(3.0), memory(1024, 20)));
    }

    #[test]
    fn pods_are_found_by_class() {
        let dir = tempfile::tempdir().unwrap();
        for (group, current, min) in [
            ("besteffort/pod1", "5", "0"),
            ("burstable/pod2", "6", "4"),
            ("pod3", "7", "0"),
            ("pod4-going", "", ""),
        ] {
            let group = dir.path().join(group);
            fs::create_dir_all(&group).unwrap();
            if !current.is_empty() {
                fs::write(group.join("memory.current"), format!("{current}\n")).unwrap();
                fs::write(group.join("memory.min"), format!("{min}\n")).unwrap();
            }
        }
        let mut found: Vec<(Class, u64, u64)> = pods(dir.path())
            .iter()
            .map(|pod| (pod.class, pod.bytes, pod.protected))
            .collect();
        found.sort_unstable();
        assert_eq!(
            found,
            [
                (Class::BestEffort, 5, 0),
                (Class::Burstable, 6, 4),
                (Class::Guaranteed, 7, 0)
            ]
        );
        assert_eq!(pods(&dir.path().join("none")), []);
    }

    #[test]
    fn memory_is_read_in_bytes() {
        let text = "MemTotal:        1014000 kB\nMemFree:  1 kB\nMemAvailable:      51200 kB\n";
        let expected = Memory {
            total: 1_014_000 * 1024,
            available: 50 * MIB,
        };
        assert_eq!(parse_memory(text), Some(expected));
        assert_eq!(parse_memory("MemTotal: 5 kB\n"), None);
    }

    proptest::proptest! {
        #[test]
        fn nobody_dies_before_a_weaker_promise(
            pods in proptest::collection::vec((0_usize..3, 0_u64..100, 0_u64..100), 0..20),
        ) {
            let classes = [Class::BestEffort, Class::Burstable, Class::Guaranteed];
            let pods: Vec<Pod> = pods
                .into_iter()
                .map(|(class, mib, protected)| pod("p", classes[class], mib, protected))
                .collect();
            let large = || pods.iter().filter(|pod| pod.bytes >= SMALLEST_BYTES);
            match choose(&pods) {
                None => proptest::prop_assert_eq!(large().count(), 0),
                Some(chosen) => {
                    proptest::prop_assert!(large().all(|pod| pod.class >= chosen.class));
                }
            }
        }

        #[test]
        fn any_text_is_handled(text: String) {
            let _ = parse_memory(&text);
        }
    }
}
