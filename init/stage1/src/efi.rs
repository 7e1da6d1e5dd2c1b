//! Which disk and slot this boot came from: the loader's EFI variables, else the command line.

use std::fs;
use std::io;
use std::path::Path;

use keelson_bootstate::{Guid, Slot};
use rustix::io::Errno;
use rustix::mount::MountFlags;
use thiserror::Error;

use crate::command_line::{CommandLine, slot};

const VARIABLES: &str = "/sys/firmware/efi/efivars";

/// The vendor id of systemd's boot loader interface, which our loader speaks.
const VENDOR: &str = "4a67b082-0a4c-41cf-b6c7-440b29bb8c4f";

/// Bytes of attributes in front of each variable's value.
const ATTRIBUTES: usize = 4;

/// How the disk is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DiskId {
    /// By the GUID of its table.
    Disk(Guid),
    /// By the GUID of the partition that holds the loader.
    Partition(Guid),
}

/// Where this boot came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Origin {
    pub(crate) disk: DiskId,
    pub(crate) slot: Slot,
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

/// Finds out; needs /sys.
pub(crate) fn origin(command_line: &CommandLine) -> Result<Origin, EfiError> {
    let folder = Path::new(VARIABLES);
    mount(folder)?;
    decide(
        read(folder, PARTITION_VARIABLE)?,
        read(folder, ENTRY_VARIABLE)?,
        command_line,
    )
}

fn decide(
    partition: Option<String>,
    entry: Option<String>,
    command_line: &CommandLine,
) -> Result<Origin, EfiError> {
    let invalid = |name, value, expected| EfiError::Invalid {
        name,
        value,
        expected,
    };
    let disk = match (partition, command_line.disk) {
        (Some(text), _) => match text.parse() {
            Ok(guid) => DiskId::Partition(guid),
            Err(_) => return Err(invalid(PARTITION_VARIABLE, text, "a partition GUID")),
        },
        (None, Some(guid)) => DiskId::Disk(guid),
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
    Ok(Origin { disk, slot })
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

    #[test]
    fn the_loader_goes_before_the_command_line() {
        let fallback =
            command_line("keelson.disk=0434c9cb-a066-4c4b-a2a9-e6b6c22c490a keelson.slot=b");
        let text = |text: &str| Some(text.to_owned());
        let origin = decide(text(GUID), text("slot-a"), &fallback).unwrap();
        assert_eq!(
            origin,
            Origin {
                disk: DiskId::Partition(GUID.parse().unwrap()),
                slot: Slot::A
            }
        );
        let origin = decide(None, None, &fallback).unwrap();
        assert!(matches!(
            origin,
            Origin {
                disk: DiskId::Disk(_),
                slot: Slot::B
            }
        ));
        for (partition, entry, part) in [
            (None, text("slot-a"), "which disk"),
            (text(GUID), None, "which slot"),
            (text("x"), text("slot-a"), "not a partition GUID"),
            (text(GUID), text("slot-c"), "slot-a or slot-b"),
        ] {
            let error = decide(partition, entry, &command_line(""))
                .unwrap_err()
                .to_string();
            assert!(error.contains(part), "{error}");
        }
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
