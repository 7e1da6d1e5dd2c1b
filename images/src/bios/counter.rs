//! The file system on GRUBENV. GRUB changes a file in place; it cannot make one.

use std::io::Cursor;

use hadris_fat::format::{FatFormatOptions, FatTypeSelection, FatVolumeFormatter};
use hadris_fat::time::EpochTimeProvider;
use hadris_fat::{FatVolumeBuilder, FatVolumeWriteExt};
use keelson_bootstate::grub_env::BLOCK_SIZE;
use keelson_bootstate::layout::MIB;

/// One cluster holds a block, so a file lies in one piece.
const SECTORS_PER_CLUSTER: u8 = 2;

/// Nobody looks for this file system by its number.
const VOLUME_ID: u32 = 0x6b65_656c;

/// Why there is no file system.
#[derive(Debug, thiserror::Error)]
#[error("cannot make a FAT for GRUB's files")]
pub struct FormatCounterError(#[source] hadris_fat::Error);

/// A file system of one mebibyte, the size of GRUBENV, that holds these environment blocks as
/// files. GRUB itself needs one; tests have it choose many times in one start.
pub fn volume(blocks: &[(String, [u8; BLOCK_SIZE])]) -> Result<Vec<u8>, FormatCounterError> {
    format(blocks).map_err(FormatCounterError)
}

fn format(blocks: &[(String, [u8; BLOCK_SIZE])]) -> hadris_fat::Result<Vec<u8>> {
    let size = usize::try_from(MIB).unwrap_or_default();
    let mut bytes = Cursor::new(vec![0; size]);
    let options = FatFormatOptions::new(MIB)
        .fat_type(FatTypeSelection::Fat12)
        .sectors_per_cluster(SECTORS_PER_CLUSTER)
        .volume_id(VOLUME_ID);
    FatVolumeFormatter::format(&mut bytes, options)?;
    // It is opened where the writing stopped.
    bytes.set_position(0);
    let fs = FatVolumeBuilder::new(&mut bytes)
        .time_provider(&EpochTimeProvider)
        .open()?;
    let root = fs.root_dir();
    for (name, block) in blocks {
        let entry = fs.create_file(&root, name)?;
        let mut writer = fs.write_file(&entry)?;
        let mut left = &block[..];
        while !left.is_empty() {
            let written = writer.write(left)?;
            left = left.get(written..).unwrap_or_default();
        }
        writer.finish()?;
    }
    fs.sync()?;
    drop(fs);
    Ok(bytes.into_inner())
}

#[cfg(test)]
mod tests {
    use hadris_fat::{FatVolume, FatVolumeReadExt};
    use keelson_bootstate::Tries;
    use keelson_bootstate::grub_env::{decode_tries, encode_tries, find};

    use super::*;

    #[test]
    fn files_lie_in_one_piece_at_a_sector_and_read_back() {
        let blocks: Vec<_> = (0..100)
            .map(|n| (format!("tries-{n}"), encode_tries(Tries::Used(n % 4))))
            .collect();
        let bytes = volume(&blocks).unwrap();
        assert_eq!(bytes, volume(&blocks).unwrap(), "same input, same bytes");
        let fs = FatVolume::open(Cursor::new(&bytes)).unwrap();
        for (name, block) in &blocks {
            let entry = fs.open_path(name).unwrap();
            let content = fs.read_file(&entry).unwrap().read_to_vec().unwrap();
            assert_eq!(content, block, "{name}");
        }
        let starts = bytes
            .chunks_exact(512)
            .zip(bytes[512..].chunks_exact(512))
            .filter(|(first, second)| {
                let block = [*first, *second].concat();
                decode_tries(&block) != Tries::Unreadable
            });
        assert_eq!(starts.count(), blocks.len());
    }

    #[test]
    fn the_only_file_is_what_the_node_finds() {
        let block = encode_tries(Tries::FRESH);
        let bytes = volume(&[("grubenv".to_owned(), block)]).unwrap();
        assert_eq!(bytes.len(), 1024 * 1024);
        let at = find(&bytes).unwrap();
        assert_eq!(bytes[at..at + 1024], block);
        // Also when a power cut has torn its first sector.
        let mut torn = bytes.clone();
        torn[at..at + 512].fill(0xee);
        assert_eq!(find(&torn), Some(at));
    }
}
