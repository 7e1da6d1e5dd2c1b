//! Tells what is on a block device by the marks that file systems and partition tables leave.
//!
//! kubelet formats a disk on which nothing is found: a mark that is missing here costs data, so
//! the list is wide. It has the marks that libblkid of util-linux looks for at fixed places, and
//! Linux's software RAID at the end of a disk; firmware RAID and DRBD are not recognised.

use std::io::{self, Read, Seek, SeekFrom};

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Found {
    /// Name of the file system, as the kernel and kubelet call it.
    pub(crate) fs_type: Option<String>,
    /// `gpt` or `dos`.
    pub(crate) table: Option<&'static str>,
}

/// A mark at a place that says one thing.
struct Mark {
    offset: u64,
    bytes: &'static [u8],
    name: &'static str,
}

const fn mark(offset: u64, bytes: &'static [u8], name: &'static str) -> Mark {
    Mark {
        offset,
        bytes,
        name,
    }
}

/// Offsets and magic numbers as in libblkid/src/superblocks of util-linux. ext, FAT, swap, ZFS
/// and RAID at the end have rules of their own below.
const MARKS: &[Mark] = &[
    mark(0, b"XFSB", "xfs"),
    mark(0x10040, b"_BHRfS_M", "btrfs"),
    mark(1024, b"\xe2\xe1\xf5\xe0", "erofs"),
    mark(1024, b"\x10\x20\xf5\xf2", "f2fs"),
    mark(0, b"hsqs", "squashfs"),
    mark(0, b"LUKS\xba\xbe", "crypto_LUKS"),
    mark(0x4000, b"SKUL\xba\xbe", "crypto_LUKS"),
    mark(536, b"LVM2 001", "LVM2_member"),
    mark(24, b"LVM2 001", "LVM2_member"),
    mark(1048, b"LVM2 001", "LVM2_member"),
    mark(1560, b"LVM2 001", "LVM2_member"),
    mark(0, RAID_MAGIC, "linux_raid_member"),
    mark(4096, RAID_MAGIC, "linux_raid_member"),
    mark(0, b"bluestore block device", "ceph_bluestore"),
    mark(4096 + 24, b"\xc6\x85\x73\xf6\x4e\x1a\x45\xca", "bcache"),
    mark(4096 + 24, b"\xc6\x85\x73\xf6\x66\xce\x90\xa9", "bcachefs"),
    mark(3, b"NTFS    ", "ntfs"),
    mark(3, b"EXFAT   ", "exfat"),
    mark(0x8001, b"CD001", "iso9660"),
    mark(0x8001, b"BEA01", "udf"),
    mark(0x8001, b"NSR02", "udf"),
    mark(0x8001, b"NSR03", "udf"),
    mark(0x10034, b"ReIsErFs", "reiserfs"),
    mark(0x10034, b"ReIsEr2Fs", "reiserfs"),
    mark(0x10034, b"ReIsEr3Fs", "reiserfs"),
    mark(0x8000, b"JFS1", "jfs"),
    mark(0x10000, b"\x01\x16\x19\x70", "gfs2"),
    mark(8192, b"OracleCFS", "ocfs"),
    mark(1024, b"OCFSV2", "ocfs2"),
    mark(2048, b"OCFSV2", "ocfs2"),
    mark(4096, b"OCFSV2", "ocfs2"),
    mark(8192, b"OCFSV2", "ocfs2"),
    mark(32, b"ORCLDISK", "oracleasm"),
    mark(0x20_0000, b"\x5e\xf1\xab\x2f", "VMFS"),
    mark(0x10_0000, b"\x0d\xd0\x01\xc0", "VMFS_volume_member"),
    mark(1030, b"\x34\x34", "nilfs2"),
    mark(0, b"dmvdo001", "vdo"),
    mark(516, b"!Stra0tis\x86\xff\x02^\x41rh", "stratis"),
    mark(4612, b"!Stra0tis\x86\xff\x02^\x41rh", "stratis"),
    mark(0, b"\x45\x3d\xcd\x28", "cramfs"),
    mark(1024, b"H+", "hfsplus"),
    mark(1024, b"HX", "hfsplus"),
    mark(32, b"NXSB", "apfs"),
];

/// ZFS keeps a ring of 128 blocks of 1 KiB here, any of which may be the newest.
const ZFS_RING: u64 = 128 * 1024;
const ZFS_MAGIC: u64 = 0x00ba_b10c;

/// Linux software RAID, metadata 0.90 to 1.2.
const RAID_MAGIC: &[u8] = b"\xfc\x4e\x2b\xa9";

/// Page sizes of all machines that could have made a swap area.
const PAGES: [u64; 5] = [4096, 8192, 16384, 32768, 65536];

