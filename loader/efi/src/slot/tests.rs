//! Slots on disks in memory, of both sector sizes.

use alloc::string::ToString;

use keelson_bootstate::gpt::Header;
use keelson_bootstate::layout::MIB;
use keelson_bootstate::signature::Untrusted;

use super::*;
use crate::fake::{
    self, FakeDisk, SLOT_SIZE, STATUS, foreign_key, header, payload, release_key, trust,
};
use crate::table;

fn disk(sector_size: usize, payload: &[u8]) -> FakeDisk {
    FakeDisk::new(sector_size).with_slot(Slot::A, payload, &release_key())
}

fn read(disk: &mut FakeDisk, slot: Slot) -> Result<Verified, SlotError> {
    let partitions = table::read(disk).unwrap();
    Verified::read(disk, &partitions, slot, &trust())
}

#[test]
fn reads_a_slot_on_both_kinds_of_disk() {
    for sector_size in [512, 4096] {
        for len in [1, 4096, 1_048_577, SLOT_SIZE - HEADER_SIZE] {
            let mut disk = disk(sector_size, &payload(len));
            let slot = read(&mut disk, Slot::A).unwrap();
            assert_eq!(slot.payload(), payload(len));
            assert_eq!(slot.header().payload_len(), len as u64);
            assert_eq!(slot.signer(), release_key().certificate());
        }
    }
}

#[test]
fn every_reason_has_its_own_text() {
    let good = || disk(512, &payload(5000));
    let error = |disk: &mut FakeDisk, slot| read(disk, slot).map(|_| ()).unwrap_err();

    assert_eq!(
        error(&mut good(), Slot::B),
        SlotError::Header(HeaderError::Blank)
    );

    let mut damaged = good();
    damaged.put(
        Partition::BootA,
        HEADER_SIZE + 4999,
        &[!payload(5000)[4999]],
    );
    assert_eq!(error(&mut damaged, Slot::A), SlotError::Hash);
    assert!(SlotError::Hash.to_string().contains("damaged"));

    let mut bad = good();
    bad.bad_sector = Some(bad.sector(Partition::BootA, HEADER_SIZE) + 3);
    let sector = bad.sector(Partition::BootA, HEADER_SIZE);
    let status = STATUS;
    let failed = error(&mut bad, Slot::A);
    assert_eq!(failed, SlotError::Disk(DiskError::Read { sector, status }));
    assert!(failed.to_string().ends_with("(UEFI error 7)"));

    let none = Verified::read(&mut good(), &[], Slot::A, &trust())
        .map(|_| ())
        .unwrap_err();
    assert_eq!(none.to_string(), "the disk has no partition BOOT-A");
}

#[test]
fn a_payload_that_is_signed_but_longer_than_its_partition_is_not_read() {
    let long = header(3 * usize::try_from(MIB).unwrap(), [0; 32]);
    let signature = release_key().sign(Context::SlotHeader, &long.encode());
    let page = SlotPage::new(&long).with_signatures(&[signature]).unwrap();
    let mut disk = FakeDisk::new(512);
    disk.put(Partition::BootA, 0, page.as_bytes());
    assert_eq!(
        read(&mut disk, Slot::A).map(|_| ()),
        Err(SlotError::TooLong)
    );
}

#[test]
fn only_signatures_of_trusted_keys_over_this_header_count() {
    let untrusted = |disk: &mut FakeDisk, reason| {
        let error = read(disk, Slot::A).map(|_| ()).unwrap_err();
        assert_eq!(error, SlotError::Untrusted(reason));
        // What it holds is not even read.
        disk.bad_sector = Some(disk.sector(Partition::BootA, HEADER_SIZE));
        assert_eq!(read(disk, Slot::A).map(|_| ()), Err(error));
    };
    let content = payload(5000);
    let mut unsigned = disk(512, &content);
    unsigned.put(Partition::BootA, SIGNED_SIZE, &[0; 256]);
    untrusted(&mut unsigned, Untrusted::Unsigned);

    let mut foreign = FakeDisk::new(512).with_slot(Slot::A, &content, &foreign_key());
    untrusted(&mut foreign, Untrusted::UnknownRoot);

    // A good payload and a good signature that do not belong together.
    let mut swapped = disk(512, &content);
    let other = header(content.len(), [1; 32]);
    swapped.put(Partition::BootA, 0, &other.encode());
    untrusted(&mut swapped, Untrusted::Signature);
}

#[test]
fn a_damaged_primary_table_falls_back_to_the_backup() {
    let mut disk = disk(512, &payload(10));
    let (size, last) = (disk.sector_size, disk.last_sector());
    disk.bytes[size + 20] ^= 1;
    assert!(read(&mut disk, Slot::A).is_ok());

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
    let mut disk = fake::FakeDisk::new(4096);
    disk.bytes.truncate(5 * 1024 * 1024);
    let error = table::read(&mut disk).unwrap_err();
    assert_eq!(
        error,
        table::TableError::DiskTooSmall {
            has_mib: 5,
            needs_mib: 7
        }
    );
    assert_eq!(
        error.to_string(),
        "the disk has 5 MiB but its partitions need 7 MiB: \
         write the image to a disk of at least 2048 MiB"
    );
}
