//! The disk: cells with real bytes, and what a cut of power leaves of unflushed ones.

use std::collections::HashMap;

use keelson_bootstate::grub_env::{self, BLOCK_SIZE, GrubRecord, RECORD_OFFSET};
use keelson_bootstate::plan::Stored;
use keelson_bootstate::{
    BootRecord, BuildId, Copy, NoRecord, Slot, SlotHeader, SlotHeaderFields, SlotPage, Tries,
};

use crate::loader::Loader;

/// A sector.
type Bytes = [u8; 512];

/// Number of a content; equal numbers are equal bytes.
pub(crate) type Value = u16;

/// A place that is written in one go. Slots have five: the header with the signatures, GRUB's list
/// of hashes, GRUB's script, payload, root part. Of a place of many sectors that was written in
/// part, no checker sees more than that it is wrong, so garbage stands for all such contents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cell {
    Record(Copy),
    /// First or second sector of the text of a copy.
    Text(Copy, usize),
    Tries,
    /// First or second sector of GRUB's file.
    GrubTries(usize),
    Header(Slot),
    GrubHashes(Slot),
    GrubScript(Slot),
    Payload(Slot),
    Root(Slot),
}

pub(crate) const CELLS: usize = 19;

/// What is on the medium.
pub(crate) type Disk = [Value; CELLS];

/// Number of a build; its bytes are made from it.
pub(crate) type Build = u8;

/// Builds there are: one in each slot and one to install.
pub(crate) const BUILDS: Build = 3;

/// All contents seen so far, and what the real code says about them.
pub(crate) struct World {
    contents: Vec<Bytes>,
    values: HashMap<Bytes, Value>,
    records: Vec<Option<BootRecord>>,
    /// For a half of a text: which half, and the record it was made from.
    texts: HashMap<Value, (usize, BootRecord)>,
    tries: Vec<Tries>,
    /// The contents of all parts of all builds.
    parts: [[Value; BUILDS as usize]; 5],
    /// Of what part of which build a content is.
    builds: Vec<Option<(Part, Build)>>,
    newest_texts: HashMap<[Value; 4], Option<(GrubRecord, Copy)>>,
    grub_tries: HashMap<[Value; 2], Tries>,
    stored: HashMap<[Value; 6], Result<Stored, NoRecord>>,
    shifted: HashMap<(Value, u32), Value>,
}

/// A part of a build.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Part {
    Header,
    GrubHashes,
    GrubScript,
    Payload,
    Root,
}

impl Part {
    pub(crate) const ALL: [Self; 5] = [
        Self::Header,
        Self::GrubHashes,
        Self::GrubScript,
        Self::Payload,
        Self::Root,
    ];

    pub(crate) const fn of(self, slot: Slot) -> Cell {
        match self {
            Self::Header => Cell::Header(slot),
            Self::GrubHashes => Cell::GrubHashes(slot),
            Self::GrubScript => Cell::GrubScript(slot),
            Self::Payload => Cell::Payload(slot),
            Self::Root => Cell::Root(slot),
        }
    }
}

/// Zeros.
pub(crate) const BLANK: Value = 0;

/// Bytes that nobody ever wrote on purpose.
pub(crate) const GARBAGE: Value = 1;

impl Cell {
    pub(crate) const fn index(self) -> usize {
        match self {
            Self::Record(copy) => copy as usize,
            Self::Text(copy, half) => 2 + 2 * copy as usize + half,
            Self::Tries => 6,
            Self::GrubTries(half) => 7 + half,
            Self::Header(slot) => 9 + slot as usize,
            Self::GrubHashes(slot) => 11 + slot as usize,
            Self::GrubScript(slot) => 13 + slot as usize,
            Self::Payload(slot) => 15 + slot as usize,
            Self::Root(slot) => 17 + slot as usize,
        }
    }
}

impl World {
    pub(crate) fn new() -> Self {
        let mut world = Self {
            contents: Vec::new(),
            values: HashMap::new(),
            records: Vec::new(),
            texts: HashMap::new(),
            tries: Vec::new(),
            parts: [[BLANK; BUILDS as usize]; 5],
            builds: Vec::new(),
            newest_texts: HashMap::new(),
            grub_tries: HashMap::new(),
            stored: HashMap::new(),
            shifted: HashMap::new(),
        };
        assert_eq!(world.value(&[0; 512]), BLANK);
        let garbage = std::array::from_fn(|i| u8::try_from(i * 7 % 128 + 128).unwrap());
        assert_eq!(world.value(&garbage), GARBAGE);
        for build in 1..=BUILDS {
            for part in Part::ALL {
                let value = world.value(&part_bytes(part, build));
                world.parts[part as usize][usize::from(build) - 1] = value;
                world.builds[usize::from(value)] = Some((part, build));
            }
        }
        world
    }

