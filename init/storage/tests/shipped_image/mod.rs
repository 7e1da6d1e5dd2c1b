//! The image as the imager ships it: a table with everything but DATA, STATE blank.

use keelson_bootstate::Guid;
use keelson_bootstate::layout::{MIB, Partition};
use keelson_storage::Disk;

/// Size of the shipped image: its partitions and a MiB for the table at each end.
pub(crate) fn image_size() -> u64 {
    let partitions: u64 = Partition::ALL.iter().filter_map(|kind| kind.size()).sum();
    partitions + 2 * MIB
}

/// Writes both copies of the table of an image.
pub(crate) fn write_image(disk: &dyn Disk) {
    let sector = u64::from(disk.sector_size());
    let mut entries = vec![0; 128 * 128];
    let mut start = MIB;
    let kinds = Partition::ALL
        .iter()
        .filter_map(|kind| Some((kind, kind.size()?)));
    for ((index, (kind, size)), entry) in (1..).zip(kinds).zip(entries.chunks_exact_mut(128)) {
        entry[..16].copy_from_slice(&kind.type_guid().to_disk());
        entry[16..32].copy_from_slice(&Guid::from_u128(index).to_disk());
        entry[32..40].copy_from_slice(&(start / sector).to_le_bytes());
        entry[40..48].copy_from_slice(&((start + size) / sector - 1).to_le_bytes());
        // A bit that someone set must survive every change of the table.
        entry[48..56].copy_from_slice(&(1_u64 << 60).to_le_bytes());
        for (unit, field) in kind
            .name()
            .encode_utf16()
            .zip(entry[56..].chunks_exact_mut(2))
        {
            field.copy_from_slice(&unit.to_le_bytes());
        }
        start += size;
    }
    let last = image_size() / sector - 1;
    let array = (128 * 128_u64).div_ceil(sector);
    let copy = |own: u64, other: u64, at: u64| {
        let mut header = b"EFI PART\x00\x00\x01\x00\x5c\x00\x00\x00".to_vec();
        header.extend([0; 8]);
        for word in [own, other, 2 + array, last - array - 1] {
            header.extend(word.to_le_bytes());
        }
        header.extend(Guid::from_u128(0xd15c).to_disk());
        header.extend(at.to_le_bytes());
        for word in [128, 128, crc32fast::hash(&entries)] {
            header.extend(word.to_le_bytes());
        }
        let checksum = crc32fast::hash(&header);
        header[16..20].copy_from_slice(&checksum.to_le_bytes());
        disk.write_at(at * sector, &entries).unwrap();
        disk.write_at(own * sector, &header).unwrap();
    };
    copy(1, last, 2);
    copy(last, 1, last - array);
    // Protective MBR, which other tools want to see.
    let mut mbr = [0; 512];
    mbr[446..462].copy_from_slice(&[
        0, 0, 2, 0, 0xee, 0xff, 0xff, 0xff, 1, 0, 0, 0, 0xff, 0xff, 0xff, 0xff,
    ]);
    mbr[510..].copy_from_slice(&[0x55, 0xaa]);
    disk.write_at(0, &mbr).unwrap();
    disk.flush().unwrap();
}
