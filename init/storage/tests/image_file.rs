//! The partition table of a sparse image file, checked with a reader that is not ours.
#![expect(clippy::unwrap_used, reason = "a helper that fails fails the test")]

mod shipped_image;

use std::fs::File;
use std::path::Path;

use keelson_bootstate::Guid;
use keelson_bootstate::layout::{MIB, Partition};
use keelson_storage::{
    DiskFacts, DiskFile, DiskStep, Extents, Mark, TableError, plan_table, prepare_table,
};

const GIB: u64 = 1024 * MIB;

fn image(path: &Path, size: u64, sector_size: u32) -> DiskFile {
    File::create(path)
        .unwrap()
        .set_len(size.max(shipped_image::image_size()))
        .unwrap();
    let disk = DiskFile::open_with_sector_size(path, sector_size).unwrap();
    shipped_image::write_image(&disk);
    File::options()
        .write(true)
        .open(path)
        .unwrap()
        .set_len(size)
        .unwrap();
    DiskFile::open_with_sector_size(path, sector_size).unwrap()
}

fn prepare(disk: &DiskFile) -> Result<Extents, TableError> {
    prepare_table(disk, Guid::from_u128(0xda7a), &|_| {})
}

/// Both copies by the `gpt` crate: `(name, first byte, length, attributes)` of each partition.
fn read_by_others(path: &Path, sector_size: u32) -> Vec<(String, u64, u64, u64)> {
    let size = match sector_size {
        512 => gpt::disk::LogicalBlockSize::Lb512,
        _ => gpt::disk::LogicalBlockSize::Lb4096,
    };
    let table = gpt::GptConfig::new()
        .logical_block_size(size)
        .open(path)
        .unwrap();
    let primary = table.primary_header().unwrap();
    let backup = table.backup_header().unwrap();
    let last = std::fs::metadata(path).unwrap().len() / u64::from(sector_size) - 1;
    assert_eq!((primary.current_lba, primary.backup_lba), (1, last));
    assert_eq!((backup.current_lba, backup.backup_lba), (last, 1));
    assert_eq!(primary.crc32_parts, backup.crc32_parts);
    let sector = u64::from(sector_size);
    let describe = |p: &gpt::partition::Partition| {
        (
            p.name.clone(),
            p.first_lba * sector,
            (p.last_lba - p.first_lba + 1) * sector,
            p.flags,
        )
    };
    table.partitions().values().map(describe).collect()
}

#[test]
fn data_is_added_and_grows_with_the_disk() {
    let folder = tempfile::tempdir().unwrap();
    for sector_size in [512, 4096] {
        let path = folder.path().join("disk");
        let disk = image(&path, 2 * GIB, sector_size);
        let first = prepare(&disk).unwrap();
        assert_eq!(first.data.start + first.data.length, 2 * GIB - MIB);
        assert_eq!(first.state.length, Partition::State.size().unwrap());

        let seen = read_by_others(&path, sector_size);
        assert_eq!(seen.len(), 11);
        assert_eq!(
            seen[10],
            ("DATA".to_owned(), first.data.start, first.data.length, 0)
        );
        assert!(
            seen[..10].iter().all(|(_, _, _, flags)| *flags == 1 << 60),
            "{seen:?}"
        );

        // A second boot writes nothing.
        let again = plan_table(&DiskFacts::read(&disk), Guid::ZERO).unwrap();
        assert_eq!((again.steps, again.data), (Vec::new(), first.data));

        File::options()
            .write(true)
            .open(&path)
            .unwrap()
            .set_len(3 * GIB + 12345 * 4096)
            .unwrap();
        let disk = DiskFile::open_with_sector_size(&path, sector_size).unwrap();
        let grown = prepare(&disk).unwrap();
        assert_eq!(
            (grown.data.number, grown.data.start),
            (first.data.number, first.data.start)
        );
        assert!(grown.data.length > first.data.length + GIB);
        assert_eq!(read_by_others(&path, sector_size)[10].2, grown.data.length);
    }
}

#[test]
fn unfit_disks_give_a_clear_line_and_are_not_written() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("disk");
    let refused = |disk: &DiskFile, text: &str| {
        let before = DiskFacts::read(disk);
        let error = prepare(disk).unwrap_err();
        assert_eq!(
            keelson_control::chain(&error),
            format!("cannot use this disk: {text}")
        );
        assert_eq!(DiskFacts::read(disk).primary.ok(), before.primary.ok());
    };
    let disk = image(&path, GIB, 512);
    refused(
        &disk,
        "the disk has 1 GiB, a node needs at least 2 GiB; use a larger disk",
    );

    let disk = image(&path, 3 * GIB, 512);
    prepare(&disk).unwrap();
    File::options()
        .write(true)
        .open(&path)
        .unwrap()
        .set_len(2 * GIB)
        .unwrap();
    refused(
        &DiskFile::open(&path).unwrap(),
        "the disk has 2 GiB, but its partition 11 ends at 2.9 GiB; the image was not written \
         completely or the disk was made smaller: use a larger disk",
    );

    File::create(&path).unwrap().set_len(2 * GIB).unwrap();
    refused(
        &DiskFile::open(&path).unwrap(),
        "the disk has no valid partition table (first copy: no GUID partition table; second copy: \
         no GUID partition table); write the image to the disk again",
    );
}

#[test]
fn a_damaged_copy_is_repaired_from_the_other() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("disk");
    let disk = image(&path, 2 * GIB, 512);
    let wanted = prepare(&disk).unwrap();
    let seen = read_by_others(&path, 512);
    for damaged in [512, 1024, 2 * GIB - 512, 2 * GIB - 1024] {
        std::os::unix::fs::FileExt::write_all_at(disk.file(), &[0x5a; 512], damaged).unwrap();
        assert_eq!(prepare(&disk).unwrap(), wanted);
        assert_eq!(read_by_others(&path, 512), seen, "damage at {damaged}");
    }
}

#[test]
fn space_for_data_is_marked_before_the_table_has_it() {
    let folder = tempfile::tempdir().unwrap();
    let disk = image(&folder.path().join("disk"), 2 * GIB, 512);
    let plan = plan_table(&DiskFacts::read(&disk), Guid::from_u128(1)).unwrap();
    let [DiskStep::Write { offset, bytes }, DiskStep::Flush, ..] = plan.steps.as_slice() else {
        panic!("{:?}", plan.steps);
    };
    assert_eq!(Mark::read(bytes), Some(Mark::Unfinished));
    assert_eq!(offset + 4096, plan.data.end());
}
