//! What GRUB reads of a slot, as text in the page in front of the payload: a list of hashes and a
//! script.
//!
//! Whoever makes a slot calls [`script`], then [`check_list`], and gives both texts to
//! `keelson_bootstate::SlotPage::with_grub`. GRUB names bytes of a disk by sectors of 512 bytes,
//! counted from the start of the slot (`8+100`), so it hashes whole sectors: **what follows the
//! payload in its last sector must be zero**. It checks the script too before it runs it, because
//! the list covers the script's sectors; what is started is only what was hashed.

use keelson_bootstate::{GRUB_HASHES_SIZE, GRUB_SCRIPT_OFFSET, GRUB_SCRIPT_SIZE, HEADER_SIZE};
use sha2::{Digest, Sha256};

use crate::digest::Sha256Digest;
use crate::uki::{Section, find_section};

/// GRUB's sectors, whatever the disk's are.
pub(crate) const SECTOR: usize = 512;
/// The same for places on a disk.
pub(crate) const SECTOR_BYTES: u64 = 512;

/// The script before this slot's numbers are put into it.
pub(crate) const TEMPLATE: &str = include_str!("../../loader/grub/slot.cfg");

/// Why a slot has no script for GRUB.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum SlotScriptError {
    /// The kernel arguments are no text.
    #[error("section .cmdline of the unified kernel image is not UTF-8")]
    ArgumentsEncoding,
    /// The arguments are longer than their room.
    #[error(
        "the slot's script for GRUB has {len} bytes, {GRUB_SCRIPT_SIZE} fit with a line feed: \
         shorten the kernel arguments"
    )]
    TooLong {
        /// Length of the script.
        len: usize,
    },
    /// An argument means something else to GRUB.
    #[error(
        "kernel argument {argument:?} has characters that GRUB's scripts take for something else"
    )]
    Argument {
        /// The argument.
        argument: String,
    },
    /// The payload is not what we start.
    #[error("the unified kernel image has no section {name}")]
    NoSection {
        /// Its name.
        name: &'static str,
    },
    /// GRUB cannot name the bytes of a section.
    #[error("section {name} of the unified kernel image is not made of whole sectors of 512 bytes")]
    Unaligned {
        /// Its name.
        name: &'static str,
    },
}

/// The script of a slot whose payload is the unified kernel image `uki`: loads the kernel and the
/// initramfs out of it, with the kernel arguments it brings.
pub fn script(uki: &[u8]) -> Result<String, SlotScriptError> {
    let arguments = arguments(uki)?;
    if let Some(argument) = arguments.split_whitespace().find(|word| !is_plain(word)) {
        return Err(SlotScriptError::Argument {
            argument: argument.into(),
        });
    }
    let script = TEMPLATE
        .replace("@LINUX@", &sectors(uki, ".linux")?)
        .replace("@INITRD@", &sectors(uki, ".initrd")?)
        .replace("@ARGUMENTS@", arguments.trim());
    if script.len() < GRUB_SCRIPT_SIZE {
        Ok(script)
    } else {
        Err(SlotScriptError::TooLong { len: script.len() })
    }
}

/// The list for GRUB's `sha256sum --check`: script and payload.
///
/// It fills its sector up to the line feed that `SlotPage::with_grub` adds. It is padded in front,
/// with spaces, for that is the only place where GRUB ignores anything: an empty line makes it
/// refuse the list.
pub fn check_list(payload: &[u8], script: &str) -> String {
    let mut script = script.as_bytes().to_vec();
    script.resize(GRUB_SCRIPT_SIZE, b'\n');
    let tail = payload.len().next_multiple_of(SECTOR) - payload.len();
    let payload_hash = Sha256::new()
        .chain_update(payload)
        .chain_update([0; SECTOR].split_at(tail).0)
        .finalize();
    let lines = format!(
        "{}  {}\n{}  {}",
        Sha256Digest::of(&script),
        blocks(GRUB_SCRIPT_OFFSET, GRUB_SCRIPT_SIZE),
        Sha256Digest::from(<[u8; 32]>::from(payload_hash)),
        blocks(HEADER_SIZE, payload.len()),
    );
    format!("{lines:>width$}", width = GRUB_HASHES_SIZE - 1)
}

fn arguments(uki: &[u8]) -> Result<&str, SlotScriptError> {
    let name = ".cmdline";
    let section = find_section(uki, name).ok_or(SlotScriptError::NoSection { name })?;
    let len = section.memory_len.min(section.file_len);
    let bytes = uki.get(section.offset..section.offset + len);
    str::from_utf8(bytes.unwrap_or_default()).map_err(|_| SlotScriptError::ArgumentsEncoding)
}

/// Whether GRUB's scripts take a word as it stands.
fn is_plain(word: &str) -> bool {
    word.bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || b"%+,-./:=@_".contains(&byte))
}

