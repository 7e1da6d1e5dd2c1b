//! Waits for the disk this machine was started from.

use std::time::Duration;

use keelson_sys::boot_clock::since_boot;
use keelson_sys::epoll::{Epoll, Interest};
use keelson_sys::uevent::UeventSocket;
use thiserror::Error;

use crate::console::say;
use crate::disk::{self, Disk};
use crate::efi::{DiskId, Origin};

/// Longest wait. The firmware has just read from the disk, so only the kernel's own start of it is
/// waited for; slow RAID controllers take some seconds.
const DEADLINE: Duration = Duration::from_secs(10);

/// How often people are told what is waited for.
const MESSAGE_INTERVAL: Duration = Duration::from_secs(3);

/// Longest pause between two looks, should an announcement be missed.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);

/// Why there is no disk.
#[derive(Debug, Error)]
pub(crate) enum FindError {
    #[error("{} all have {wanted}: disconnect the copies", names.join(" and "))]
    Ambiguous { wanted: String, names: Vec<String> },
    #[error("no disk has {wanted} after {} s; found: {found}", DEADLINE.as_secs())]
    None { wanted: String, found: String },
}

/// Finds the disk; waits for it until the deadline.
pub(crate) fn find(origin: &Origin) -> Result<Disk, FindError> {
    let begun = since_boot();
    let mut message_due = begun + MESSAGE_INTERVAL;
    // Without announcements the interval alone finds it.
    let announcements = UeventSocket::open().and_then(|socket| {
        let epoll = Epoll::open()?;
        epoll.add(&socket, 0, Interest::Read)?;
        Ok((socket, epoll))
    });
    loop {
        let seen: Vec<_> = disk::names().iter().map(|name| disk::read(name)).collect();
        let disks: Vec<Disk> = seen
            .iter()
            .filter_map(|disk| disk.as_ref().ok().cloned())
            .collect();
        if let Some(disk) = choose(disks, origin.disk)? {
            return Ok(disk);
        }
        let now = since_boot();
        if now >= begun + DEADLINE {
            return Err(FindError::None {
                wanted: describe(origin.disk),
                found: found(&seen),
            });
        }
        if now >= message_due {
            message_due += MESSAGE_INTERVAL;
            say(&format!(
                "stage 1: waiting for the disk with {}",
                describe(origin.disk)
            ));
        }
        match &announcements {
            Ok((socket, epoll)) => {
                // Whatever comes, the disks are looked at again.
                let _ = epoll.wait(Some(LOOK_INTERVAL));
                let _ = socket.drain();
            }
            Err(_) => std::thread::sleep(LOOK_INTERVAL),
        }
    }
}

/// The one disk that is wanted, if it is there.
fn choose(disks: Vec<Disk>, wanted: DiskId) -> Result<Option<Disk>, FindError> {
    let mut matching: Vec<Disk> = disks
        .into_iter()
        .filter(|disk| match wanted {
            DiskId::Disk(guid) => disk.guid == guid,
            DiskId::Partition(guid) => disk.entries.iter().any(|entry| entry.id == guid),
        })
        .collect();
    match matching.len() {
        0 | 1 => Ok(matching.pop()),
        _ => Err(FindError::Ambiguous {
            wanted: describe(wanted),
            names: matching.iter().map(Disk::device).collect(),
        }),
    }
}

fn describe(wanted: DiskId) -> String {
    match wanted {
        DiskId::Disk(guid) => format!("disk GUID {guid}"),
        DiskId::Partition(guid) => format!("the boot loader's partition {guid}"),
    }
}

fn found(seen: &[Result<Disk, disk::DiskError>]) -> String {
    if seen.is_empty() {
        return "no disk at all".to_owned();
    }
    let described: Vec<String> = seen
        .iter()
        .map(|disk| match disk {
            Ok(disk) => format!("{} (disk GUID {})", disk.device(), disk.guid),
            Err(error) => error.to_string(),
        })
        .collect();
    described.join("; ")
}

#[cfg(test)]
mod tests {
    use keelson_bootstate::Guid;

    use super::*;
    use crate::disk::TableEntry;

    fn disk(name: &str, guid: u128, partition: u128) -> Disk {
        let id = Guid::from_u128(partition);
        let entry = TableEntry {
            number: 1,
            id,
            kind: None,
            start: 0,
            length: 0,
        };
        let guid = Guid::from_u128(guid);
        Disk {
            name: name.to_owned(),
            sector_size: 512,
            guid,
            entries: vec![entry],
        }
    }

    #[test]
    fn only_the_disk_that_was_started_from_is_taken() {
        let disks = || vec![disk("vda", 1, 10), disk("vdb", 2, 20)];
        let by_partition = DiskId::Partition(Guid::from_u128(20));
        assert_eq!(choose(disks(), by_partition).unwrap().unwrap().name, "vdb");
        assert_eq!(
            choose(disks(), DiskId::Disk(Guid::from_u128(1)))
                .unwrap()
                .unwrap()
                .name,
            "vda"
        );
        assert_eq!(
            choose(disks(), DiskId::Disk(Guid::from_u128(9))).unwrap(),
            None
        );
    }

    #[test]
    fn two_copies_are_refused_by_name() {
        let disks = vec![disk("vda", 1, 10), disk("vdb", 1, 10)];
        let error = choose(disks, DiskId::Partition(Guid::from_u128(10))).unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("/dev/vda and /dev/vdb all have"),
            "{error}"
        );
    }

    #[test]
    fn nothing_found_is_described() {
        assert_eq!(found(&[]), "no disk at all");
        assert!(found(&[Ok(disk("vda", 1, 2))]).starts_with("/dev/vda (disk GUID"));
    }
}