/// Looks at a device (or a file).
pub(crate) fn identify(device: &mut (impl Read + Seek)) -> io::Result<Found> {
    let start = read(device, 0, 4096)?;
    let mut fs_type = ext(&read(device, 1024, 1024)?).map(str::to_owned);
    for mark in MARKS {
        if fs_type.is_some() {
            break;
        }
        let length = u64::try_from(mark.bytes.len()).unwrap_or(u64::MAX);
        if read(device, mark.offset, length)? == mark.bytes {
            fs_type = Some(mark.name.to_owned());
        }
    }
    if fs_type.is_none() {
        let special = fat(&start)
            .or(swap(device)?)
            .or(raid_at_end(device)?)
            .or(zfs(device)?);
        fs_type = special.map(str::to_owned);
    }
    // The boot sectors of these begin like an old partition table.
    let boot_sector = matches!(fs_type.as_deref(), Some("vfat" | "ntfs" | "exfat"));
    let table = if has_gpt(device)? {
        Some("gpt")
    } else if !boot_sector && has_dos_table(&start) {
        Some("dos")
    } else {
        None
    };
    Ok(Found { fs_type, table })
}

/// What is there, which may be less than asked for.
fn read(device: &mut (impl Read + Seek), offset: u64, length: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    device.seek(SeekFrom::Start(offset))?;
    device.take(length).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn ext(superblock: &[u8]) -> Option<&'static str> {
    const HAS_JOURNAL: u32 = 0x4;
    /// Everything ext3 knows; one more bit makes it ext4 (libblkid, superblocks/ext.c).
    const EXT3_INCOMPATIBLE: u32 = 0x2 | 0x4 | 0x10;
    const EXT3_READ_ONLY: u32 = 0x1 | 0x2 | 0x4;
    const JOURNAL_DEVICE: u32 = 0x8;
    if superblock.get(56..58)? != [0x53, 0xef] {
        return None;
    }
    let word = |at: usize| {
        superblock
            .get(at..at + 4)
            .and_then(|bytes| bytes.try_into().ok())
            .map(u32::from_le_bytes)
    };
    let (compatible, incompatible, read_only) = (word(92)?, word(96)?, word(100)?);
    if incompatible & JOURNAL_DEVICE != 0 {
        return Some("jbd");
    }
    if incompatible & !EXT3_INCOMPATIBLE != 0 || read_only & !EXT3_READ_ONLY != 0 {
        return Some("ext4");
    }
    Some(if compatible & HAS_JOURNAL != 0 {
        "ext3"
    } else {
        "ext2"
    })
}

fn fat(start: &[u8]) -> Option<&'static str> {
    if start.get(510..512)? != [0x55, 0xaa] {
        return None;
    }
    let named = |at: usize, name: &[u8]| start.get(at..at + name.len()) == Some(name);
    let sector = u16::from_le_bytes(start.get(11..13)?.try_into().ok()?);
    let plausible =
        sector.is_power_of_two() && (512..=4096).contains(&sector) && start[13].is_power_of_two();
    let marked = named(54, b"FAT12   ")
        || named(54, b"FAT16   ")
        || named(82, b"FAT32   ")
        || named(54, b"MSDOS");
    (plausible && marked).then_some("vfat")
}

fn swap(device: &mut (impl Read + Seek)) -> io::Result<Option<&'static str>> {
    for page in PAGES {
        match read(device, page - 10, 10)?.as_slice() {
            b"SWAPSPACE2" | b"SWAP-SPACE" => return Ok(Some("swap")),
            b"S1SUSPEND\0" | b"S2SUSPEND\0" | b"ULSUSPEND\0" | b"LINHIB0001" => {
                return Ok(Some("swsuspend"));
            }
            _ => {}
        }
    }
    Ok(None)
}

/// Metadata 0.90 is in the last whole 64 KiB but one, 1.0 is 8 KiB before the end.
fn raid_at_end(device: &mut (impl Read + Seek)) -> io::Result<Option<&'static str>> {
    let size = device.seek(SeekFrom::End(0))?;
    let old = (size & !0xffff).checked_sub(0x1_0000);
    let new = size.checked_sub(0x2000).map(|offset| offset & !0xfff);
    for offset in [old, new].into_iter().flatten() {
        if read(device, offset, 4)? == RAID_MAGIC {
            return Ok(Some("linux_raid_member"));
        }
    }
    Ok(None)
}

fn zfs(device: &mut (impl Read + Seek)) -> io::Result<Option<&'static str>> {
    let ring = read(device, ZFS_RING, 128 * 1024)?;
    let found = ring.chunks_exact(1024).any(|block| {
        let first: [u8; 8] = block[..8].try_into().unwrap_or_default();
        u64::from_le_bytes(first) == ZFS_MAGIC || u64::from_be_bytes(first) == ZFS_MAGIC
    });
    Ok(found.then_some("zfs_member"))
}

/// Looks behind the first sector of either size, and at the copy at the end.
fn has_gpt(device: &mut (impl Read + Seek)) -> io::Result<bool> {
    let size = device.seek(SeekFrom::End(0))?;
    let places = [
        Some(512),
        Some(4096),
        size.checked_sub(512),
        size.checked_sub(4096),
    ];
    for offset in places.into_iter().flatten() {
        if read(device, offset, 8)? == b"EFI PART" {
            return Ok(true);
        }
    }
    Ok(false)
}

