//! Numbers of the machine: pressure, memory, disks, file systems, links.

use keelson_api::v1alpha1::{Link, MemoryResponse, Mount};

use super::ratio;
use crate::disks::DiskActivity;
use crate::metrics::text::{Family, Sample, Value};
use crate::mounts::on_disk;
use crate::pressure::{Pressure, Share};

/// Below these, volumes of pods are mounted; kubelet has numbers about them.
const PODS: [&str; 2] = ["/run/containerd/", "/var/lib/kubelet/"];

/// One end of a pod's link; what pods send is counted by kubelet.
const POD_LINK: &str = "veth";

pub(super) fn pressure(pressure: &Pressure) -> Vec<Family> {
    let each = |value: fn(&Share) -> Value| {
        [
            ("cpu", pressure.cpu),
            ("io", pressure.io),
            ("memory", pressure.memory),
        ]
        .into_iter()
        .flat_map(move |(resource, stall)| {
            [("some", stall.some), ("full", stall.full)].map(|(share, measured)| {
                let labels = vec![
                    ("resource", resource.to_owned()),
                    ("share", share.to_owned()),
                ];
                Sample::new(labels, value(&measured))
            })
        })
        .collect::<Vec<_>>()
    };
    vec![
        Family::gauge(
            "keelson_pressure_ratio",
            "Share of the last 10 s in which some, or all, processes waited.",
            each(|share| ratio(share.percent)),
        ),
        Family::counter(
            "keelson_pressure_seconds_total",
            "Time in which some, or all, processes waited.",
            each(|share| Value::Micros(u64::try_from(share.total.as_micros()).unwrap_or(u64::MAX))),
        ),
    ]
}

pub(super) fn memory(memory: &MemoryResponse) -> Vec<Family> {
    let one =
        |name, help, bytes| Family::gauge(name, help, [Sample::new(vec![], Value::Count(bytes))]);
    vec![
        one(
            "keelson_memory_total_bytes",
            "Memory of the machine.",
            memory.total_bytes,
        ),
        one(
            "keelson_memory_available_bytes",
            "Memory that programs can still have.",
            memory.available_bytes,
        ),
        one(
            "keelson_memory_free_bytes",
            "Memory that nothing is in.",
            memory.free_bytes,
        ),
        one(
            "keelson_memory_anonymous_bytes",
            "Memory of programs that is in no file.",
            memory.anonymous_bytes,
        ),
        one(
            "keelson_memory_cached_bytes",
            "Memory that holds parts of files.",
            memory.cached_bytes,
        ),
        one(
            "keelson_memory_dirty_bytes",
            "Parts of files that are still to be written.",
            memory.dirty_bytes,
        ),
        one(
            "keelson_memory_slab_bytes",
            "Memory of the kernel's own objects.",
            memory.slab_bytes,
        ),
    ]
}

pub(super) fn disks(disks: &[DiskActivity]) -> Vec<Family> {
    let each = |value: fn(&DiskActivity) -> Value| {
        disks
            .iter()
            .map(move |disk| Sample::new(vec![("device", disk.name.clone())], value(disk)))
            .collect::<Vec<_>>()
    };
    vec![
        Family::counter(
            "keelson_disk_read_bytes_total",
            "Bytes read from a disk.",
            each(|disk| Value::Count(disk.read_bytes)),
        ),
        Family::counter(
            "keelson_disk_written_bytes_total",
            "Bytes written to a disk.",
            each(|disk| Value::Count(disk.written_bytes)),
        ),
        Family::counter(
            "keelson_disk_busy_seconds_total",
            "Time in which a disk had something to do.",
            each(|disk| Value::Millis(disk.busy_ms)),
        ),
    ]
}

pub(super) fn file_systems(mounts: &[Mount]) -> Vec<Family> {
    let own: Vec<&Mount> = mounts
        .iter()
        .filter(|mount| mount.size_bytes > 0 && on_disk(&mount.file_system))
        .filter(|mount| !PODS.iter().any(|pods| mount.target.starts_with(pods)))
        .collect();
    let each = |value: fn(&Mount) -> u64| {
        own.iter()
            .map(move |mount| {
                let labels = vec![
                    ("mountpoint", mount.target.clone()),
                    ("device", mount.source.clone()),
                    ("fstype", mount.file_system.clone()),
                ];
                Sample::new(labels, Value::Count(value(mount)))
            })
            .collect::<Vec<_>>()
    };
    vec![
        Family::gauge(
            "keelson_filesystem_size_bytes",
            "Size of a file system on a disk.",
            each(|mount| mount.size_bytes),
        ),
        Family::gauge(
            "keelson_filesystem_used_bytes",
            "What is used of it.",
            each(|mount| mount.used_bytes),
        ),
        Family::gauge(
            "keelson_filesystem_available_bytes",
            "What programs without privileges can still have of it.",
            each(|mount| mount.available_bytes),
        ),
    ]
}

pub(super) fn links(links: &[Link]) -> Vec<Family> {
    let own: Vec<&Link> = links.iter().filter(|link| link.kind != POD_LINK).collect();
    let each = |value: fn(&Link) -> u64| {
        own.iter()
            .map(move |link| {
                Sample::new(
                    vec![("interface", link.name.clone())],
                    Value::Count(value(link)),
                )
            })
            .collect::<Vec<_>>()
    };
    vec![
        Family::gauge(
            "keelson_network_up",
            "1 for an interface that is up.",
            each(|link| u64::from(link.state == "up")),
        ),
        Family::counter(
            "keelson_network_receive_bytes_total",
            "Bytes received by an interface.",
            each(|link| link.received_bytes),
        ),
        Family::counter(
            "keelson_network_transmit_bytes_total",
            "Bytes sent by an interface.",
            each(|link| link.sent_bytes),
        ),
        Family::counter(
            "keelson_network_receive_packets_total",
            "Packets received by an interface.",
            each(|link| link.received_packets),
        ),
        Family::counter(
            "keelson_network_transmit_packets_total",
            "Packets sent by an interface.",
            each(|link| link.sent_packets),
        ),
        Family::counter(
            "keelson_network_receive_errors_total",
            "Packets that came damaged.",
            each(|link| link.receive_errors),
        ),
        Family::counter(
            "keelson_network_transmit_errors_total",
            "Packets that could not be sent.",
            each(|link| link.send_errors),
        ),
        Family::counter(
            "keelson_network_receive_dropped_total",
            "Packets received and thrown away.",
            each(|link| link.receive_dropped),
        ),
        Family::counter(
            "keelson_network_transmit_dropped_total",
            "Packets thrown away before they were sent.",
            each(|link| link.send_dropped),
        ),
    ]
}
