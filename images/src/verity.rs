//! dm-verity: the hash tree behind a read-only root file system.
//!
//! The format is that of `veritysetup` (superblock version 1, hash type 1: salt before data), so
//! that its tools can check our images: file system, then one block with the superblock, then the
//! tree from the top level down. The kernel's table needs the hash area to start one block after
//! the superblock, at data block count + 1.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use tempfile::NamedTempFile;

use crate::digest::{HashingWriter, Sha256Digest};
use crate::{id, publish};

/// Bytes per data block and hash block: the page size, and what erofs uses.
pub const BLOCK: usize = 4096;
const BLOCK_U64: u64 = 4096;

/// Digests per hash block.
const FANOUT: usize = BLOCK / 32;

/// What the salt is the hash of. The same for all builds: blocks that two builds share then have the
/// same hashes, or a delta between them would hold most of the tree (a hundredth of the whole).
const SALT: &[u8] = b"keelson verity salt";

/// A root file system with its tree, and what the kernel must be told about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sealed {
    /// Hash of the top block; whoever trusts it can trust every byte of the file system.
    pub root_hash: Sha256Digest,
    /// Salt of every hash: [`SALT`].
    pub salt: Sha256Digest,
    /// Blocks of file system; the superblock is the next one.
    pub data_blocks: u64,
    /// Bytes of the whole: file system, superblock and tree.
    pub size: u64,
    /// SHA-256 of the whole.
    pub sha256: Sha256Digest,
}

/// Why a tree could not be made.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// The file system is empty.
    #[error("{path} is empty: there is no file system to protect")]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// The file system cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The result cannot be written.
    #[error("cannot write {path}")]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// Copies the file system in `filesystem` to `image`, padded to whole blocks, and appends its
/// superblock and hash tree. `image` appears whole or not at all.
pub fn seal(filesystem: &Path, image: &Path) -> Result<Sealed, SealError> {
    let read = |source| SealError::Read {
        path: filesystem.into(),
        source,
    };
    let write = |source| SealError::Write {
        path: image.into(),
        source,
    };

    let source = File::open(filesystem).map_err(read)?;
    let mut out = NamedTempFile::new_in(publish::folder_of(image)).map_err(write)?;
    let (content, len) = {
        let mut hashing = HashingWriter::new(out.as_file_mut());
        io::copy(&mut BufReader::new(source), &mut hashing).map_err(write)?;
        let (_, content, len) = hashing.finish();
        (content, len)
    };
    if len == 0 {
        return Err(SealError::Empty {
            path: filesystem.into(),
        });
    }
    let data_blocks = len.div_ceil(BLOCK_U64);
    let file = out.as_file_mut();
    file.set_len(data_blocks * BLOCK_U64).map_err(write)?;

    let salt = Sha256Digest::of(SALT);
    file.seek(SeekFrom::Start(0)).map_err(write)?;
    let leaves = hash_blocks(&*file, &salt).map_err(write)?;
    let tree = Tree::over(leaves, &salt);

    file.seek(SeekFrom::End(0)).map_err(write)?;
    file.write_all(&superblock(&salt, &content, data_blocks))
        .map_err(write)?;
    for level in tree.levels.iter().rev() {
        file.write_all(level).map_err(write)?;
    }
    let size = publish::publish(out, image).map_err(write)?;
    let sha256 = Sha256Digest::of_file(image).map_err(write)?;
    Ok(Sealed {
        root_hash: tree.root,
        salt,
        data_blocks,
        size,
        sha256,
    })
}

/// Hash blocks of all levels, the one over the data first, and the hash of the top block.
struct Tree {
    levels: Vec<Vec<u8>>,
    root: Sha256Digest,
}

impl Tree {
    /// Even a single data block gets a level: the root hash is always that of a hash block,
    /// unless there is exactly one data block, whose hash is then the root (as veritysetup has it).
    fn over(leaves: Vec<Sha256Digest>, salt: &Sha256Digest) -> Self {
        let mut levels = Vec::new();
        let mut digests = leaves;
        loop {
            if let [root] = digests.as_slice() {
                return Self {
                    root: *root,
                    levels,
                };
            }
            let level: Vec<u8> = digests.chunks(FANOUT).flat_map(hash_block).collect();
            digests = level
                .chunks(BLOCK)
                .map(|block| salted(salt, block))
                .collect();
            levels.push(level);
        }
    }
}

/// One block of digests, zeros after the last one.
fn hash_block(digests: &[Sha256Digest]) -> [u8; BLOCK] {
    let mut block = [0; BLOCK];
    for (to, from) in block.chunks_exact_mut(32).zip(digests) {
        to.copy_from_slice(from.as_bytes());
    }
    block
}

