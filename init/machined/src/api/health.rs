//! Whether the node does what it is for: a pure judgement over what is known, with reasons.

use keelson_api::v1alpha1::{Certificate, Check, HealthResponse, MemoryResponse, Mount};
use keelson_control::{ServiceState, Status as Pid1Status};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// What is judged.
#[derive(Debug)]
pub(super) struct Evidence<'a> {
    pub(super) pid1: &'a Pid1Status,
    pub(super) mounts: &'a [Mount],
    pub(super) memory: &'a MemoryResponse,
    pub(super) certificates: &'a [Certificate],
    pub(super) now: OffsetDateTime,
}

/// Conditions of a node that is in order, with what each means.
const CONDITIONS: [(&str, &str); 6] = [
    ("config", "a configuration is in use"),
    ("network", "the network is settled"),
    ("time", "the clock is settled"),
    ("pki", "certificates and keys are in place"),
    ("manifests-applied", "the system's manifests are applied"),
    ("node-ready", "Kubernetes calls the node Ready"),
];

/// Volumes that must have room.
const VOLUMES: [&str; 2] = ["/system/state", "/var"];

/// Share of a volume that must be free. kubelet evicts pods below 10 %.
const FREE_PERCENT: u64 = 5;

/// Share of time in which every process waited for memory. Above it little gets done.
const STALLED_PERCENT: f64 = 20.0;

/// Judges.
pub(super) fn judge(evidence: &Evidence<'_>) -> HealthResponse {
    let mut checks = vec![services(evidence.pid1)];
    checks.extend(
        CONDITIONS
            .iter()
            .map(|(name, meaning)| condition(evidence.pid1, name, meaning)),
    );
    checks.extend(VOLUMES.iter().map(|target| volume(evidence.mounts, target)));
    checks.push(memory(evidence.memory));
    checks.push(certificates(evidence.certificates, evidence.now));
    HealthResponse {
        healthy: checks.iter().all(|check| check.passed),
        checks,
    }
}

fn check(name: &str, passed: bool, reason: String) -> Check {
    Check {
        name: name.to_owned(),
        passed,
        reason,
    }
}

fn services(pid1: &Pid1Status) -> Check {
    let bad: Vec<String> = pid1
        .services
        .iter()
        .filter(|service| !is_well(service.state))
        .map(|service| {
            let why = match (&service.last_exit, service.waiting_for.is_empty()) {
                (_, false) => format!(" (for {})", service.waiting_for.join(", ")),
                (Some(exit), true) => format!(" ({exit})"),
                (None, true) => String::new(),
            };
            let word = keelson_api::state_word(super::services::state(service.state));
            format!("{} is {word}{why}", service.name)
        })
        .collect();
    if bad.is_empty() {
        let count = pid1.services.len();
        check("services", true, format!("all {count} services are well"))
    } else {
        check("services", false, bad.join("; "))
    }
}

/// Whether a service in this state is as it should be.
pub(super) fn is_well(state: ServiceState) -> bool {
    matches!(
        state,
        ServiceState::Ready | ServiceState::Disabled | ServiceState::Exited
    )
}

fn condition(pid1: &Pid1Status, name: &str, meaning: &str) -> Check {
    if pid1.conditions.iter().any(|condition| condition == name) {
        check(name, true, meaning.to_owned())
    } else {
        check(name, false, format!("not so: {meaning}"))
    }
}

fn volume(mounts: &[Mount], target: &str) -> Check {
    let name = format!("space on {target}");
    let Some(mount) = mounts.iter().find(|mount| mount.target == target) else {
        return check(&name, false, "not mounted".to_owned());
    };
    let percent = mount.available_bytes.saturating_mul(100) / mount.size_bytes.max(1);
    let mib = mount.available_bytes >> 20;
    let reason = format!("{mib} MiB ({percent} %) free");
    let writable = !mount.options.split(',').any(|option| option == "ro");
    if writable {
        check(&name, percent >= FREE_PERCENT, reason)
    } else {
        let reason =
            format!("{reason}, but it is read-only: the disk failed, see `keelsonctl dmesg`");
        check(&name, false, reason)
    }
}

