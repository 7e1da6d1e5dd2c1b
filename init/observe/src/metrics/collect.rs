//! Which numbers there are, and their names.

mod machine;

use keelson_api::state_word;
use keelson_api::v1alpha1::{
    Certificate, CgroupUsage, Link, MemoryResponse, Mount, Phase, ServiceState, ServiceSummary,
};

use super::text::{Family, Sample, Value};
use crate::disks::DiskActivity;
use crate::pressure::Pressure;
use crate::timestamp::unix_seconds;

/// What the node is doing; what is not known is left empty.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// Version of Keelson.
    pub version: String,
    /// Digest over everything in the image.
    pub build_id: String,
    /// Since the kernel started.
    pub uptime_ms: u64,
    /// All services.
    pub services: Vec<ServiceSummary>,
    /// What the cgroup of each service uses, by the service's name.
    pub cgroups: Vec<(String, CgroupUsage)>,
    /// What the machine waited for.
    pub pressure: Pressure,
    /// Memory of the machine.
    pub memory: Option<MemoryResponse>,
    /// Disks.
    pub disks: Vec<DiskActivity>,
    /// All mounts; those of disks are taken.
    pub mounts: Vec<Mount>,
    /// All links; those of pods are left out.
    pub links: Vec<Link>,
    /// Certificates.
    pub certificates: Vec<Certificate>,
    /// Phases of the boot.
    pub phases: Vec<Phase>,
}

/// States a service can be in.
const STATES: [ServiceState; 9] = [
    ServiceState::Backoff,
    ServiceState::CrashLoop,
    ServiceState::Disabled,
    ServiceState::Exited,
    ServiceState::Ready,
    ServiceState::Starting,
    ServiceState::Stopped,
    ServiceState::Stopping,
    ServiceState::Waiting,
];

/// All families. Units are seconds, bytes and ratios from 0 to 1.
#[must_use]
pub fn collect(snapshot: &Snapshot) -> Vec<Family> {
    let mut families = node(snapshot);
    families.extend(services(&snapshot.services));
    families.extend(cgroups(&snapshot.cgroups));
    families.extend(machine::pressure(&snapshot.pressure));
    families.extend(snapshot.memory.iter().flat_map(machine::memory));
    families.extend(machine::disks(&snapshot.disks));
    families.extend(machine::file_systems(&snapshot.mounts));
    families.extend(machine::links(&snapshot.links));
    families.push(certificates(&snapshot.certificates));
    families
}

fn node(snapshot: &Snapshot) -> Vec<Family> {
    let build = vec![
        ("version", snapshot.version.clone()),
        ("build_id", snapshot.build_id.clone()),
    ];
    vec![
        Family::gauge(
            "keelson_build_info",
            "What the node runs; always 1.",
            [Sample::new(build, Value::Count(1))],
        ),
        Family::gauge(
            "keelson_uptime_seconds",
            "Time since the kernel started.",
            [Sample::new(vec![], Value::Millis(snapshot.uptime_ms))],
        ),
        Family::gauge(
            "keelson_boot_phase_seconds",
            "When a phase of the boot was reached, since the kernel started.",
            snapshot.phases.iter().map(|phase| {
                Sample::new(
                    vec![("phase", phase.name.clone())],
                    Value::Millis(phase.at_ms),
                )
            }),
        ),
    ]
}

fn services(services: &[ServiceSummary]) -> Vec<Family> {
    let states = services.iter().flat_map(|service| {
        STATES.iter().map(|state| {
            let labels = vec![
                ("service", service.name.clone()),
                ("state", state_word(*state).to_owned()),
            ];
            Sample::new(labels, Value::Count(u64::from(service.state() == *state)))
        })
    });
    let restarts = services.iter().map(|service| {
        Sample::new(
            vec![("service", service.name.clone())],
            Value::Count(u64::from(service.restarts)),
        )
    });
    vec![
        Family::gauge(
            "keelson_service_state",
            "1 for the state a service is in, 0 for all others.",
            states,
        ),
        Family::counter(
            "keelson_service_restarts_total",
            "Starts of a service after the first one.",
            restarts,
        ),
    ]
}

fn cgroups(cgroups: &[(String, CgroupUsage)]) -> Vec<Family> {
    let each = |value: fn(&CgroupUsage) -> Value| {
        cgroups
            .iter()
            .map(move |(service, usage)| {
                Sample::new(vec![("service", service.clone())], value(usage))
            })
            .collect::<Vec<_>>()
    };
    let pressure = cgroups.iter().flat_map(|(service, usage)| {
        [
            ("cpu", usage.cpu_pressure),
            ("io", usage.io_pressure),
            ("memory", usage.memory_pressure),
        ]
        .map(|(resource, percent)| {
            let labels = vec![
                ("service", service.clone()),
                ("resource", resource.to_owned()),
            ];
            Sample::new(labels, ratio(percent))
        })
    });
    vec![
        Family::gauge(
            "keelson_cgroup_memory_bytes",
            "Memory charged to a service.",
            each(|usage| Value::Count(usage.memory_bytes)),
        ),
        Family::gauge(
            "keelson_cgroup_memory_peak_bytes",
            "Most memory charged to a service since its cgroup was made.",
            each(|usage| Value::Count(usage.memory_peak_bytes)),
        ),
        Family::counter(
            "keelson_cgroup_memory_high_events_total",
            "Times a service was slowed down for using more than memory.high.",
            each(|usage| Value::Count(usage.memory_high_events)),
        ),
        Family::counter(
            "keelson_cgroup_memory_max_events_total",
            "Times a service was about to use more than memory.max.",
            each(|usage| Value::Count(usage.memory_max_events)),
        ),
        Family::counter(
            "keelson_cgroup_oom_kills_total",
            "Processes of a service killed for lack of memory.",
            each(|usage| Value::Count(usage.oom_kills)),
        ),
        Family::counter(
            "keelson_cgroup_cpu_seconds_total",
            "Processor time of a service.",
            each(|usage| Value::Micros(usage.cpu_us)),
        ),
        Family::gauge(
            "keelson_cgroup_processes",
            "Processes and threads of a service.",
            each(|usage| Value::Count(usage.processes)),
        ),
        Family::gauge(
            "keelson_cgroup_pressure_ratio",
            "Share of the last 10 s in which some process of a service waited.",
            pressure,
        ),
    ]
}

fn certificates(certificates: &[Certificate]) -> Family {
    Family::gauge(
        "keelson_certificate_not_after_seconds",
        "When a certificate expires, in seconds since 1970.",
        certificates.iter().filter_map(|certificate| {
            let labels = vec![
                ("name", certificate.name.clone()),
                ("kind", certificate.kind.clone()),
            ];
            let expiry = unix_seconds(&certificate.not_after)?;
            Some(Sample::new(labels, Value::Timestamp(expiry)))
        }),
    )
}

fn ratio(percent: f64) -> Value {
    Value::Float(percent / 100.0)
}
