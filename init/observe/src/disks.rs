//! Disks and their partitions, from /sys/block.

use std::io;
use std::path::{Path, PathBuf};

use keelson_api::v1alpha1::{Disk, Partition};

use crate::root::{ReadError, Root, attribute, read, value};
use crate::text::printable;

/// Devices of these drivers are made of memory or of other devices. They are no disks, unless the
/// node runs from one.
const NOT_DISKS: [&str; 7] = ["dm-", "loop", "md", "nbd", "ram", "zd", "zram"];

/// The kernel counts in these whatever the sectors of the disk are.
const SECTOR: u64 = 512;

/// What a disk did since the machine started.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DiskActivity {
    /// Name of the device without /dev/.
    pub name: String,
    /// Bytes read from it.
    pub read_bytes: u64,
    /// Bytes written to it.
    pub written_bytes: u64,
    /// Time with at least one request under way.
    pub busy_ms: u64,
}

/// All disks, by name. `system` is the device the node runs from (`BootFacts::disk`).
///
/// # Errors
/// /sys/block cannot be listed.
pub fn disks(root: &Root, system: Option<&str>) -> Result<Vec<Disk>, ReadError> {
    let uptime_ms = uptime_ms(root);
    let disks = block_devices(root)?
        .into_iter()
        .filter(|(name, folder)| is_disk(name, folder) || Some(device(name).as_str()) == system)
        .map(|(name, folder)| Disk {
            system: Some(device(&name).as_str()) == system,
            ..disk(&name, &folder, uptime_ms)
        })
        .collect();
    Ok(disks)
}

/// What each disk did; cheaper than all about them.
///
/// # Errors
/// /sys/block cannot be listed.
pub fn disk_activity(root: &Root) -> Result<Vec<DiskActivity>, ReadError> {
    let disks = block_devices(root)?
        .into_iter()
        .filter(|(name, folder)| is_disk(name, folder))
        .map(|(name, folder)| DiskActivity {
            name: device(&name).trim_start_matches("/dev/").to_owned(),
            ..activity(&attribute(&folder, "stat").unwrap_or_default())
        })
        .collect();
    Ok(disks)
}

fn block_devices(root: &Root) -> Result<Vec<(String, PathBuf)>, ReadError> {
    let path = root.path("/sys/block");
    let list = || -> io::Result<Vec<(String, PathBuf)>> {
        let mut found = Vec::new();
        for entry in std::fs::read_dir(&path)? {
            let entry = entry?;
            if let Ok(name) = entry.file_name().into_string() {
                found.push((name, entry.path()));
            }
        }
        found.sort_unstable();
        Ok(found)
    };
    list().map_err(|source| ReadError {
        path: path.clone(),
        source,
    })
}

/// A drive without a medium has no size.
fn is_disk(name: &str, folder: &Path) -> bool {
    !NOT_DISKS.iter().any(|prefix| name.starts_with(prefix)) && size(folder) > 0
}

fn disk(name: &str, folder: &Path, uptime_ms: u64) -> Disk {
    // Below /sys/devices the path names every bus on the way to the disk.
    let way = std::fs::canonicalize(folder).unwrap_or_default();
    let activity = activity(&attribute(folder, "stat").unwrap_or_default());
    Disk {
        device: device(name),
        size_bytes: size(folder),
        sector_bytes: value(folder, "queue/logical_block_size").unwrap_or(0),
        model: first_of(folder, &["device/model", "device/name"]),
        serial: serial(folder),
        transport: transport(name, &way).to_owned(),
        rotational: flag(folder, "queue/rotational"),
        removable: flag(folder, "removable"),
        read_only: flag(folder, "ro"),
        system: false,
        read_bytes: activity.read_bytes,
        written_bytes: activity.written_bytes,
        busy: percent(activity.busy_ms, uptime_ms),
        partitions: partitions(folder),
    }
}

/// The kernel writes `!` in names that have a `/` in /dev (cciss!c0d0).
fn device(name: &str) -> String {
    printable(format!("/dev/{}", name.replace('!', "/")).as_bytes())
}

fn size(folder: &Path) -> u64 {
    value::<u64>(folder, "size")
        .unwrap_or(0)
        .saturating_mul(SECTOR)
}

