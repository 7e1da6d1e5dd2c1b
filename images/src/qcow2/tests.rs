//! A small independent reader; tests/tools.rs asks qemu-img as well.

use super::*;

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_be_bytes(bytes[at..at + 8].try_into().unwrap())
}

fn at(offset: u64) -> usize {
    usize::try_from(offset).unwrap()
}

/// Unpacks the whole image and checks that every reference count is what the tables say.
fn read(file: &[u8]) -> Vec<u8> {
    assert_eq!(&file[..8], b"QFI\xfb\0\0\0\x03");
    let (size, l1, refcounts) = (u64_at(file, 24), at(u64_at(file, 40)), at(u64_at(file, 48)));
    let total = file.len().div_ceil(CLUSTER);
    let mut used = vec![0u16; total];
    let mut mark = |first: u64, last: u64| {
        (at(first) / CLUSTER..=at(last) / CLUSTER).for_each(|c| used[c] += 1);
    };
    mark(0, 0);
    mark(l1 as u64, l1 as u64);

    let mut out = Vec::new();
    for index in 0..at(size).div_ceil(CLUSTER) {
        let table = u64_at(file, l1 + index / L2_ENTRIES * 8) & !COPIED;
        if index % L2_ENTRIES == 0 {
            mark(table, table);
        }
        let entry = u64_at(file, at(table) + index % L2_ENTRIES * 8);
        if entry == 0 {
            out.resize(out.len() + CLUSTER, 0);
        } else if entry & COMPRESSED != 0 {
            let offset = entry & ((1 << SECTORS_SHIFT) - 1);
            let sectors = (entry & !COMPRESSED) >> SECTORS_SHIFT;
            let end = (offset / 512 + sectors + 1) * 512;
            mark(offset, end - 1);
            // The length is only known in sectors: a reader stops when the cluster is full.
            let mut decoder = zstd::stream::read::Decoder::new(&file[at(offset)..at(end)])
                .unwrap()
                .single_frame();
            let before = out.len();
            decoder.read_to_end(&mut out).unwrap();
            assert_eq!(out.len() - before, CLUSTER);
        } else {
            let offset = entry & !COPIED;
            assert!(offset.is_multiple_of(CLUSTER_U64));
            mark(offset, offset);
            out.extend_from_slice(&file[at(offset)..][..CLUSTER]);
        }
    }
    let block = u64_at(file, refcounts);
    mark(refcounts as u64, refcounts as u64);
    mark(block, block);
    for (cluster, count) in used.iter().enumerate() {
        let stored = &file[at(block) + cluster * 2..][..2];
        assert_eq!(
            u16::from_be_bytes(stored.try_into().unwrap()),
            *count,
            "cluster {cluster}"
        );
    }
    out.truncate(at(size));
    out
}

#[test]
fn reads_back_with_empty_compressible_and_random_clusters() {
    let folder = tempfile::tempdir().unwrap();
    let (raw, one, two) = (
        folder.path().join("raw"),
        folder.path().join("1"),
        folder.path().join("2"),
    );
    let mut image = vec![0u8; 40 * CLUSTER + 512];
    image[..5].copy_from_slice(b"first");
    image[3 * CLUSTER + 7..][..90_000].fill(0x41);
    let mut state = 1u32;
    for byte in &mut image[10 * CLUSTER..13 * CLUSTER + 99] {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        *byte = state.to_be_bytes()[0];
    }
    *image.last_mut().unwrap() = 9;
    std::fs::write(&raw, &image).unwrap();

    let size = convert(&raw, &one).unwrap();
    convert(&raw, &two).unwrap();
    let bytes = std::fs::read(&one).unwrap();
    assert_eq!(bytes.len() as u64, size);
    assert!(bytes == std::fs::read(&two).unwrap());
    assert!(bytes.len() < 15 * CLUSTER);
    assert!(read(&bytes) == image);
}

#[test]
fn refcounts_cover_themselves() {
    for used in [
        1,
        REFCOUNTS - 2,
        REFCOUNTS - 1,
        REFCOUNTS,
        5 * REFCOUNTS,
        L2_ENTRIES * REFCOUNTS,
    ] {
        let (blocks, table) = refcount_clusters(used);
        assert!(blocks * REFCOUNTS >= used + blocks + table);
        assert!(table * L2_ENTRIES >= blocks);
    }
}

#[test]
fn an_empty_image_is_a_valid_file() {
    let folder = tempfile::tempdir().unwrap();
    let (raw, qcow2) = (folder.path().join("raw"), folder.path().join("q"));
    std::fs::write(&raw, vec![0; 100 * CLUSTER]).unwrap();
    convert(&raw, &qcow2).unwrap();
    assert!(read(&std::fs::read(&qcow2).unwrap()) == vec![0; 100 * CLUSTER]);
}
