//! What loader and stage 1 read from a disk: boot record, tries, slot headers, partition tables.

use std::process::ExitCode;

use keelson_bootstate::gpt::Header;
use keelson_bootstate::layout::Partition;
use keelson_bootstate::{
    BootRecord, BuildId, HEADER_SIZE, MAX_PAYLOAD, RECORD_SIZE, Slot, SlotHeader, Tries, decide,
    newest_record,
};
use keelson_fuzz_engine::Target;

fn main() -> ExitCode {
    keelson_fuzz_engine::main(Target {
        run,
        seeds,
        longest: 1 + SECTOR + 4 * 128,
    })
}

const SECTOR: usize = 512;

fn run(bytes: &[u8]) {
    match keelson_fuzz::choose(bytes, 4) {
        (0, rest) => records(rest),
        (1, rest) => slot_header(rest),
        (2, rest) => table(rest, false),
        (_, rest) => table(rest, true),
    }
}

/// Record and tries, and what follows from them.
fn records(bytes: &[u8]) {
    let tries = Tries::decode(bytes.get(RECORD_SIZE / 2..).unwrap_or_default());
    let mut half = bytes.to_vec();
    half.resize(RECORD_SIZE / 2, 0);
    for copy in [bytes, &half.repeat(2)] {
        if let Ok(record) = BootRecord::decode(copy) {
            assert!(copy.starts_with(&record.encode()), "{record:?}");
        }
        let newest = newest_record(copy, bytes);
        let decision = decide(newest.as_ref().ok().map(|(record, _)| record), tries);
        let [first, second] = decision.order();
        assert_ne!(first, second, "{decision:?}");
        let _ = format!("{newest:?} {decision:?}");
    }
}

fn slot_header(bytes: &[u8]) {
    let mut sector = bytes.to_vec();
    sector.resize(HEADER_SIZE, 0);
    match SlotHeader::decode(&sector) {
        Ok(header) => {
            assert!((1..=MAX_PAYLOAD).contains(&header.payload_len()));
            assert_eq!(SlotHeader::decode(&header.encode()), Ok(header));
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

/// A header and, after its sector, entries. With `sound`, their checksums are made right: chance
/// would never get past them.
fn table(bytes: &[u8], sound: bool) {
    let mut sector = bytes
        .get(..SECTOR.min(bytes.len()))
        .unwrap_or_default()
        .to_vec();
    sector.resize(SECTOR, 0);
    let entries = used(&sector, bytes.get(SECTOR..).unwrap_or_default());
    if sound {
        sector[88..92].copy_from_slice(&crc32fast::hash(&entries).to_le_bytes());
        sector[16..20].fill(0);
        let size = usize::from(u16::from_le_bytes([sector[12], sector[13]])).min(SECTOR);
        let checksum = crc32fast::hash(&sector[..size]);
        sector[16..20].copy_from_slice(&checksum.to_le_bytes());
    }
    let Ok(header) = Header::parse(&sector, 1) else {
        return;
    };
    let Ok(found) = header.entries(&entries) else {
        return;
    };
    for entry in found {
        assert!(entry.sectors() >= 1, "{entry:?}");
        assert!(entry.first_lba() <= entry.last_lba(), "{entry:?}");
        let _ = (entry.is(Partition::BootA), entry.name().count());
    }
}

/// The entries, as long as the header says.
fn used(sector: &[u8], entries: &[u8]) -> Vec<u8> {
    let word = |at: usize| {
        sector
            .get(at..at + 4)
            .and_then(|bytes| <[u8; 4]>::try_from(bytes).ok())
            .and_then(|bytes| usize::try_from(u32::from_le_bytes(bytes)).ok())
            .unwrap_or_default()
    };
    // No table of any disk is longer than half a mebibyte.
    let length = word(80).saturating_mul(word(84)).min(512 * 1024);
    let mut bytes = entries.to_vec();
    bytes.resize(length, 0);
    bytes
}

fn seeds() -> Vec<Vec<u8>> {
    let build = BuildId::from_payload_hash(&[7; 32]);
    let record = BootRecord::fresh(build).encode();
    let trial = BootRecord::new(9, Some(Slot::B), Slot::A, [Some(build); 2]);
    let trial = trial.map_or(record, |trial| trial.encode());
    let half = |record: &[u8; RECORD_SIZE]| record[..RECORD_SIZE / 2].to_vec();
    let with_tries = [half(&trial), Tries::Used(1).encode().to_vec()].concat();
    let header = SlotHeader::new(1 << 20, [3; 32]).map_or([0; HEADER_SIZE], |slot| slot.encode());
    let seed = |choice: u8, bytes: &[u8]| [&[choice], bytes].concat();
    vec![
        seed(0, &record),
        seed(0, &half(&record)),
        seed(0, &with_tries),
        seed(1, &header[..64]),
        seed(2, &table_seed()),
        seed(3, &table_seed()),
    ]
}

/// A table with one partition of ours; the checksums are made by [`table`].
fn table_seed() -> Vec<u8> {
    let mut sector = vec![0; SECTOR];
    let mut put = |at: usize, bytes: &[u8]| sector[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, b"EFI PART");
    put(10, &[1, 0, 92]);
    for (at, lba) in [(24, 1), (32, 2047), (40, 34), (48, 2014), (72, 2)] {
        put(at, &u64::to_le_bytes(lba));
    }
    put(80, &4_u32.to_le_bytes());
    put(84, &128_u32.to_le_bytes());
    let mut entry = vec![0xa5; 32];
    for lba in [64_u64, 128, 0] {
        entry.extend(lba.to_le_bytes());
    }
    entry.extend("BOOT-A".encode_utf16().flat_map(u16::to_le_bytes));
    entry.resize(128, 0);
    [sector, entry].concat()
}
