//! Which disk and slot this boot came from, and why: the loader's EFI variables, else the command
//! line.

use std::fs;
use std::io;
use std::path::Path;

use keelson_bootstate::{Guid, Slot};
use keelson_control::{LoaderFacts, LoaderKind, StartReason};
use rustix::io::Errno;
use rustix::mount::MountFlags;
use thiserror::Error;

use crate::command_line::{CommandLine, Grub, slot};

const VARIABLES: &str = "/sys/firmware/efi/efivars";

/// The vendor id of systemd's boot loader interface, which our loader speaks.
const VENDOR: &str = "4a67b082-0a4c-41cf-b6c7-440b29bb8c4f";

/// Bytes of attributes in front of each variable's value.
const ATTRIBUTES: usize = 4;

/// Most lines of a report, and characters of each, that are kept: firmware hands it over, and people
/// read it.
const REPORT_LINES: usize = 16;
const REPORT_LINE: usize = 200;

/// How the disk is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DiskId {
    /// By the GUID of its table.
    Disk(Guid),
    /// By the GUID of a partition on it: the one that holds the EFI loader, or the one that GRUB
    /// read the kernel from.
    Partition(Guid),
}

/// Where this boot came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Origin {
    pub(crate) disk: DiskId,
    pub(crate) slot: Slot,
    pub(crate) loader: LoaderFacts,
}

/// Why that is not known.
#[derive(Debug, Error)]
pub(crate) enum EfiError {
    #[error("EFI variable {name} is {value:?}, which is not {expected}")]
    Invalid {
        name: &'static str,
        value: String,
        expected: &'static str,
    },
    #[error("EFI variable {name} is malformed")]
    Malformed { name: &'static str },
    #[error("cannot mount efivarfs")]
    Mount(#[source] io::Error),
    #[error(
        "neither the boot loader (EFI variable {variable}) nor the command line ({key}=) says which {what}"
    )]
    NotSaid {
        what: &'static str,
        variable: &'static str,
        key: &'static str,
    },
    #[error("cannot read EFI variable {name}")]
    Read {
        name: &'static str,
        source: io::Error,
    },
}

const PARTITION_VARIABLE: &str = "LoaderDevicePartUUID";
const ENTRY_VARIABLE: &str = "LoaderEntrySelected";
const REPORT_VARIABLE: &str = "KeelsonLoaderReport";

/// Finds out; needs /sys.
pub(crate) fn origin(command_line: &CommandLine) -> Result<Origin, EfiError> {
    let folder = Path::new(VARIABLES);
    mount(folder)?;
    // For people and for the health gate only: no reason to refuse a boot.
    let report = read(folder, REPORT_VARIABLE).ok().flatten();
    decide(
        read(folder, PARTITION_VARIABLE)?,
        read(folder, ENTRY_VARIABLE)?,
        report.as_deref(),
        command_line,
    )
}

fn decide(
    partition: Option<String>,
    entry: Option<String>,
    report: Option<&str>,
    command_line: &CommandLine,
) -> Result<Origin, EfiError> {
    let loader = match (&entry, command_line.grub) {
        (Some(_), _) => said_by_efi_loader(report.unwrap_or_default()),
        (None, Some(grub)) => said_by_grub(grub),
        (None, None) => LoaderFacts::default(),
    };
    let invalid = |name, value, expected| EfiError::Invalid {
        name,
        value,
        expected,
    };
    let grub = command_line
        .grub
        .map(|grub| DiskId::Partition(grub.partition));
    let disk = match (partition, grub.or(command_line.disk.map(DiskId::Disk))) {
        (Some(text), _) => match text.parse() {
            Ok(guid) => DiskId::Partition(guid),
            Err(_) => return Err(invalid(PARTITION_VARIABLE, text, "a partition GUID")),
        },
        (None, Some(id)) => id,
        (None, None) => {
            return Err(EfiError::NotSaid {
                what: "disk",
                variable: PARTITION_VARIABLE,
                key: "keelson.disk",
            });
        }
    };
    let slot = match (entry, command_line.slot) {
        (Some(text), _) => match text.strip_prefix("slot-").and_then(slot) {
            Some(slot) => slot,
            None => return Err(invalid(ENTRY_VARIABLE, text, "slot-a or slot-b")),
        },
        (None, Some(slot)) => slot,
        (None, None) => {
            return Err(EfiError::NotSaid {
                what: "slot",
                variable: ENTRY_VARIABLE,
                key: "keelson.slot",
            });
        }
    };
    Ok(Origin { disk, slot, loader })
}

/// The report of our EFI loader: one word why, then lines.
fn said_by_efi_loader(report: &str) -> LoaderFacts {
    let mut lines = report.lines();
    LoaderFacts {
        kind: LoaderKind::Efi,
        why: lines.next().and_then(StartReason::from_word),
        report: lines
            .take(REPORT_LINES)
            .map(|line| {
                let shown = line.chars().filter(|c| !c.is_control());
                shown.take(REPORT_LINE).collect()
            })
            .collect(),
    }
}

