//! The EFI loader's whole boot, but for the start itself, from disks of odd bytes.

use std::ops::Range;
use std::process::ExitCode;

use keelson_bootstate::layout::Partition;
use keelson_bootstate::{
    BootRecord, BuildId, HEADER_SIZE, RECORD_SIZE, SIGNED_SIZE, TRIES_SIZE, Tries,
};
use keelson_fuzz::signed::{self, PAYLOAD};
use keelson_fuzz::table::{self, SECTOR};
use keelson_fuzz_engine::Target;
use keelson_loader::boot::{Why, choose};
use keelson_loader::disk::{Disk, DiskError};

fn main() -> ExitCode {
    keelson_fuzz_engine::main(Target {
        run,
        seeds,
        longest: 1 + BOOT_LONGEST,
    })
}

fn run(bytes: &[u8]) {
    match keelson_fuzz::choose(bytes, 2) {
        (0, rest) => boot(rest),
        (_, rest) => boot_from_anything(rest),
    }
}

/// Pieces of a disk, in the order of an input: where on the disk, and how long.
const PIECES: [(usize, usize); 6] = [
    (BOOT_STATE, RECORD_SIZE),
    (BOOT_STATE + 64 * 1024, RECORD_SIZE),
    (TRIES, TRIES_SIZE),
    (BOOT_A, SIGNED_SIZE + 256),
    (BOOT_A + HEADER_SIZE, PAYLOAD),
    (BOOT_B, SIGNED_SIZE + 256),
];
const BOOT_STATE: usize = 64 * SECTOR;
const TRIES: usize = 200 * SECTOR;
const BOOT_A: usize = 208 * SECTOR;
const BOOT_B: usize = 224 * SECTOR;
const END: usize = 240 * SECTOR;

/// Bytes of an input that are all used.
const BOOT_LONGEST: usize = 2 * RECORD_SIZE + TRIES_SIZE + 2 * (SIGNED_SIZE + 256) + PAYLOAD;

/// A disk of bytes, which notes where it is written.
struct MemoryDisk {
    bytes: Vec<u8>,
    written: Vec<u64>,
}

/// A boot from a disk with a good table.
fn boot(bytes: &[u8]) {
    let mut disk = vec![0; END + SECTOR];
    let mut rest = bytes;
    for (at, len) in PIECES {
        let (piece, after) = rest.split_at(len.min(rest.len()));
        disk[at..at + piece.len()].copy_from_slice(piece);
        rest = after;
    }
    disk[BOOT_B + HEADER_SIZE..][..PAYLOAD].copy_from_slice(&signed::payload());
    disk[SECTOR..BOOT_STATE].copy_from_slice(&boot_table());
    let before = Tries::decode(&disk[TRIES..]);
    let mut disk = MemoryDisk {
        bytes: disk,
        written: Vec::new(),
    };
    let outcome = choose(&mut disk, &signed::trust()).unwrap_or_else(|error| panic!("{error}"));

    let after = Tries::decode(&disk.bytes[TRIES..]);
    match outcome.chosen {
        Some(chosen) => {
            // Only what was signed and hashes to it.
            assert_eq!(*chosen.verified.header(), signed::header());
            assert_eq!(chosen.verified.payload(), signed::payload());
            let counted = chosen.why == Why::Trial;
            assert_eq!(after != before, counted, "{:?}", chosen.why);
            assert!(!counted || after.used() == before.used() + 1);
            assert!(!outcome.report.to_variable(chosen.why).is_empty());
        }
        None => assert!(outcome.report.lines().count() >= 2),
    }
    let tries = u64::try_from(TRIES / SECTOR).unwrap_or_default();
    assert!(disk.written.iter().all(|sector| *sector == tries));
}