fn memory(memory: &MemoryResponse) -> Check {
    let mib = memory.available_bytes >> 20;
    let stalled = memory.pressure_full;
    check(
        "memory",
        stalled < STALLED_PERCENT,
        format!(
            "{mib} MiB available; everything waited for memory {stalled:.1} % of the last 10 s"
        ),
    )
}

fn certificates(certificates: &[Certificate], now: OffsetDateTime) -> Check {
    let expired: Vec<&str> = certificates
        .iter()
        .filter(|certificate| certificate.kind != "person")
        .filter(|certificate| {
            OffsetDateTime::parse(&certificate.not_after, &Rfc3339).is_ok_and(|end| end <= now)
        })
        .map(|certificate| certificate.name.as_str())
        .collect();
    if expired.is_empty() {
        let count = certificates.len();
        check("certificates", true, format!("none of {count} has expired"))
    } else {
        check(
            "certificates",
            false,
            format!("expired: {}", expired.join(", ")),
        )
    }
}

#[cfg(test)]
mod tests {
    use keelson_control::ServiceStatus;

    use super::*;

    fn pid1(state: ServiceState) -> Pid1Status {
        Pid1Status {
            conditions: CONDITIONS
                .iter()
                .map(|(name, _)| (*name).to_owned())
                .collect(),
            services: vec![ServiceStatus {
                name: "etcd".to_owned(),
                state,
                since_ms: 0,
                pid: None,
                next_try_ms: None,
                restarts: 3,
                waiting_for: vec![],
                last_exit: Some("signal 9".to_owned()),
                last_lines: vec![],
            }],
            ..Pid1Status::default()
        }
    }

    fn mounts(options: &str, available: u64) -> Vec<Mount> {
        VOLUMES
            .map(|target| Mount {
                target: target.to_owned(),
                options: options.to_owned(),
                size_bytes: 1000 << 20,
                available_bytes: available << 20,
                ..Mount::default()
            })
            .into()
    }

    fn failed(pid1: &Pid1Status, mounts: &[Mount], full: f64, not_after: &str) -> Vec<String> {
        let response = judge(&Evidence {
            pid1,
            mounts,
            memory: &MemoryResponse {
                pressure_full: full,
                ..MemoryResponse::default()
            },
            certificates: &[Certificate {
                name: "etcd/serving".to_owned(),
                kind: "node".to_owned(),
                not_after: not_after.to_owned(),
                ..Certificate::default()
            }],
            now: OffsetDateTime::from_unix_timestamp(1_800_000_000).unwrap(),
        });
        let failed: Vec<_> = response
            .checks
            .into_iter()
            .filter(|check| !check.passed)
            .map(|check| format!("{}: {}", check.name, check.reason))
            .collect();
        assert_eq!(response.healthy, failed.is_empty());
        failed
    }

    #[test]
    fn each_check_can_fail_alone() {
        const LATER: &str = "2030-01-01T00:00:00.000Z";
        let good = pid1(ServiceState::Ready);
        let room = mounts("rw,relatime", 400);
        assert!(failed(&good, &room, 0.0, LATER).is_empty());
        assert_eq!(
            failed(&pid1(ServiceState::CrashLoop), &room, 0.0, LATER),
            ["services: etcd is crash-loop (signal 9)"]
        );
        assert_eq!(
            failed(&good, &mounts("rw", 49), 0.0, LATER)[1],
            "space on /var: 49 MiB (4 %) free"
        );
        assert_eq!(
            failed(&good, &mounts("ro,relatime", 400), 0.0, LATER).len(),
            2
        );
        assert_eq!(failed(&good, &[], 0.0, LATER).len(), 2);
        assert!(failed(&good, &room, 35.0, LATER)[0].starts_with("memory: "));
        assert_eq!(
            failed(&good, &room, 0.0, "2026-01-01T00:00:00.000Z"),
            ["certificates: expired: etcd/serving"]
        );
        let mut unready = pid1(ServiceState::Ready);
        unready.conditions.retain(|name| name != "node-ready");
        assert_eq!(
            failed(&unready, &room, 0.0, LATER),
            ["node-ready: not so: Kubernetes calls the node Ready"]
        );
    }
}
