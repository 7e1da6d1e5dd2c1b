//! What is written is read back by a strict parser that shares nothing with the writer.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use keelson_api::v1alpha1::{
    Certificate, CgroupUsage, Link, MemoryResponse, Mount, Phase, ServiceState, ServiceSummary,
};
use proptest::prelude::*;

use super::*;
use crate::disks::DiskActivity;
use crate::pressure::{Pressure, Share, Stall};

/// Name and labels in the order they stand.
type Key = (String, Vec<(String, String)>);

#[derive(Debug, Default)]
struct Parsed {
    types: BTreeMap<String, String>,
    helps: BTreeMap<String, String>,
    samples: BTreeMap<Key, f64>,
}

/// As strict as Prometheus: each family in one piece, help and type first, nothing twice.
fn parse(text: &str) -> Parsed {
    let mut parsed = Parsed::default();
    let mut family = String::new();
    assert!(text.is_empty() || text.ends_with('\n'));
    for line in text.split_terminator('\n') {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').unwrap();
            family = name.to_owned();
            let help = unescape(help, false);
            assert!(
                parsed.helps.insert(name.to_owned(), help).is_none(),
                "{line}"
            );
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            assert_eq!(name, family, "{line}");
            assert!(["counter", "gauge"].contains(&kind), "{line}");
            assert!(
                parsed
                    .types
                    .insert(name.to_owned(), kind.to_owned())
                    .is_none()
            );
        } else {
            let (key, value) = sample(line);
            assert_eq!(key.0, family, "{line}");
            assert!(parsed.types.contains_key(&family), "{line}");
            assert!(parsed.samples.insert(key, value).is_none(), "twice: {line}");
        }
    }
    parsed
}

fn sample(line: &str) -> (Key, f64) {
    let end = line.find(['{', ' ']).unwrap();
    let (name, mut rest) = line.split_at(end);
    assert!(is_name(name), "{line}");
    let mut labels = Vec::new();
    if let Some(inside) = rest.strip_prefix('{') {
        rest = inside;
        loop {
            let (label, after) = rest.split_once("=\"").unwrap();
            assert!(is_name(label) && !label.contains(':'), "{line}");
            let mut escaped = false;
            let close = after
                .find(|c| {
                    let ends = c == '"' && !escaped;
                    escaped = c == '\\' && !escaped;
                    ends
                })
                .unwrap();
            labels.push((label.to_owned(), unescape(&after[..close], true)));
            rest = &after[close + 1..];
            match rest.strip_prefix(',') {
                Some(next) => rest = next,
                None => break,
            }
        }
        rest = rest.strip_prefix('}').unwrap();
    }
    let names: BTreeSet<_> = labels.iter().map(|(name, _)| name).collect();
    assert_eq!(names.len(), labels.len(), "{line}");
    let value = rest.strip_prefix(' ').unwrap();
    assert!(!value.contains(' '), "{line}");
    ((name.to_owned(), labels), value.parse().unwrap())
}

fn is_name(name: &str) -> bool {
    let first = name.chars().next().unwrap();
    (first.is_ascii_alphabetic() || "_:".contains(first))
        && name
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "_:".contains(c))
}

fn unescape(text: &str, quoted: bool) -> String {
    let mut out = String::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next().unwrap() {
                'n' => out.push('\n'),
                '\\' => out.push('\\'),
                '"' if quoted => out.push('"'),
                other => panic!("\\{other} is no escape"),
            },
            '"' if quoted => panic!("a quote that is not escaped"),
            c => out.push(c),
        }
    }
    out
}