fn said_by_grub(grub: Grub) -> LoaderFacts {
    LoaderFacts {
        kind: LoaderKind::Grub,
        why: grub.why,
        report: grub
            .skipped
            .map(|slot| format!("slot {slot} skipped: GRUB found it empty or damaged"))
            .into_iter()
            .collect(),
    }
}

fn mount(folder: &Path) -> Result<(), EfiError> {
    if !folder.exists() {
        // No EFI.
        return Ok(());
    }
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC | MountFlags::RDONLY;
    match rustix::mount::mount(
        "efivarfs",
        folder,
        "efivarfs",
        flags,
        None::<&std::ffi::CStr>,
    ) {
        // NODEV: the kernel has no efivarfs or the firmware no variables.
        Ok(()) | Err(Errno::BUSY | Errno::NODEV | Errno::OPNOTSUPP) => Ok(()),
        Err(error) => Err(EfiError::Mount(error.into())),
    }
}

fn read(folder: &Path, name: &'static str) -> Result<Option<String>, EfiError> {
    match fs::read(folder.join(format!("{name}-{VENDOR}"))) {
        Ok(bytes) => decode(&bytes).map(Some).ok_or(EfiError::Malformed { name }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(EfiError::Read { name, source }),
    }
}

/// UTF-16 up to the first zero.
fn decode(bytes: &[u8]) -> Option<String> {
    let value = bytes.get(ATTRIBUTES..)?;
    let units: Vec<u16> = value
        .chunks_exact(2)
        .map(|pair| u16::from_le_bytes([pair[0], pair[1]]))
        .take_while(|unit| *unit != 0)
        .collect();
    String::from_utf16(&units).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command_line(extra: &str) -> CommandLine {
        let hash = "ab".repeat(32);
        let text = format!("roothash={hash} keelson.verity_blocks=1 keelson.verity_salt=- {extra}");
        CommandLine::parse(&text).unwrap()
    }

    const GUID: &str = "D7D0C3B6-9E18-4A74-9CDF-C153A861CC14";

    fn text(text: &str) -> Option<String> {
        Some(text.to_owned())
    }

    #[test]
    fn the_loader_goes_before_the_command_line() {
        let fallback =
            command_line("keelson.disk=0434c9cb-a066-4c4b-a2a9-e6b6c22c490a keelson.slot=b");
        let origin = decide(text(GUID), text("slot-a"), Some("trial"), &fallback).unwrap();
        assert_eq!(
            origin,
            Origin {
                disk: DiskId::Partition(GUID.parse().unwrap()),
                slot: Slot::A,
                loader: LoaderFacts {
                    kind: LoaderKind::Efi,
                    why: Some(StartReason::Trial),
                    report: vec![],
                }
            }
        );
        let origin = decide(None, None, None, &fallback).unwrap();
        assert!(matches!(origin.disk, DiskId::Disk(_)));
        assert_eq!(origin.slot, Slot::B);
        assert_eq!(origin.loader.kind, LoaderKind::None);
        for (partition, entry, part) in [
            (None, text("slot-a"), "which disk"),
            (text(GUID), None, "which slot"),
            (text("x"), text("slot-a"), "not a partition GUID"),
            (text(GUID), text("slot-c"), "slot-a or slot-b"),
        ] {
            let error = decide(partition, entry, None, &command_line(""))
                .unwrap_err()
                .to_string();
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn grub_names_disk_and_slot_on_the_command_line() {
        let said = command_line(&format!(
            "keelson.loader=grub keelson.slot=b keelson.part={GUID} keelson.why=other keelson.skipped=a"
        ));
        let origin = decide(None, None, None, &said).unwrap();
        assert_eq!(
            origin,
            Origin {
                disk: DiskId::Partition(GUID.parse().unwrap()),
                slot: Slot::B,
                loader: LoaderFacts {
                    kind: LoaderKind::Grub,
                    why: Some(StartReason::Other),
                    report: vec!["slot A skipped: GRUB found it empty or damaged".to_owned()],
                }
            }
        );
    }

    #[test]
    fn the_report_is_bounded_and_plain() {
        let facts = said_by_efi_loader("default\nslot B skipped: damaged\nx\x1b[2Jy");
        assert_eq!(facts.why, Some(StartReason::Default));
        assert_eq!(facts.report, ["slot B skipped: damaged", "x[2Jy"]);
        let long = format!("{}\n{}", "z".repeat(9), "ü".repeat(300) + &"\nx".repeat(99));
        let facts = said_by_efi_loader(&long);
        assert_eq!((facts.why, facts.report.len()), (None, 16));
        assert_eq!(facts.report[0].chars().count(), 200);
        assert_eq!(said_by_efi_loader("").why, None);
    }

    #[test]
    fn variables_are_utf_16_behind_their_attributes() {
        let mut bytes = vec![6, 0, 0, 0];
        bytes.extend("slot-a\0".encode_utf16().flat_map(u16::to_le_bytes));
        assert_eq!(decode(&bytes).as_deref(), Some("slot-a"));
        assert_eq!(decode(&[1, 2]), None);
        assert_eq!(decode(&[0, 0, 0, 0, 0x00, 0xd8]), None);
    }
}
