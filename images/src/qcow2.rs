//! qcow2 files: a raw image with its empty parts left out and the rest compressed.
//!
//! Version 3 with zstd clusters, which QEMU reads since 5.1 (2020). The layout is fixed, so the
//! same raw image gives the same bytes: header, first-level table, second-level tables, data,
//! reference counts. A virtual machine that reads it often is better off with the raw image:
//! compressed clusters are unpacked again at every read.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use crate::{publish, sparse};

const CLUSTER_BITS: u32 = 16;
const CLUSTER: usize = 1 << CLUSTER_BITS;
const CLUSTER_U64: u64 = 1 << CLUSTER_BITS;
/// Second-level entries (8 bytes) and reference counts (2 bytes) that fit into a cluster.
const L2_ENTRIES: usize = CLUSTER / 8;
const REFCOUNTS: usize = CLUSTER / 2;

/// The entry's cluster is used once and may be written in place.
const COPIED: u64 = 1 << 63;
const COMPRESSED: u64 = 1 << 62;
/// In a compressed entry the number of further 512-byte sectors starts at this bit.
const SECTORS_SHIFT: u32 = 62 - (CLUSTER_BITS - 8);

/// Much of an image is compressed already; higher levels cost time for nothing.
const ZSTD_LEVEL: i32 = 9;

