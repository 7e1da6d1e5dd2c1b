//! What loader and stage 1 read from a disk: boot record, tries, slot headers, signatures, GRUB's
//! texts, partition tables.

use std::process::ExitCode;

use keelson_bootstate::gpt::Header;
use keelson_bootstate::grub_env::{self, BLOCK_SIZE, GrubRecord};
use keelson_bootstate::layout::Partition;
use keelson_bootstate::plan::{self, Stored};
use keelson_bootstate::signature::{Context, Signature, Trust};
use keelson_bootstate::{
    BootRecord, BuildId, HEADER_SIZE, MAX_PAYLOAD, MAX_ROOT, RECORD_SIZE, SIGNED_SIZE, Slot,
    SlotHeader, SlotPage, Tries, decide, newest_record,
};
use keelson_fuzz::signed;
use keelson_fuzz::table::{self, SECTOR};
use keelson_fuzz_engine::Target;

fn main() -> ExitCode {
    keelson_fuzz_engine::main(Target {
        run,
        seeds,
        longest: 1 + 2 * SECTOR,
    })
}

fn run(bytes: &[u8]) {
    match keelson_fuzz::choose(bytes, 6) {
        (0, rest) => records(rest),
        (1, rest) => slot_header(rest),
        (2, rest) => partitions(rest, false),
        (3, rest) => partitions(rest, true),
        (4, rest) => signatures(rest),
        (_, rest) => grub(rest),
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
        if let Ok(stored) = Stored::read([copy, bytes]) {
            plans(&stored);
        }
    }
}

/// Whatever is stored, there is a way on, and it never writes to the default slot.
fn plans(stored: &Stored) {
    let default = stored.record().default_slot();
    let (other, build) = (default.other(), BuildId::from_payload_hash(&[7; 32]));
    assert!(plan::install(stored, default).is_err());
    assert!(plan::start_trial(stored, default, build, true).is_err());
    assert!(plan::install(stored, other).is_ok_and(|plan| plan.count() > 0));
    assert!(plan::start_trial(stored, other, build, true).is_ok_and(|plan| plan.count() > 0));
    for step in plan::heal(stored).chain(plan::mark_good(stored, other)) {
        assert!(!step.to_string().is_empty());
    }
}

fn slot_header(bytes: &[u8]) {
    let mut page = bytes.to_vec();
    page.resize(HEADER_SIZE, 0);
    match SlotHeader::decode(&page) {
        Ok(header) => {
            assert!((1..=MAX_PAYLOAD).contains(&header.payload_len()));
            assert!((4096..=MAX_ROOT).contains(&header.root_len()));
            assert!(!header.version().as_str().is_empty());
            assert!(page.starts_with(&header.encode()));
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
    for signature in SlotPage::signatures(&page) {
        assert_eq!(Signature::decode(&signature.encode()), Some(signature));
    }
}

/// Trust files, and signatures of 128 bytes by nobody we know: but for the seed, none can count.
fn signatures(bytes: &[u8]) {
    if let Ok(trust) = Trust::decode(bytes) {
        assert_eq!(trust.encode().as_bytes(), bytes);
    }
    let mut page = bytes.to_vec();
    page.resize(HEADER_SIZE, 0);
    let signed = &page[..SIGNED_SIZE];
    let result = signed::trust().check(Context::SlotHeader, signed, SlotPage::signatures(&page));
    match result {
        Ok(_) => assert_eq!(*signed, signed::header().encode()),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

/// What GRUB reads, alone and behind the mark of its blocks.
fn grub(bytes: &[u8]) {
    let mut marked = [grub_env::MARK, bytes].concat();
    marked.resize(BLOCK_SIZE, b'#');
    for block in [bytes, &marked] {
        if let Some(record) = GrubRecord::decode(block) {
            assert_eq!(GrubRecord::decode(&record.encode()), Some(record));
            assert!(record.to_record().is_some(), "{record:?}");
        }
        let tries = grub_env::decode_tries(block);
        assert_eq!(
            grub_env::decode_tries(&grub_env::encode_tries(tries)).used(),
            tries.used()
        );
        let found = grub_env::find(block);
        assert!(found.is_none_or(|at| block[at..].starts_with(grub_env::MARK)));
        let _ = plan::rebuild(Slot::B, None, [block, bytes]).count();
    }
}

/// A header and, after its sector, entries. With `sound`, their checksums are made right: chance
/// would never get past them.
fn partitions(bytes: &[u8], sound: bool) {
    let mut sector = bytes
        .get(..SECTOR.min(bytes.len()))
        .unwrap_or_default()
        .to_vec();
    sector.resize(SECTOR, 0);
    let entries = table::used(&sector, bytes.get(SECTOR..).unwrap_or_default());
    if sound {
        table::make_sound(&mut sector, &entries);
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

fn seeds() -> Vec<Vec<u8>> {
    let build = BuildId::from_payload_hash(&[7; 32]);
    let record = BootRecord::fresh(build).encode();
    let trial = BootRecord::new(9, Some(Slot::B), Slot::A, [Some(build); 2]);
    let trial = trial.map_or(record, |trial| trial.encode());
    let half = |record: &[u8; RECORD_SIZE]| record[..RECORD_SIZE / 2].to_vec();
    let tries = Tries::Used(1).encode();
    let with_tries = [half(&trial), tries.to_vec()].concat();
    let page = signed::page();
    let page = &page.as_bytes()[..SIGNED_SIZE + 256];
    let text = BootRecord::decode(&trial)
        .map_or([0; BLOCK_SIZE], |record| GrubRecord::from(&record).encode());
    let grub_tries = grub_env::encode_tries(Tries::Used(2));
    let seed = |choice: u8, bytes: &[u8]| [&[choice], bytes].concat();
    vec![
        seed(0, &record),
        seed(0, &half(&record)),
        seed(0, &with_tries),
        seed(1, page),
        seed(2, &table::seed()),
        seed(3, &table::seed()),
        seed(4, page),
        seed(4, signed::trust().encode().as_bytes()),
        seed(5, &text[grub_env::MARK.len()..]),
        seed(5, &grub_tries),
    ]
}