fn snapshot() -> Snapshot {
    let stall = |percent, micros| Stall {
        some: Share {
            percent,
            total: Duration::from_micros(micros),
        },
        full: Share::default(),
    };
    let mount = |target: &str, file_system: &str, size_bytes| Mount {
        target: target.to_owned(),
        source: "/dev/vda9".to_owned(),
        file_system: file_system.to_owned(),
        options: String::new(),
        size_bytes,
        used_bytes: 1,
        available_bytes: 2,
    };
    Snapshot {
        version: "1.0".to_owned(),
        build_id: "abc\"\\\n".to_owned(),
        uptime_ms: 61_005,
        services: vec![ServiceSummary {
            name: "etcd".to_owned(),
            state: ServiceState::CrashLoop.into(),
            restarts: 7,
            ..ServiceSummary::default()
        }],
        cgroups: vec![(
            "etcd".to_owned(),
            CgroupUsage {
                memory_bytes: u64::MAX,
                cpu_us: 1_000_001,
                memory_pressure: 12.5,
                ..CgroupUsage::default()
            },
        )],
        pressure: Pressure {
            memory: stall(50.0, 2_500_000),
            ..Pressure::default()
        },
        memory: Some(MemoryResponse {
            total_bytes: 1 << 30,
            ..MemoryResponse::default()
        }),
        disks: vec![DiskActivity {
            name: "vda".to_owned(),
            read_bytes: 512,
            written_bytes: 1024,
            busy_ms: 1500,
        }],
        mounts: vec![
            mount("/var", "ext4", 100),
            // The same once more, as when something is mounted over it.
            mount("/var", "ext4", 100),
            mount("/var/lib/kubelet/pods/x", "ext4", 100),
            mount("/run", "tmpfs", 100),
            mount("/empty", "ext4", 0),
        ],
        links: vec![
            Link {
                name: "eth0".to_owned(),
                kind: "ether".to_owned(),
                state: "up".to_owned(),
                received_bytes: 11,
                sent_bytes: 12,
                ..Link::default()
            },
            Link {
                name: "veth1".to_owned(),
                kind: "veth".to_owned(),
                ..Link::default()
            },
        ],
        certificates: vec![Certificate {
            name: "api/admin".to_owned(),
            kind: "person".to_owned(),
            not_after: "2027-01-01T00:00:00.000Z".to_owned(),
            ..Certificate::default()
        }],
        phases: vec![Phase {
            name: "node-ready".to_owned(),
            at_ms: 24_120,
        }],
    }
}

#[test]
fn every_number_is_where_it_belongs() {
    let parsed = parse(&render(&collect(&snapshot())).unwrap());
    let value = |name: &str, labels: &[(&str, &str)]| {
        let labels = labels
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        let key = (name.to_owned(), labels);
        *parsed
            .samples
            .get(&key)
            .unwrap_or_else(|| panic!("no {key:?}"))
    };
    let var = [
        ("mountpoint", "/var"),
        ("device", "/dev/vda9"),
        ("fstype", "ext4"),
    ];
    let some_memory = [("resource", "memory"), ("share", "some")];
    let etcd = [("service", "etcd")];
    let eth0 = [("interface", "eth0")];
    let admin = [("name", "api/admin"), ("kind", "person")];
    let state = |state| [("service", "etcd"), ("state", state)];
    for (name, labels, expected) in [
        ("keelson_uptime_seconds", &[][..], 61.005),
        (
            "keelson_build_info",
            &[("version", "1.0"), ("build_id", "abc\"\\\n")],
            1.0,
        ),
        (
            "keelson_boot_phase_seconds",
            &[("phase", "node-ready")],
            24.12,
        ),
        ("keelson_service_state", &state("crash-loop"), 1.0),
        ("keelson_service_state", &state("ready"), 0.0),
        ("keelson_service_restarts_total", &etcd, 7.0),
        (
            "keelson_cgroup_memory_bytes",
            &etcd,
            18_446_744_073_709_551_615.0,
        ),
        ("keelson_cgroup_cpu_seconds_total", &etcd, 1.000_001),
        (
            "keelson_cgroup_pressure_ratio",
            &[("service", "etcd"), ("resource", "memory")],
            0.125,
        ),
        ("keelson_pressure_ratio", &some_memory, 0.5),
        ("keelson_pressure_seconds_total", &some_memory, 2.5),
        ("keelson_memory_total_bytes", &[], 1_073_741_824.0),
        ("keelson_disk_read_bytes_total", &[("device", "vda")], 512.0),
        ("keelson_disk_busy_seconds_total", &[("device", "vda")], 1.5),
        ("keelson_filesystem_size_bytes", &var, 100.0),
        ("keelson_filesystem_available_bytes", &var, 2.0),
        ("keelson_network_up", &eth0, 1.0),
        ("keelson_network_receive_bytes_total", &eth0, 11.0),
        ("keelson_network_transmit_bytes_total", &eth0, 12.0),
        (
            "keelson_certificate_not_after_seconds",
            &admin,
            1_798_761_600.0,
        ),
    ] {
        let found = value(name, labels);
        assert!(
            (found - expected).abs() < 1e-9,
            "{name}{labels:?} is {found}"
        );
    }
    let mounts = parsed
        .samples
        .keys()
        .filter(|(name, _)| name == "keelson_filesystem_size_bytes")
        .count();
    assert_eq!(mounts, 1, "only disks of the node, each once");
    assert!(
        !parsed
            .samples
            .keys()
            .any(|(_, labels)| labels.iter().any(|(_, value)| value == "veth1"))
    );
    let of_state = parsed
        .samples
        .iter()
        .filter(|((name, _), _)| name == "keelson_service_state");
    assert_eq!(of_state.clone().count(), 9);
    assert!((of_state.map(|(_, value)| value).sum::<f64>() - 1.0).abs() < 1e-9);
}