/// A boot from any bytes at all, with the checksums of a table made right.
fn boot_from_anything(bytes: &[u8]) {
    let mut sector: Vec<u8> = bytes.iter().copied().take(SECTOR).collect();
    sector.resize(SECTOR, 0);
    let entries = table::used(&sector, bytes.get(SECTOR..).unwrap_or_default());
    table::make_sound(&mut sector, &entries);
    let bytes = [&[0; SECTOR], &sector[..], &entries, bytes].concat();
    let mut disk = MemoryDisk {
        bytes,
        written: Vec::new(),
    };
    match choose(&mut disk, &signed::trust()) {
        Ok(outcome) => {
            let mut lengths = outcome.report.lines().map(|line| line.chars().count());
            assert!(lengths.all(|length| length <= 160));
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

impl Disk for MemoryDisk {
    fn sector_size(&self) -> usize {
        SECTOR
    }

    fn last_sector(&self) -> u64 {
        u64::try_from(self.bytes.len() / SECTOR).map_or(0, |count| count.saturating_sub(1))
    }

    fn read(&mut self, first: u64, into: &mut [u8]) -> Result<(), DiskError> {
        let failed = DiskError::Read {
            sector: first,
            status: 7,
        };
        let bytes = range(first, into.len()).and_then(|range| self.bytes.get(range));
        into.copy_from_slice(bytes.ok_or(failed)?);
        Ok(())
    }

    fn write(&mut self, first: u64, from: &[u8]) -> Result<(), DiskError> {
        self.written.push(first);
        let failed = DiskError::Write {
            sector: first,
            status: 7,
        };
        let bytes = range(first, from.len()).and_then(|range| self.bytes.get_mut(range));
        bytes.ok_or(failed)?.copy_from_slice(from);
        Ok(())
    }

    fn flush(&mut self) -> Result<(), DiskError> {
        Ok(())
    }
}

fn range(first: u64, len: usize) -> Option<Range<usize>> {
    let start = usize::try_from(first).ok()?.checked_mul(SECTOR)?;
    Some(start..start.checked_add(len)?)
}

/// The header sector and the entries of the disk of [`boot`], up to its first partition.
fn boot_table() -> Vec<u8> {
    let partitions = [
        (Partition::BootState, BOOT_STATE, TRIES),
        (Partition::Tries, TRIES, BOOT_A),
        (Partition::BootA, BOOT_A, BOOT_B),
        (Partition::BootB, BOOT_B, END),
    ];
    let mut entries = Vec::new();
    for (kind, start, end) in partitions {
        let mut entry = kind.type_guid().to_disk().to_vec();
        entry.extend([7; 16]);
        for lba in [start / SECTOR, end / SECTOR - 1, 0] {
            entry.extend(u64::try_from(lba).unwrap_or_default().to_le_bytes());
        }
        entry.extend(kind.name().encode_utf16().flat_map(u16::to_le_bytes));
        entry.resize(128, 0);
        entries.extend(entry);
    }
    let mut sector = table::seed()[..SECTOR].to_vec();
    // Last usable sector.
    sector[48..56].copy_from_slice(&200_u64.to_le_bytes());
    table::make_sound(&mut sector, &entries);
    let mut table = [sector, entries].concat();
    table.resize(BOOT_STATE - SECTOR, 0);
    table
}

fn seeds() -> Vec<Vec<u8>> {
    let build = BuildId::from_payload_hash(&[7; 32]);
    let record = BootRecord::fresh(build);
    let trial = record.successor().with_trial().encode();
    let record = record.encode();
    let tries = Tries::Used(1).encode();
    let page = signed::page();
    let page = &page.as_bytes()[..SIGNED_SIZE + 256];
    let payload = signed::payload();
    let disk = |parts: [&[u8]; 6]| [&[0], &parts.concat()[..]].concat();
    vec![
        disk([&record, &record, &tries, page, &payload, page]),
        disk([&trial, &record, &tries, page, &payload, page]),
        disk([&trial, &trial, &tries, &[], &[], page]),
        [&[1], &boot_table()[..2 * SECTOR]].concat(),
    ]
}