    /// A disk as the imager makes it: build 1 in slot A.
    pub(crate) fn fresh_disk(&mut self, sequence: u32) -> Disk {
        let builds = [Some(build_id(1)), None];
        let record = BootRecord::new(sequence, None, Slot::A, builds).unwrap();
        let mut disk = [BLANK; CELLS];
        let mut writes = Vec::new();
        for copy in Copy::ALL {
            writes.push(self.record_write(copy, &record));
            writes.extend(self.text_writes(copy, &record));
        }
        writes.push(self.tries_write(Tries::FRESH));
        writes.extend(self.grub_tries_writes(Tries::FRESH));
        writes.extend(Part::ALL.map(|part| (part.of(Slot::A), self.part(part, 1))));
        for (cell, value) in writes {
            disk[cell.index()] = value;
        }
        disk
    }

    pub(crate) fn record_write(&mut self, copy: Copy, record: &BootRecord) -> (Cell, Value) {
        (Cell::Record(copy), self.value(&record.encode()))
    }

    pub(crate) fn text_writes(&mut self, copy: Copy, record: &BootRecord) -> [(Cell, Value); 2] {
        let block = GrubRecord::from(record).encode();
        [0, 1].map(|half| {
            let value = self.value(block[half * 512..][..512].try_into().unwrap());
            self.texts.insert(value, (half, *record));
            (Cell::Text(copy, half), value)
        })
    }

    pub(crate) fn tries_write(&mut self, tries: Tries) -> (Cell, Value) {
        (Cell::Tries, self.value(&tries.encode()))
    }

    pub(crate) fn grub_tries_writes(&mut self, tries: Tries) -> [(Cell, Value); 2] {
        let block = grub_env::encode_tries(tries);
        [0, 1].map(|half| {
            let value = self.value(block[half * 512..][..512].try_into().unwrap());
            (Cell::GrubTries(half), value)
        })
    }

    /// The content of a part of a build.
    pub(crate) fn part(&self, part: Part, build: Build) -> Value {
        self.parts[part as usize][usize::from(build) - 1]
    }

    /// The build whose part a cell holds.
    pub(crate) fn build_at(&self, disk: &Disk, slot: Slot, part: Part) -> Option<Build> {
        let value = disk[part.of(slot).index()];
        let (held, build) = self.builds[usize::from(value)]?;
        (held == part).then_some(build)
    }

    pub(crate) fn record(&self, disk: &Disk, copy: Copy) -> Option<BootRecord> {
        self.records[usize::from(disk[Cell::Record(copy).index()])]
    }

    pub(crate) fn tries(&self, disk: &Disk) -> Tries {
        self.tries[usize::from(disk[Cell::Tries.index()])]
    }

    pub(crate) fn grub_tries(&mut self, disk: &Disk) -> Tries {
        let key = [0, 1].map(|half| disk[Cell::GrubTries(half).index()]);
        if let Some(tries) = self.grub_tries.get(&key) {
            return *tries;
        }
        let tries = grub_env::decode_tries(&self.block(key));
        self.grub_tries.insert(key, tries);
        tries
    }

    /// The record that counts for GRUB.
    pub(crate) fn newest_text(&mut self, disk: &Disk) -> Option<(GrubRecord, Copy)> {
        let key = [0, 1, 2, 3].map(|n| disk[Cell::Text(Copy::ALL[n / 2], n % 2).index()]);
        if let Some(newest) = self.newest_texts.get(&key) {
            return *newest;
        }
        let [first, second] = [self.block([key[0], key[1]]), self.block([key[2], key[3]])];
        let newest = GrubRecord::newest([&first, &second]);
        self.newest_texts.insert(key, newest);
        newest
    }

    /// BOOTSTATE as the node reads it.
    pub(crate) fn stored(&mut self, disk: &Disk) -> Result<Stored, NoRecord> {
        let key: [Value; 6] = disk[..6].try_into().unwrap();
        if let Some(stored) = self.stored.get(&key) {
            return *stored;
        }
        let offset = usize::try_from(RECORD_OFFSET).unwrap();
        let copies = Copy::ALL.map(|copy| {
            let mut bytes = vec![0; offset + BLOCK_SIZE];
            let content = |cell: Cell| &self.contents[usize::from(disk[cell.index()])];
            bytes[..512].copy_from_slice(content(Cell::Record(copy)));
            for half in [0, 1] {
                bytes[offset + half * 512..][..512]
                    .copy_from_slice(content(Cell::Text(copy, half)));
            }
            bytes
        });
        let stored = Stored::read([&copies[0], &copies[1]]);
        self.stored.insert(key, stored);
        stored
    }