fn sectors(uki: &[u8], name: &'static str) -> Result<String, SlotScriptError> {
    let Section {
        offset, file_len, ..
    } = find_section(uki, name).ok_or(SlotScriptError::NoSection { name })?;
    if file_len == 0 || !offset.is_multiple_of(SECTOR) || !file_len.is_multiple_of(SECTOR) {
        return Err(SlotScriptError::Unaligned { name });
    }
    Ok(blocks(HEADER_SIZE + offset, file_len))
}

/// GRUB's name for bytes of a device that start with a sector.
fn blocks(offset: usize, len: usize) -> String {
    format!("{}+{}", offset / SECTOR, len.div_ceil(SECTOR))
}

#[cfg(test)]
mod tests {
    use keelson_bootstate::GRUB_HASHES_OFFSET;

    use super::*;
    use crate::uki::tests::{sample, tiny_efi};

    fn uki_with(command_line: &str) -> Vec<u8> {
        let program = tiny_efi(0x2000);
        let mut uki = sample(&program, &program);
        uki.command_line = command_line;
        uki.assemble().unwrap()
    }

    #[test]
    fn the_script_names_the_sectors_of_kernel_and_initramfs() {
        let uki = uki_with("console=ttyS0,115200 roothash=ab\n");
        let (linux, initrd) = (find_section(&uki, ".linux"), find_section(&uki, ".initrd"));
        let (linux, initrd) = (linux.unwrap().offset, initrd.unwrap().offset);
        let expected = format!(
            "if linux {}+3 console=ttyS0,115200 roothash=ab $facts; then\n  \
             if initrd {}+1; then set loaded=1; fi\nfi\n",
            8 + linux / 512,
            8 + initrd / 512
        );
        assert_eq!(script(&uki).unwrap(), expected);
    }

    #[test]
    fn what_grub_would_misread_is_refused() {
        for bad in [
            "a=$b", "a;reboot", "a=\"b\"", "a='b'", "x=*", "a=ü", "a\\", "{a}",
        ] {
            let error = script(&uki_with(&format!("quiet {bad}"))).unwrap_err();
            assert_eq!(
                error,
                SlotScriptError::Argument {
                    argument: bad.into()
                }
            );
        }
        assert!(script(&uki_with(&"a".repeat(1420))).is_ok());
        let long = script(&uki_with(&"a".repeat(1500)));
        assert!(
            matches!(long, Err(SlotScriptError::TooLong { .. })),
            "{long:?}"
        );
        let none = script(&tiny_efi(0x2000));
        assert_eq!(none, Err(SlotScriptError::NoSection { name: ".cmdline" }));
        let mut odd = uki_with("quiet");
        let header = odd.windows(7).position(|name| name == b".initrd").unwrap();
        odd[header + 20] = 16;
        let odd = script(&odd);
        assert_eq!(odd, Err(SlotScriptError::Unaligned { name: ".initrd" }));
    }

    #[test]
    fn the_list_covers_script_and_payload_and_fills_its_sector() {
        let payload = [7; 1000];
        let list = check_list(&payload, "boot\n");
        assert_eq!(list.len(), 511);
        assert!(!list.ends_with('\n'));
        let lines: Vec<_> = list.trim_start().lines().collect();
        let mut script = b"boot\n".to_vec();
        script.resize(1536, b'\n');
        let mut padded = payload.to_vec();
        padded.resize(1024, 0);
        let expected = [
            format!("{}  5+3", Sha256Digest::of(&script)),
            format!("{}  8+2", Sha256Digest::of(&padded)),
        ];
        assert_eq!(lines, expected);
        assert!(check_list(&[7; 1024], "").ends_with("  8+2"));
    }

    #[test]
    fn the_texts_fit_the_page() {
        use keelson_bootstate::{SlotHeader, SlotHeaderFields, SlotPage};
        let uki = uki_with("quiet");
        let script = script(&uki).unwrap();
        let header = SlotHeader::new(SlotHeaderFields {
            payload_len: 1,
            sha256: [1; 32],
            root_len: 4096,
            root_sha256: [2; 32],
            version: "1.0.0",
        });
        let page = SlotPage::new(&header.unwrap())
            .with_grub(&check_list(&uki, &script), &script)
            .unwrap();
        let page = page.as_bytes();
        assert_eq!(page[GRUB_HASHES_OFFSET + 511], b'\n');
        // The hash of the script's sectors as they are on disk is in the list as it is on disk.
        let on_disk = Sha256Digest::of(&page[GRUB_SCRIPT_OFFSET..]).to_string();
        let list = str::from_utf8(&page[GRUB_HASHES_OFFSET..GRUB_SCRIPT_OFFSET]).unwrap();
        assert!(list.contains(&format!("{on_disk}  5+3\n")));
    }
}