fn flag(folder: &Path, name: &str) -> bool {
    value::<u8>(folder, name) == Some(1)
}

fn first_of(folder: &Path, names: &[&str]) -> String {
    names
        .iter()
        .filter_map(|name| attribute(folder, name))
        .map(|text| printable(text.trim().as_bytes()))
        .find(|text| !text.is_empty())
        .unwrap_or_default()
}

/// Longest answer of a SCSI disk about itself.
const VITAL_PRODUCT_DATA: u64 = 64 * 1024;

fn serial(folder: &Path) -> String {
    let plain = first_of(folder, &["serial", "device/serial"]);
    if !plain.is_empty() {
        return plain;
    }
    let page = read(&folder.join("device/vpd_pg80"), VITAL_PRODUCT_DATA).unwrap_or_default();
    scsi_serial(&page)
}

/// SCSI's "unit serial number" page: four bytes with the length in the last two, then the text.
fn scsi_serial(page: &[u8]) -> String {
    let [_, 0x80, high, low, text @ ..] = page else {
        return String::new();
    };
    let length = usize::from(u16::from_be_bytes([*high, *low]));
    let text = printable(text.get(..length).unwrap_or(text));
    text.trim().to_owned()
}

/// The words of the API. The innermost bus counts, and those that carry SCSI commands are looked
/// for before SCSI itself.
fn transport(name: &str, way: &Path) -> &'static str {
    let starts = |prefix: &str| {
        way.iter().filter_map(|part| part.to_str()).any(|part| {
            part.strip_prefix(prefix)
                .is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
        })
    };
    if name.starts_with("nvme") {
        "nvme"
    } else if starts("usb") {
        "usb"
    } else if starts("ata") {
        "ata"
    } else if starts("mmc") {
        "mmc"
    } else if starts("host") {
        "scsi"
    } else if starts("virtio") {
        "virtio"
    } else {
        ""
    }
}

/// Fields as in the kernel's Documentation/block/stat.rst, counted from 0.
fn activity(stat: &str) -> DiskActivity {
    let fields: Vec<u64> = stat
        .split_ascii_whitespace()
        .map(|field| field.parse().unwrap_or(0))
        .collect();
    let field = |at: usize| fields.get(at).copied().unwrap_or(0);
    DiskActivity {
        name: String::new(),
        read_bytes: field(2).saturating_mul(SECTOR),
        written_bytes: field(6).saturating_mul(SECTOR),
        busy_ms: field(9),
    }
}

/// With two digits after the point.
fn percent(part: u64, whole: u64) -> f64 {
    let hundredths = part.saturating_mul(10_000) / whole.max(1);
    f64::from(u32::try_from(hundredths).unwrap_or(u32::MAX).min(10_000)) / 100.0
}

fn uptime_ms(root: &Root) -> u64 {
    let text = root.text("/proc/uptime").unwrap_or_default();
    uptime(&text).unwrap_or(0)
}

/// `26565.69 50000.00`: always two digits after the point.
fn uptime(text: &str) -> Option<u64> {
    let (seconds, hundredths) = text.split_ascii_whitespace().next()?.split_once('.')?;
    let seconds: u64 = seconds.parse().ok()?;
    let hundredths: u64 = hundredths.parse().ok()?;
    seconds
        .checked_mul(1000)?
        .checked_add(hundredths.checked_mul(10)?)
}

/// In the order of their numbers.
fn partitions(folder: &Path) -> Vec<Partition> {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return Vec::new();
    };
    let mut found: Vec<(u32, Partition)> = entries
        .flatten()
        .filter_map(|entry| {
            let folder = entry.path();
            let number = value(&folder, "partition")?;
            let name = entry.file_name().into_string().ok()?;
            let partition = Partition {
                device: device(&name),
                label: label(&attribute(&folder, "uevent").unwrap_or_default()),
                size_bytes: size(&folder),
            };
            Some((number, partition))
        })
        .collect();
    found.sort_unstable_by_key(|(number, _)| *number);
    found.into_iter().map(|(_, partition)| partition).collect()
}

fn label(uevent: &str) -> String {
    uevent
        .lines()
        .find_map(|line| line.strip_prefix("PARTNAME="))
        .map(|name| printable(name.as_bytes()))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests;