/// Why an image could not be converted.
#[derive(Debug, thiserror::Error)]
pub enum ConvertError {
    /// The raw image cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// The raw image.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The qcow2 file cannot be written.
    #[error("cannot write {path}")]
    Write {
        /// The qcow2 file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// Converts a raw image; `qcow2` appears whole or not at all. Gives the size of the file.
pub fn convert(raw: &Path, qcow2: &Path) -> Result<u64, ConvertError> {
    let read = |source| ConvertError::Read {
        path: raw.into(),
        source,
    };
    let write = |source| ConvertError::Write {
        path: qcow2.into(),
        source,
    };

    let input = File::open(raw).map_err(read)?;
    let size = input.metadata().map_err(read)?.len();
    let mut output = NamedTempFile::new_in(publish::folder_of(qcow2)).map_err(write)?;
    let layout = Layout::for_size(size).map_err(read)?;
    let mut writer = Writer {
        out: io::BufWriter::with_capacity(1 << 20, output.as_file_mut()),
        at: layout.data,
        l2: vec![0; layout.clusters],
        shared: Vec::new(),
    };
    writer
        .out
        .seek(SeekFrom::Start(layout.data))
        .map_err(write)?;
    let mut writing_failed = false;
    sparse::for_each_block(&input, CLUSTER, |index, bytes| {
        writer
            .cluster(index, bytes)
            .inspect_err(|_| writing_failed = true)
    })
    .map_err(|source| {
        if writing_failed {
            write(source)
        } else {
            read(source)
        }
    })?;
    writer.finish(&layout).map_err(write)?;
    publish::publish(output, qcow2).map_err(write)
}

/// Where the tables go, decided from the size alone.
struct Layout {
    size: u64,
    clusters: usize,
    l1_entries: usize,
    l2: u64,
    data: u64,
}

impl Layout {
    const L1: u64 = CLUSTER_U64;

    fn for_size(size: u64) -> io::Result<Self> {
        let clusters = usize::try_from(size.div_ceil(CLUSTER_U64)).map_err(io::Error::other)?;
        let l1_entries = clusters.div_ceil(L2_ENTRIES);
        let l1_clusters = l1_entries.div_ceil(L2_ENTRIES).max(1);
        let l2 = Self::L1 + as_u64(l1_clusters)? * CLUSTER_U64;
        let data = l2 + as_u64(l1_entries)? * CLUSTER_U64;
        Ok(Self {
            size,
            clusters,
            l1_entries,
            l2,
            data,
        })
    }
}

struct Writer<W: Write + Seek> {
    out: W,
    /// Where the next data goes.
    at: u64,
    /// Second-level entries of all clusters, one table after the other.
    l2: Vec<u64>,
    /// First and last byte of every piece of data, in order: what the reference counts count.
    shared: Vec<(u64, u64)>,
}

impl<W: Write + Seek> Writer<W> {
    fn cluster(&mut self, index: u64, bytes: &[u8]) -> io::Result<()> {
        let packed = zstd::bulk::compress(bytes, ZSTD_LEVEL)?;
        let (entry, data) = if packed.len() < CLUSTER {
            let last = self.at + as_u64(packed.len())? - 1;
            let further = (last >> 9) - (self.at >> 9);
            (
                COMPRESSED | (further << SECTORS_SHIFT) | self.at,
                packed.as_slice(),
            )
        } else {
            self.pad_to_cluster()?;
            (COPIED | self.at, bytes)
        };
        self.out.write_all(data)?;
        let end = self.at + as_u64(data.len())?;
        self.shared.push((self.at, end - 1));
        self.at = end;
        if let Some(slot) = self.l2.get_mut(to_usize(index)?) {
            *slot = entry;
        }
        Ok(())
    }

    fn pad_to_cluster(&mut self) -> io::Result<()> {
        let padding = self.at.next_multiple_of(CLUSTER_U64) - self.at;
        io::copy(&mut io::repeat(0).take(padding), &mut self.out)?;
        self.at += padding;
        Ok(())
    }

    /// Writes reference counts after the data, then the tables and the header in front of it.
    fn finish(mut self, layout: &Layout) -> io::Result<()> {
        self.pad_to_cluster()?;
        let counts_at = self.at;
        let used = to_usize(counts_at / CLUSTER_U64)?;
        let (blocks, table_clusters) = refcount_clusters(used);
        let total = used + blocks + table_clusters;

        let mut counts = vec![0u16; blocks * REFCOUNTS];
        let data_from = to_usize(layout.data / CLUSTER_U64)?;
        for (cluster, count) in counts.iter_mut().enumerate().take(total) {
            *count = u16::from(cluster < data_from || cluster >= used);
        }
        for (first, last) in &self.shared {
            let range = to_usize(first / CLUSTER_U64)?..=to_usize(last / CLUSTER_U64)?;
            for count in counts.get_mut(range).into_iter().flatten() {
                *count += 1;
            }
        }
        for count in &counts {
            self.out.write_all(&count.to_be_bytes())?;
        }
        let table_at = counts_at + as_u64(blocks)? * CLUSTER_U64;
        for block in 0..table_clusters * L2_ENTRIES {
            let offset = if block < blocks {
                counts_at + as_u64(block)? * CLUSTER_U64
            } else {
                0
            };
            self.out.write_all(&offset.to_be_bytes())?;
        }

        self.out.seek(SeekFrom::Start(0))?;
        self.out
            .write_all(&header(layout, table_at, as_u64(table_clusters)?)?)?;
        self.out.seek(SeekFrom::Start(Layout::L1))?;
        for table in 0..layout.l1_entries {
            let offset = layout.l2 + as_u64(table)? * CLUSTER_U64;
            self.out.write_all(&(COPIED | offset).to_be_bytes())?;
        }
        self.out.seek(SeekFrom::Start(layout.l2))?;
        for entry in &self.l2 {
            self.out.write_all(&entry.to_be_bytes())?;
        }
        self.out.flush()
    }
}

/// How many reference count blocks, and clusters of table for them, cover `used` clusters and
/// themselves.
fn refcount_clusters(used: usize) -> (usize, usize) {
    let (mut blocks, mut table) = (1, 1);
    loop {
        let total = used + blocks + table;
        let (needed, needed_table) = (total.div_ceil(REFCOUNTS), blocks.div_ceil(L2_ENTRIES));
        if needed <= blocks && needed_table <= table {
            return (blocks, table);
        }
        (blocks, table) = (needed.max(blocks), needed_table.max(table));
    }
}

/// The version 3 header with the compression type that follows its first 104 bytes.
fn header(layout: &Layout, refcounts_at: u64, refcount_clusters: u64) -> io::Result<Vec<u8>> {
    const INCOMPATIBLE_COMPRESSION_TYPE: u64 = 1 << 3;
    const REFCOUNT_ORDER: u32 = 4;
    const HEADER_LENGTH: u32 = 112;
    let l1_entries = u32::try_from(layout.l1_entries).map_err(io::Error::other)?;
    let table_clusters = u32::try_from(refcount_clusters).map_err(io::Error::other)?;

    let mut bytes = b"QFI\xfb".to_vec();
    let mut word = |value: u32| bytes.extend_from_slice(&value.to_be_bytes());
    word(3);
    // Backing file: offset (8 bytes) and length.
    [0, 0, 0].into_iter().for_each(&mut word);
    word(CLUSTER_BITS);
    bytes.extend_from_slice(&layout.size.to_be_bytes());
    // No encryption.
    bytes.extend_from_slice(&0u32.to_be_bytes());
    bytes.extend_from_slice(&l1_entries.to_be_bytes());
    bytes.extend_from_slice(&Layout::L1.to_be_bytes());
    bytes.extend_from_slice(&refcounts_at.to_be_bytes());
    bytes.extend_from_slice(&table_clusters.to_be_bytes());
    // No snapshots: number, offset.
    bytes.extend_from_slice(&[0; 12]);
    bytes.extend_from_slice(&INCOMPATIBLE_COMPRESSION_TYPE.to_be_bytes());
    // Compatible and autoclear features: none.
    bytes.extend_from_slice(&[0; 16]);
    bytes.extend_from_slice(&REFCOUNT_ORDER.to_be_bytes());
    bytes.extend_from_slice(&HEADER_LENGTH.to_be_bytes());
    // Compression type 1 is zstd; seven bytes of padding.
    bytes.extend_from_slice(&[1, 0, 0, 0, 0, 0, 0, 0]);
    Ok(bytes)
}

fn as_u64(n: usize) -> io::Result<u64> {
    u64::try_from(n).map_err(io::Error::other)
}

fn to_usize(n: u64) -> io::Result<usize> {
    usize::try_from(n).map_err(io::Error::other)
}

#[cfg(test)]
mod tests;