fn hash_blocks(mut data: impl Read, salt: &Sha256Digest) -> io::Result<Vec<Sha256Digest>> {
    let mut digests = Vec::new();
    let mut chunk = vec![0; 256 * BLOCK];
    loop {
        let mut filled = 0;
        while filled < chunk.len() {
            match data.read(chunk.split_at_mut(filled).1)? {
                0 => break,
                n => filled += n,
            }
        }
        if filled == 0 {
            return Ok(digests);
        }
        digests.extend(
            chunk
                .split_at(filled)
                .0
                .chunks(BLOCK)
                .map(|block| salted(salt, block)),
        );
    }
}

fn salted(salt: &Sha256Digest, block: &[u8]) -> Sha256Digest {
    let mut hash = Sha256::new();
    hash.update(salt.as_bytes());
    hash.update(block);
    <[u8; 32]>::from(hash.finalize()).into()
}

/// The superblock of cryptsetup's lib/verity/verity.c, padded to a block.
fn superblock(salt: &Sha256Digest, content: &Sha256Digest, data_blocks: u64) -> [u8; BLOCK] {
    let uuid = id::guid(content, "verity").to_u128().to_be_bytes();
    let block_size = 4096u32.to_le_bytes();
    let fields: [(usize, &[u8]); 10] = [
        (0, b"verity\0\0"),
        (8, &1u32.to_le_bytes()),
        (12, &1u32.to_le_bytes()),
        (16, &uuid),
        (32, b"sha256"),
        (64, &block_size),
        (68, &block_size),
        (72, &data_blocks.to_le_bytes()),
        (80, &32u16.to_le_bytes()),
        (88, salt.as_bytes()),
    ];
    let mut block = [0; BLOCK];
    for (offset, bytes) in fields {
        for (to, from) in block.iter_mut().skip(offset).zip(bytes) {
            *to = *from;
        }
    }
    block
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sealed(len: usize) -> (Sealed, Vec<u8>) {
        let folder = tempfile::tempdir().unwrap();
        let (fs, image) = (folder.path().join("fs"), folder.path().join("image"));
        std::fs::write(&fs, [b"data".as_slice(), &vec![7; len - 4]].concat()).unwrap();
        (seal(&fs, &image).unwrap(), std::fs::read(image).unwrap())
    }

    #[test]
    fn shape_for_one_two_and_many_levels() {
        // data blocks, tree blocks
        for (blocks, tree) in [
            (1u64, 0u64),
            (2, 1),
            (128, 1),
            (129, 3),
            (300, 4),
            (128 * 128 + 1, 132),
        ] {
            let (sealed, image) = sealed(usize::try_from(blocks).unwrap() * BLOCK - 5);
            assert_eq!(sealed.data_blocks, blocks);
            assert_eq!(
                sealed.size,
                (blocks + 1 + tree) * BLOCK_U64,
                "{blocks} blocks"
            );
            assert_eq!(image.len() as u64, sealed.size);
        }
    }

    #[test]
    fn every_block_hashes_up_to_the_root() {
        let (sealed, image) = sealed(200 * BLOCK);
        let block = |n: usize| &image[n * BLOCK..][..BLOCK];
        // Block 200 is the superblock, 201 the top, 202 and 203 the level over the data.
        assert_eq!(salted(&sealed.salt, block(201)), sealed.root_hash);
        for (i, leaf) in [202, 203].into_iter().enumerate() {
            assert_eq!(
                salted(&sealed.salt, block(leaf)).as_bytes()[..],
                block(201)[i * 32..][..32]
            );
        }
        assert_eq!(
            salted(&sealed.salt, block(130)).as_bytes()[..],
            block(203)[2 * 32..][..32]
        );
        assert_eq!(&block(200)[..8], b"verity\0\0");
    }

    /// Root hashes that `veritysetup format --salt SALT` (cryptsetup 2.7.5) gives for the same
    /// data and salt.
    #[test]
    fn known_vectors() {
        let salt = "c1e2d750f1596adcc41dd43938b8e4020e4be66be0c1d18a9ed5ca89e042c8d0";
        for (blocks, root) in [
            (
                5,
                "2c23354862e42af2bb7e4cfd33d5d1c6a4a74b84716a3a9ee904fc85982c2981",
            ),
            (
                200,
                "49f2f2dc0acaf6cf0478d713a70f5ca710eba99aae3a15e9ebd5d0bf03ede2c5",
            ),
        ] {
            let (sealed, image) = sealed(blocks * BLOCK);
            assert_eq!(sealed.salt.to_string(), salt);
            assert_eq!(sealed.root_hash.to_string(), root);
            assert_eq!(
                image,
                self::sealed(blocks * BLOCK).1,
                "same input, same bytes"
            );
        }
    }

    #[test]
    fn an_empty_file_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let (fs, image) = (folder.path().join("fs"), folder.path().join("image"));
        std::fs::write(&fs, b"").unwrap();
        assert!(matches!(seal(&fs, &image), Err(SealError::Empty { .. })));
        assert!(!image.exists());
    }
}
