//! Slots on disks in memory, of both sector sizes.

use alloc::string::ToString;

use keelson_bootstate::gpt::Header;
use keelson_bootstate::{Guid, layout::MIB};

use super::*;
use crate::disk::tests::MemoryDisk;
use crate::table;

const SLOT_A: usize = 1024 * 1024;
const SLOT_SECTORS_BYTES: usize = 2 * 1024 * 1024;

/// Inside of the disk for both sector sizes.
const LAST_USABLE: u64 = 1400;

/// CRC-32 as the table needs it, independent of the crate under test.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0u32, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |c, _| {
            (c >> 1) ^ (0xedb8_8320 & (c & 1).wrapping_neg())
        })
    })
}

fn put_table(bytes: &mut [u8], sector: usize, at_sector: usize, entries_sector: usize) {
    let mut entries = vec![0u8; 128 * 128];
    for (i, kind) in [Partition::BootA, Partition::BootB].into_iter().enumerate() {
        let entry = &mut entries[i * 128..][..128];
        let first = (SLOT_A + i * SLOT_SECTORS_BYTES) / sector;
        let last = first + SLOT_SECTORS_BYTES / sector - 1;
        entry[..16].copy_from_slice(&kind.type_guid().to_disk());
        entry[16..32].copy_from_slice(&Guid::from_u128(i as u128 + 1).to_disk());
        entry[32..40].copy_from_slice(&(first as u64).to_le_bytes());
        entry[40..48].copy_from_slice(&(last as u64).to_le_bytes());
        for (j, unit) in kind.name().encode_utf16().enumerate() {
            entry[56 + 2 * j..][..2].copy_from_slice(&unit.to_le_bytes());
        }
    }
    let mut header = vec![0u8; 92];
    header[..8].copy_from_slice(b"EFI PART");
    header[12..16].copy_from_slice(&92u32.to_le_bytes());
    header[24..32].copy_from_slice(&(at_sector as u64).to_le_bytes());
    header[48..56].copy_from_slice(&LAST_USABLE.to_le_bytes());
    header[72..80].copy_from_slice(&(entries_sector as u64).to_le_bytes());
    header[80..84].copy_from_slice(&128u32.to_le_bytes());
    header[84..88].copy_from_slice(&128u32.to_le_bytes());
    header[88..92].copy_from_slice(&crc32(&entries).to_le_bytes());
    let crc = crc32(&header);
    header[16..20].copy_from_slice(&crc.to_le_bytes());
    bytes[at_sector * sector..][..92].copy_from_slice(&header);
    bytes[entries_sector * sector..][..entries.len()].copy_from_slice(&entries);
}

fn disk(sector_size: usize, payload: &[u8]) -> MemoryDisk {
    let mut bytes = vec![0u8; 6 * 1024 * 1024];
    let last = bytes.len() / sector_size - 1;
    put_table(&mut bytes, sector_size, 1, 2);
    put_table(&mut bytes, sector_size, last, last - 16384 / sector_size);
    let header = SlotHeader::new(payload.len() as u64, Sha256::digest(payload).into()).unwrap();
    bytes[SLOT_A..][..HEADER_SIZE].copy_from_slice(&header.encode());
    bytes[SLOT_A + HEADER_SIZE..][..payload.len()].copy_from_slice(payload);
    MemoryDisk {
        bytes,
        sector_size,
        bad_sector: None,
    }
}

fn payload(len: usize) -> Vec<u8> {
    (0u8..=250).cycle().step_by(7).take(len).collect()
}

#[test]
fn reads_a_slot_on_both_kinds_of_disk() {
    for sector_size in [512, 4096] {
        for len in [1, 4096, 1_048_577, SLOT_SECTORS_BYTES - HEADER_SIZE] {
            let mut disk = disk(sector_size, &payload(len));
            let partitions = table::read(&mut disk).unwrap();
            let slot = Verified::read(&mut disk, &partitions, Slot::A).unwrap();
            assert_eq!(slot.payload(), payload(len));
            assert_eq!(slot.header().payload_len(), len as u64);
        }
    }
}

#[test]
fn every_reason_has_its_own_text() {
    let good = || disk(512, &payload(5000));
    let read = |disk: &mut MemoryDisk, slot| {
        let partitions = table::read(disk).unwrap();
        Verified::read(disk, &partitions, slot)
            .map(|_| ())
            .unwrap_err()
    };

    assert_eq!(
        read(&mut good(), Slot::B),
        SlotError::Header(HeaderError::Blank)
    );

    let mut damaged = good();
    damaged.bytes[SLOT_A + HEADER_SIZE + 4999] ^= 1;
    assert_eq!(read(&mut damaged, Slot::A), SlotError::Hash);
    assert!(SlotError::Hash.to_string().contains("damaged"));

    let mut long = good();
    let header = SlotHeader::new(3 * MIB, [0; 32]).unwrap();
    long.bytes[SLOT_A..][..HEADER_SIZE].copy_from_slice(&header.encode());
    assert_eq!(read(&mut long, Slot::A), SlotError::TooLong);

    let mut bad = good();
    let sector = (SLOT_A as u64 + 4096) / 512 + 3;
    bad.bad_sector = Some(sector);
    assert_eq!(
        read(&mut bad, Slot::A),
        SlotError::Read(ReadError {
            sector: sector - 3,
            status: 7
        })
    );
    assert!(
        read(&mut bad, Slot::A)
            .to_string()
            .ends_with("(UEFI error 7)")
    );

    let none = Verified::read(&mut good(), &[], Slot::A)
        .map(|_| ())
        .unwrap_err();
    assert_eq!(none.to_string(), "the disk has no partition BOOT-A");
}

#[test]
fn a_damaged_primary_table_falls_back_to_the_backup() {
    let mut disk = disk(512, &payload(10));
    let (size, last) = (disk.sector_size, disk.last_sector());
    disk.bytes[size + 20] ^= 1;
    let partitions = table::read(&mut disk).unwrap();
    assert!(Verified::read(&mut disk, &partitions, Slot::A).is_ok());

    let at = usize::try_from(last).unwrap() * size;
    disk.bytes[at] ^= 1;
    let error = table::read(&mut disk).unwrap_err().to_string();
    assert!(
        error.contains("checksum") && error.contains("no GUID partition table"),
        "{error}"
    );
    assert!(Header::parse(&disk.bytes[at..at + size], last).is_err());
}

#[test]
fn an_image_on_a_disk_that_is_too_small_is_refused_with_both_sizes() {
    let mut disk = disk(4096, &payload(10));
    disk.bytes.truncate(5 * 1024 * 1024);
    let error = table::read(&mut disk).unwrap_err();
    assert_eq!(
        error,
        table::TableError::DiskTooSmall {
            has_mib: 5,
            needs_mib: 6
        }
    );
    assert_eq!(
        error.to_string(),
        "the disk has 5 MiB but its partitions need 6 MiB: \
         write the image to a disk of at least 2048 MiB"
    );
}