/// <https://prometheus.io/docs/practices/naming/>
#[test]
fn names_follow_the_rules_of_prometheus() {
    let families = collect(&snapshot());
    let mut names = BTreeSet::new();
    for family in &families {
        assert!(family.name.starts_with("keelson_"), "{}", family.name);
        assert!(names.insert(family.name), "{} comes twice", family.name);
        let counts = family.name.ends_with("_total");
        assert_eq!(counts, family.kind == Kind::Counter, "{}", family.name);
        for unit in ["ms", "us", "kib", "kb", "percent", "milliseconds"] {
            assert!(
                !family.name.split('_').any(|word| word == unit),
                "{}",
                family.name
            );
        }
        assert!(family.help.ends_with('.'), "{}", family.help);
    }
}

#[test]
fn a_node_that_knows_nothing_yet_still_answers() {
    let parsed = parse(&render(&collect(&Snapshot::default())).unwrap());
    assert!(!parsed.types.contains_key("keelson_service_state"));
    assert!(parsed.types.contains_key("keelson_uptime_seconds"));
}

#[test]
fn names_are_checked() {
    let family = |name, label| Family {
        name,
        help: "Help.",
        kind: Kind::Gauge,
        samples: vec![Sample {
            labels: vec![(label, String::new())],
            value: Value::Count(1),
        }],
    };
    assert!(render(&[family("a:b_C9", "a_9")]).is_ok());
    for (name, label) in [
        ("", "a"),
        ("9a", "a"),
        ("a-b", "a"),
        ("ä", "a"),
        ("a", "a:b"),
        ("a", "__a"),
        ("a", ""),
        ("a b", "a"),
    ] {
        assert!(render(&[family(name, label)]).is_err(), "{name} {label}");
    }
}

#[test]
fn numbers_have_their_form() {
    for (value, expected) in [
        (Value::Count(u64::MAX), "18446744073709551615"),
        (Value::Float(0.015), "0.015"),
        (Value::Float(f64::NAN), "NaN"),
        (Value::Float(f64::INFINITY), "+Inf"),
        (Value::Float(f64::NEG_INFINITY), "-Inf"),
        (Value::Micros(1), "0.000001"),
        (Value::Millis(60_001), "60.001"),
        (Value::Timestamp(-5), "-5"),
    ] {
        assert_eq!(value.to_string(), expected);
    }
}

proptest! {
    #[test]
    fn any_text_survives(help: String, label: String, other: String, number: f64) {
        let sample = |text: &str| Sample {
            labels: vec![("name", text.to_owned())],
            value: Value::Float(number),
        };
        let family = Family {
            name: "a_total",
            help: Box::leak(help.clone().into_boxed_str()),
            kind: Kind::Counter,
            samples: vec![sample(&label), sample(&other), sample(&label)],
        };
        let parsed = parse(&render(&[family]).unwrap());
        prop_assert_eq!(&parsed.helps["a_total"], &help);
        for text in [label, other] {
            let key = ("a_total".to_owned(), vec![("name".to_owned(), text)]);
            let found = parsed.samples[&key];
            prop_assert!(found.to_bits() == number.to_bits() || found.is_nan() && number.is_nan());
        }
    }
}
