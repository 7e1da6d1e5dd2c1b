//! Reads assembled images back with the `object` crate.

use object::{Object, ObjectSection};

use super::*;

/// The smallest EFI program that has the parts the assembler looks at: one section `.text`.
pub(crate) fn tiny_efi(image_size: u32) -> Vec<u8> {
    let mut bytes = vec![0u8; 0x600];
    bytes[..2].copy_from_slice(b"MZ");
    bytes[0x3c] = 0x80;
    bytes[0x80..0x84].copy_from_slice(b"PE\0\0");
    let coff = 0x84;
    bytes[coff..coff + 2].copy_from_slice(&0x8664u16.to_le_bytes());
    bytes[coff + 2] = 1;
    bytes[coff + 16] = 240;
    let optional = coff + 20;
    for (at, value) in [
        (0, 0x20b),
        (16, 0x1000),
        (32, 0x1000),
        (36, 0x200),
        (56, image_size),
        (60, 0x400),
        (108, 16),
    ] {
        bytes[optional + at..][..4].copy_from_slice(&u32::to_le_bytes(value));
    }
    bytes[optional + 68] = 10;
    let section = optional + 240;
    bytes[section..section + 5].copy_from_slice(b".text");
    for (at, value) in [
        (8, 0x1f0),
        (12, 0x1000),
        (16, 0x200),
        (20, 0x400),
        (36, 0x6000_0020),
    ] {
        bytes[section + at..][..4].copy_from_slice(&u32::to_le_bytes(value));
    }
    bytes
}

pub(crate) fn sample<'a>(stub: &'a [u8], linux: &'a [u8]) -> Uki<'a> {
    Uki {
        stub,
        linux,
        initrd: b"initramfs",
        command_line: "console=ttyS0 roothash=ab",
        uname: "6.12.0-keelson",
        os_release: b"ID=keelson\n",
    }
}

#[test]
fn sections_read_back_aligned_and_in_order() {
    let (stub, linux) = (tiny_efi(0x2000), tiny_efi(0x9000));
    let bytes = sample(&stub, &linux).assemble().unwrap();
    assert_eq!(bytes, sample(&stub, &linux).assemble().unwrap());

    let pe = object::read::pe::PeFile64::parse(bytes.as_slice()).unwrap();
    let headers = pe.nt_headers();
    let names: Vec<_> = pe
        .sections()
        .map(|s| s.name().unwrap().to_owned())
        .collect();
    assert_eq!(
        names,
        [".text", ".osrel", ".cmdline", ".uname", ".initrd", ".linux"]
    );
    let content = |name: &str| pe.section_by_name(name).unwrap().data().unwrap();
    assert_eq!(content(".osrel"), b"ID=keelson\n");
    assert_eq!(content(".cmdline"), b"console=ttyS0 roothash=ab");
    assert_eq!(content(".uname"), b"6.12.0-keelson");
    assert_eq!(content(".initrd"), b"initramfs");
    assert!(content(".linux").starts_with(&linux));

    let mut end = 0;
    for section in pe.section_table().iter() {
        let (address, size) = (
            section.virtual_address.get(object::LittleEndian),
            section.virtual_size.get(object::LittleEndian),
        );
        let raw = section.pointer_to_raw_data.get(object::LittleEndian);
        assert!(address.is_multiple_of(0x1000) && raw.is_multiple_of(0x200));
        assert!(address >= end, "sections do not overlap");
        end = address + size;
    }
    let linux_size = pe
        .section_table()
        .iter()
        .last()
        .unwrap()
        .virtual_size
        .get(object::LittleEndian);
    assert_eq!(linux_size, 0x9000, "room for the kernel's own image size");
    let optional = &headers.optional_header;
    assert_eq!(
        optional.size_of_image.get(object::LittleEndian),
        end.next_multiple_of(0x1000)
    );
    assert_eq!(optional.check_sum.get(object::LittleEndian), 0);
}

#[test]
fn sections_are_found_by_name() {
    let (stub, linux) = (tiny_efi(0x2000), tiny_efi(0x9000));
    let bytes = sample(&stub, &linux).assemble().unwrap();
    let find = |name| find_section(&bytes, name).unwrap();
    let linux_section = find(".linux");
    assert_eq!(linux_section.file_len, linux.len());
    assert_eq!(linux_section.memory_len, 0x9000);
    assert!(bytes[linux_section.offset..].starts_with(&linux));
    let initrd = find(".initrd");
    assert_eq!((initrd.file_len, initrd.memory_len), (0x200, 9));
    assert_eq!(&bytes[initrd.offset..][..10], b"initramfs\0");
    for name in ["", ".lin", ".linux2", ".longer-than-eight"] {
        assert_eq!(find_section(&bytes, name), None, "{name}");
    }
    assert_eq!(find_section(&bytes[..bytes.len() - 1], ".linux"), None);
    assert_eq!(find_section(b"MZ", ".linux"), None);
}

#[test]
fn parts_that_are_no_programs_are_named() {
    let good = tiny_efi(0x2000);
    let wrong = |stub: &[u8], linux: &[u8]| sample(stub, linux).assemble().unwrap_err().to_string();
    assert_eq!(
        wrong(&good, b"\x1f\x8b"),
        "the kernel is not an EFI program: it does not start with MZ"
    );
    assert_eq!(
        wrong(b"", &good),
        "the EFI stub is not an EFI program: it does not start with MZ"
    );
    assert!(wrong(&good[..0x100], &good).contains("cut off"));
    let mut full = good.clone();
    full[0x84 + 20 + 60..][..4].copy_from_slice(&0x1a8u32.to_le_bytes());
    assert!(wrong(&full, &good).contains("no room for section .osrel"));
}

#[test]
fn junk_never_panics() {
    let good = tiny_efi(0x2000);
    for at in 0x80..0x1c0 {
        for value in [0u8, 1, 0x7f, 0xff] {
            let mut bad = good.clone();
            bad[at] = value;
            let _ = sample(&bad, &good).assemble();
            let _ = sample(&good, &bad).assemble();
            let _ = find_section(&bad, ".text");
        }
    }
}
