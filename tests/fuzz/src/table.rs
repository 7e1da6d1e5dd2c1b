//! GUID partition tables for targets: chance never gets their checksums right.

/// Bytes of a sector.
pub const SECTOR: usize = 512;

/// Makes the checksums of a header right, for these entries.
pub fn make_sound(sector: &mut [u8], entries: &[u8]) {
    sector[88..92].copy_from_slice(&crc32fast::hash(entries).to_le_bytes());
    sector[16..20].fill(0);
    let size = usize::from(u16::from_le_bytes([sector[12], sector[13]])).min(SECTOR);
    let checksum = crc32fast::hash(&sector[..size]);
    sector[16..20].copy_from_slice(&checksum.to_le_bytes());
}

/// The entries, as long as the header says.
#[must_use]
pub fn used(sector: &[u8], entries: &[u8]) -> Vec<u8> {
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

/// A table with one partition of ours; its checksums are wrong.
#[must_use]
pub fn seed() -> Vec<u8> {
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
