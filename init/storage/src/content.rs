//! What the first bytes of a partition say about it.

/// Bytes from the start that are looked at: every common file system shows itself there.
pub(crate) const HEAD: usize = 1024 * 1024;

/// Where the ext4 superblock starts.
const SUPERBLOCK: usize = 1024;

/// What a partition holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// Nothing but zeros.
    Blank,
    /// An ext2, ext3 or ext4 file system.
    Ext(Superblock),
    /// Something else; the word is for people.
    Foreign(&'static str),
}

/// What is needed from an ext4 superblock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Superblock {
    /// Label.
    pub label: String,
    /// Number of blocks.
    pub blocks: u64,
    /// Bytes per block.
    pub block_size: u64,
    /// Unmounted properly, no error seen, no journal to replay.
    pub clean: bool,
}

impl Superblock {
    /// Size of the file system in bytes.
    pub fn bytes(&self) -> u64 {
        self.blocks.saturating_mul(self.block_size)
    }
}

impl Content {
    /// Looks at the first bytes.
    pub fn of(head: &[u8]) -> Self {
        if head.iter().all(|byte| *byte == 0) {
            return Self::Blank;
        }
        if let Some(superblock) = superblock(head) {
            return Self::Ext(superblock);
        }
        SIGNATURES
            .iter()
            .find(|(at, bytes, _)| head.get(*at..at + bytes.len()) == Some(*bytes))
            .map_or(Self::Foreign("unknown data"), |(_, _, name)| {
                Self::Foreign(name)
            })
    }
}

/// Place, bytes and name of what people are likely to have on a disk.
const SIGNATURES: &[(usize, &[u8], &str)] = &[
    (0, b"XFSB", "an XFS file system"),
    (0, b"LUKS\xba\xbe", "a LUKS volume"),
    (0, b"hsqs", "a squashfs image"),
    (3, b"NTFS    ", "an NTFS file system"),
    (54, b"FAT1", "a FAT file system"),
    (82, b"FAT32", "a FAT file system"),
    (512, b"LABELONE", "an LVM volume"),
    (SUPERBLOCK, b"\x10\x20\xf5\xf2", "an F2FS file system"),
    (SUPERBLOCK, b"\xe2\xe1\xf5\xe0", "an erofs image"),
    (4086, b"SWAPSPACE2", "swap space"),
    (4096, b"\xfc\x4e\x2b\xa9", "a RAID member"),
    (32769, b"CD001", "an ISO 9660 image"),
    (65600, b"_BHRfS_M", "a Btrfs file system"),
];

fn superblock(head: &[u8]) -> Option<Superblock> {
    let field = |at: usize| head.get(SUPERBLOCK + at..);
    let u16_at = |at| Some(u16::from_le_bytes(*field(at)?.first_chunk()?));
    let u32_at = |at| Some(u32::from_le_bytes(*field(at)?.first_chunk()?));
    const MAGIC: u16 = 0xef53;
    const STATE_CLEAN: u16 = 1;
    const INCOMPAT_RECOVER: u32 = 4;
    const INCOMPAT_64BIT: u32 = 0x80;
    if u16_at(0x38)? != MAGIC {
        return None;
    }
    let incompat = u32_at(0x60)?;
    let high = if incompat & INCOMPAT_64BIT == 0 {
        0
    } else {
        u32_at(0x150)?
    };
    // The kernel knows 1 KiB to 64 KiB.
    let block_bits = 10 + u32_at(0x18)?.min(6);
    let label = field(0x78)?.get(..16)?;
    let label = label.split(|byte| *byte == 0).next().unwrap_or_default();
    Some(Superblock {
        label: String::from_utf8_lossy(label).into_owned(),
        blocks: u64::from(high) << 32 | u64::from(u32_at(4)?),
        block_size: 1 << block_bits,
        clean: u16_at(0x3a)? == STATE_CLEAN && incompat & INCOMPAT_RECOVER == 0,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn foreign_content_has_a_name() {
        for (at, bytes, name) in SIGNATURES {
            let mut head = vec![0; HEAD];
            head[*at..at + bytes.len()].copy_from_slice(bytes);
            assert_eq!(Content::of(&head), Content::Foreign(name));
        }
        let mut head = vec![0; HEAD];
        assert_eq!(Content::of(&head), Content::Blank);
        head[HEAD - 1] = 1;
        assert_eq!(Content::of(&head), Content::Foreign("unknown data"));
    }

    proptest! {
        #[test]
        fn any_bytes_are_handled(head in prop::collection::vec(any::<u8>(), 0..4096), magic: bool) {
            let mut head = head;
            if magic && head.len() > 0x43a {
                head[0x438..0x43a].copy_from_slice(&[0x53, 0xef]);
            }
            if let Content::Ext(superblock) = Content::of(&head) {
                let _ = superblock.bytes();
            }
        }
    }
}