fn has_dos_table(start: &[u8]) -> bool {
    if start.get(510..512) != Some(&[0x55, 0xaa]) {
        return false;
    }
    let entries: Vec<&[u8]> = start[446..510].chunks_exact(16).collect();
    let valid = entries.iter().all(|entry| matches!(entry[0], 0 | 0x80));
    valid && entries.iter().any(|entry| entry[4] != 0)
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Cursor;
    use std::process::Command;

    use proptest::prelude::*;

    use super::*;

    fn image(size: usize, marks: &[(usize, &[u8])]) -> Cursor<Vec<u8>> {
        let mut bytes = vec![0; size];
        for (offset, mark) in marks {
            bytes[*offset..*offset + mark.len()].copy_from_slice(mark);
        }
        Cursor::new(bytes)
    }

    fn fs_type(image: &mut Cursor<Vec<u8>>) -> Option<String> {
        identify(image).unwrap().fs_type
    }

    #[test]
    fn an_empty_disk_is_empty() {
        assert_eq!(
            identify(&mut image(1 << 20, &[])).unwrap(),
            Found::default()
        );
        assert_eq!(identify(&mut image(0, &[])).unwrap(), Found::default());
        assert_eq!(identify(&mut image(700, &[])).unwrap(), Found::default());
    }

    #[test]
    fn every_mark_is_found() {
        for mark in MARKS {
            let offset = usize::try_from(mark.offset).unwrap();
            let mut disk = image(4 << 20, &[(offset, mark.bytes)]);
            assert_eq!(fs_type(&mut disk).as_deref(), Some(mark.name));
        }
        assert_eq!(
            fs_type(&mut image(1 << 20, &[(65526, b"SWAPSPACE2")])).as_deref(),
            Some("swap")
        );
        for offset in [(1 << 20) - 0x1_0000, (1 << 20) - 0x2000] {
            let mut disk = image(1 << 20, &[(offset, RAID_MAGIC)]);
            assert_eq!(fs_type(&mut disk).as_deref(), Some("linux_raid_member"));
        }
        let uberblock = 0x00ba_b10c_u64.to_be_bytes();
        assert_eq!(
            fs_type(&mut image(1 << 20, &[(131_072 + 5 * 1024, &uberblock)])).as_deref(),
            Some("zfs_member")
        );
    }

    #[test]
    fn tables_are_found_and_boot_sectors_are_not_taken_for_one() {
        assert_eq!(
            identify(&mut image(1 << 20, &[(512, b"EFI PART")]))
                .unwrap()
                .table,
            Some("gpt")
        );
        assert_eq!(
            identify(&mut image(1 << 20, &[((1 << 20) - 512, b"EFI PART")]))
                .unwrap()
                .table,
            Some("gpt")
        );
        let dos: &[(usize, &[u8])] = &[(450, &[0x83]), (510, &[0x55, 0xaa])];
        assert_eq!(
            identify(&mut image(1 << 20, dos)).unwrap().table,
            Some("dos")
        );
        let ntfs: &[(usize, &[u8])] = &[(3, b"NTFS    "), (450, &[0x83]), (510, &[0x55, 0xaa])];
        assert_eq!(identify(&mut image(1 << 20, ntfs)).unwrap().table, None);
        assert_eq!(
            identify(&mut image(1 << 20, &[(510, &[0x55, 0xaa])])).unwrap(),
            Found::default()
        );
    }

    /// The real programs agree, where they are installed.
    #[test]
    fn what_mkfs_makes_is_recognised() {
        let folder = tempfile::tempdir().unwrap();
        let makers: [(&str, &[&str], &str); 6] = [
            ("mkfs.ext4", &["-qF", "-m0"], "ext4"),
            ("mkfs.ext3", &["-qF"], "ext3"),
            ("mkfs.ext2", &["-qF"], "ext2"),
            ("mkfs.xfs", &["-qf"], "xfs"),
            ("mkfs.vfat", &[], "vfat"),
            ("mkswap", &[], "swap"),
        ];
        for (program, arguments, expected) in makers {
            let path = folder.path().join(program);
            File::create(&path).unwrap().set_len(320 << 20).unwrap();
            let Ok(output) = Command::new(program).args(arguments).arg(&path).output() else {
                eprintln!("skipped: no {program} here");
                continue;
            };
            assert!(output.status.success(), "{program}: {output:?}");
            let found = identify(&mut File::open(&path).unwrap()).unwrap();
            assert_eq!(
                found,
                Found {
                    fs_type: Some(expected.to_owned()),
                    table: None
                }
            );
        }
    }

    proptest! {
        #[test]
        fn any_content_is_handled(bytes in proptest::collection::vec(any::<u8>(), 0..6000), at in 0usize..2000) {
            let mut disk = vec![0; at];
            disk.extend(bytes);
            let _ = identify(&mut Cursor::new(disk)).unwrap();
        }
    }
}