    /// The same disk as far as anybody can tell: without this, the search would never end.
    ///
    /// Which sequence a record has does not matter, only by how much others differ. Nor does it
    /// matter which build is which. A slot without a header is never looked into, and what belongs
    /// to the other loader is never read at all.
    pub(crate) fn plain(&mut self, disk: &Disk, loader: Loader) -> Disk {
        let mut plain = self.with_low_sequences(disk);
        for cell in loader.foreign() {
            plain[cell.index()] = BLANK;
        }
        for slot in Slot::ALL {
            if self.build_at(&plain, slot, loader.first_part()).is_none() {
                for part in Part::ALL {
                    plain[part.of(slot).index()] = GARBAGE;
                }
            }
        }
        self.with_builds_in_order(&mut plain);
        plain
    }

    fn with_low_sequences(&mut self, disk: &Disk) -> Disk {
        /// Above it, wrapping is under way.
        const HIGH: u32 = 1 << 30;
        let sequences = disk[..6].iter().filter_map(|value| {
            let record = self.records[usize::from(*value)];
            record.or(self.texts.get(value).map(|(_, record)| *record))
        });
        let (lowest, highest) = sequences.fold((u32::MAX, 0), |(low, high), record| {
            (low.min(record.sequence()), high.max(record.sequence()))
        });
        let by = if highest < HIGH { lowest - 1 } else { 0 };
        let mut low = *disk;
        for value in &mut low[..6] {
            *value = self.shifted(*value, by);
        }
        low
    }

    /// The same record or text with a lower sequence, and with one build for all: nobody decides by
    /// which build it is.
    fn shifted(&mut self, value: Value, by: u32) -> Value {
        if let Some(shifted) = self.shifted.get(&(value, by)) {
            return *shifted;
        }
        let lower = |record: &BootRecord| {
            let builds = Slot::ALL.map(|slot| record.build(slot).map(|_| build_id(1)));
            let sequence = record.sequence() - by;
            BootRecord::new(sequence, record.trial(), record.default_slot(), builds).unwrap()
        };
        let shifted = if let Some(record) = self.records[usize::from(value)] {
            self.value(&lower(&record).encode())
        } else if let Some((half, record)) = self.texts.get(&value).copied() {
            self.text_writes(Copy::First, &lower(&record))[half].1
        } else {
            value
        };
        self.shifted.insert((value, by), shifted);
        shifted
    }

    /// Numbers the builds in the order in which slots hold them.
    fn with_builds_in_order(&self, disk: &mut Disk) {
        let mut new_of = [0; BUILDS as usize + 1];
        let mut next = 1;
        for slot in Slot::ALL {
            for part in Part::ALL {
                let Some(build) = self.build_at(disk, slot, part) else {
                    continue;
                };
                let new = &mut new_of[usize::from(build)];
                if *new == 0 {
                    *new = next;
                    next += 1;
                }
                disk[part.of(slot).index()] = self.part(part, *new);
            }
        }
    }

    fn value(&mut self, bytes: &Bytes) -> Value {
        if let Some(value) = self.values.get(bytes) {
            return *value;
        }
        let value = Value::try_from(self.contents.len()).unwrap();
        self.contents.push(*bytes);
        self.values.insert(*bytes, value);
        self.records.push(BootRecord::decode(bytes).ok());
        self.tries.push(Tries::decode(bytes));
        self.builds.push(None);
        value
    }

    fn block(&self, halves: [Value; 2]) -> [u8; BLOCK_SIZE] {
        let halves = halves.map(|value| self.contents[usize::from(value)]);
        halves.concat().try_into().unwrap()
    }
}

/// All disks that a cut of power can leave: every cell that was written since the last flush holds
/// one of what it held before, what was written, and garbage.
pub(crate) fn cuts(disk: &Disk, unflushed: &[(Cell, Value)]) -> Vec<Disk> {
    let mut disks = vec![*disk];
    for (n, (cell, value)) in unflushed.iter().enumerate() {
        let index = cell.index();
        // A cell that was written before in this time has its old content and garbage already.
        let again = unflushed[..n].iter().any(|(earlier, _)| earlier == cell);
        let count = disks.len();
        for at in 0..count {
            let mut kept = disks[at];
            kept[index] = *value;
            disks.push(kept);
            if !again {
                let mut torn = disks[at];
                torn[index] = GARBAGE;
                disks.push(torn);
            }
        }
    }
    disks.sort_unstable();
    disks.dedup();
    disks
}

pub(crate) fn build_id(build: Build) -> BuildId {
    BuildId::from_payload_hash(&[build; 32])
}

fn part_bytes(part: Part, build: Build) -> Bytes {
    let header = SlotHeader::new(SlotHeaderFields {
        payload_len: 4096,
        sha256: [build; 32],
        root_len: 4096,
        root_sha256: [build; 32],
        version: &format!("{build}.0.0"),
    })
    .unwrap();
    if part == Part::Header {
        return SlotPage::new(&header).as_bytes()[..512].try_into().unwrap();
    }
    let mut bytes = [b' '; 512];
    let text = format!("{part:?} of build {build}");
    bytes[..text.len()].copy_from_slice(text.as_bytes());
    bytes
}
